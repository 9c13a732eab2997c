//! The pages in `docs` as a site: `SUMMARY.md` lists all of them, links lead somewhere, symptoms
//! have their parts, and programs of the tutorials are those of `examples`.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    io::Write as _,
    path::{Component, Path, PathBuf},
    process::{Command, Stdio},
};

use crate::read;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// Returns the paths of all pages in `docs`, relative to the project.
pub(crate) fn pages() -> Vec<String> {
    let mut pages = Vec::new();
    let mut folders = vec![root().join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                let page = path.strip_prefix(root()).unwrap();
                pages.push(page.to_str().unwrap().to_owned());
            }
        }
    }
    pages.sort();
    assert!(pages.len() > 40, "{pages:?}");
    pages
}

/// Returns the lines outside of code blocks.
fn prose(text: &str) -> Vec<&str> {
    let mut is_code = false;
    let mut lines = Vec::new();
    for line in text.lines() {
        if line.trim_start().starts_with("```") {
            is_code = !is_code;
        } else if !is_code {
            lines.push(line);
        }
    }
    lines
}

/// Returns the targets of the links of a line.
fn links(line: &str) -> impl Iterator<Item = &str> {
    let parts = line.split("](").skip(1);
    parts.filter_map(|part| Some(part.split_once(')')?.0))
}

/// Returns the anchors of a page, as GitHub and mdBook derive them from headings.
fn anchors(text: &str) -> BTreeSet<String> {
    let mut used: BTreeMap<String, usize> = BTreeMap::new();
    let mut anchors = BTreeSet::new();
    for line in prose(text) {
        let title = line.trim_start_matches('#');
        if title.len() == line.len() || !title.starts_with(' ') {
            continue;
        }
        let slug: String = title
            .trim()
            .to_lowercase()
            .chars()
            .filter(|c| c.is_alphanumeric() || matches!(c, '-' | '_' | ' '))
            .map(|c| if c == ' ' { '-' } else { c })
            .collect();
        let count = used.entry(slug.clone()).or_default();
        anchors.insert(match *count {
            0 => slug,
            n => format!("{slug}-{n}"),
        });
        *count += 1;
    }
    anchors
}

/// Returns a path without `.` and `..`.
fn normal(path: &Path) -> PathBuf {
    let mut parts = PathBuf::new();
    for part in path.components() {
        match part {
            Component::ParentDir => assert!(parts.pop(), "{}", path.display()),
            Component::CurDir => {}
            part @ (Component::Prefix(_) | Component::RootDir | Component::Normal(_)) => {
                parts.push(part)
            }
        }
    }
    parts
}

#[test]
fn index_lists_every_page_once() {
    let index = read("docs/SUMMARY.md");
    let listed: Vec<_> = index.lines().flat_map(links).collect();
    let set: BTreeSet<_> = listed.iter().map(|page| format!("docs/{page}")).collect();
    assert_eq!(set.len(), listed.len(), "a page is listed twice");
    let all = pages().into_iter().filter(|page| page != "docs/SUMMARY.md");
    assert_eq!(set, all.collect::<BTreeSet<_>>());
}

#[test]
fn index_calls_each_page_by_its_title() {
    let index = read("docs/SUMMARY.md");
    let entries = index.lines().filter_map(|line| {
        let (title, page) = line.split_once('[')?.1.split_once("](")?;
        Some((title, page.split_once(')')?.0))
    });
    let mut compared = 0;
    for (listed, page) in entries {
        let text = read(&format!("docs/{page}"));
        // The guide is the documentation of the crate, which has no title of its own.
        if page == "guide.md" {
            continue;
        }
        let title = text.strip_prefix("# ").unwrap().lines().next().unwrap();
        assert_eq!(title.replace('`', ""), listed, "{page}");
        compared += 1;
    }
    assert!(compared > 40, "{compared}");
}

#[test]
fn links_of_all_pages_lead_to_files_and_headings() {
    let mut wrong = Vec::new();
    let others = ["README.md", "CHANGELOG.md", "benches/README.md"].map(str::to_owned);
    for page in pages().into_iter().chain(others) {
        for (target, file) in linked_files(&page) {
            let anchor = target.split_once('#').map_or("", |(_, anchor)| anchor);
            if !root().join(&file).exists() {
                wrong.push(format!("{page}: {target} does not exist"));
            } else if !anchor.is_empty() && file.extension().is_some_and(|end| end == "md") {
                let found = anchors(&read(file.to_str().unwrap()));
                if !found.contains(anchor) {
                    wrong.push(format!("{page}: {target} has no such heading"));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// Returns the links of a page to files of the project, and these files.
fn linked_files(page: &str) -> Vec<(String, PathBuf)> {
    let folder = Path::new(page).parent().unwrap();
    let text = read(page);
    let targets = prose(&text).into_iter().flat_map(links);
    // Items of the library are links of rustdoc.
    let is_file = |target: &&str| {
        target.contains(['.', '/', '#']) && !target.contains("::") && !target.contains("://")
    };
    let file = |target: &str| match target.split('#').next() {
        None | Some("") => PathBuf::from(page),
        Some(path) => normal(&folder.join(path)),
    };
    let files = targets.filter(is_file);
    files
        .map(|target| (target.to_owned(), file(target)))
        .collect()
}

/// In the package, the pages are beside these pages as in the source.
#[test]
fn package_has_the_pages_outside_docs_that_its_pages_link() {
    let manifest = read("server/Cargo.toml");
    let mut linked = BTreeSet::new();
    for page in pages() {
        linked.extend(linked_files(&page).into_iter().map(|(_, file)| file));
    }
    linked.retain(|file| {
        file.extension().is_some_and(|end| end == "md") && !file.starts_with("docs")
    });
    assert!(linked.len() > 1, "{linked:?}");
    for page in linked {
        let folder = page.parent().unwrap().to_str().unwrap();
        let place = Path::new("usr/share/doc/roomcast").join(folder);
        let place = place.to_str().unwrap().trim_end_matches('/');
        let asset = format!("[\"../{}\", \"{place}/\", \"644\"]", page.display());
        assert!(manifest.contains(&asset), "{asset}");
    }
}

/// The links to other sites. No test opens them: open each before a release.
const EXTERNAL: [&str; 5] = [
    "https://docs.rs/roomcast/latest/roomcast/adapter/struct.Secrets.html",
    "https://docs.rs/roomcast/latest/roomcast/struct.Socket.html#method.share",
    "https://node-postgres.com",
    "https://socket.io/docs/v4/admin-ui/",
    "https://www.w3.org/TR/trace-context/",
];

#[test]
fn links_to_other_sites_are_listed_and_use_https() {
    let mut found = BTreeSet::new();
    let others = ["README.md", "SECURITY.md", "benches/README.md"].map(str::to_owned);
    for page in pages().into_iter().chain(others) {
        let text = read(&page);
        for line in prose(&text) {
            let external = links(line).filter(|target| target.contains("://"));
            found.extend(external.map(str::to_owned));
        }
    }
    assert_eq!(found, EXTERNAL.map(str::to_owned).into());
    let is_secure = |link: &&str| link.starts_with("https://") && !link.contains("localhost");
    assert!(EXTERNAL.iter().all(is_secure), "{EXTERNAL:?}");
    let sites: BTreeSet<_> = EXTERNAL
        .iter()
        .map(|link| link.trim_end_matches('/'))
        .collect();
    assert_eq!(sites.len(), EXTERNAL.len(), "two forms of one link");
}

#[test]
fn anchors_are_those_of_headings_outside_of_code() {
    let text = "# A b\n\n```sh\n# not this\n```\n## `x.y`, and Z?\n### A b\n#no\n";
    let expected = ["a-b", "a-b-1", "xy-and-z"].map(str::to_owned);
    assert_eq!(anchors(text), BTreeSet::from(expected));
}

#[test]
fn programs_of_tutorials_are_the_examples() {
    for (page, example) in [
        ("docs/tutorials/from-node.md", "examples/from_node.rs"),
        ("docs/tutorials/axum.md", "examples/beside_axum.rs"),
    ] {
        let page = read(page);
        let block = page.split("```rust\n").nth(1).unwrap();
        let program = block.split("```").next().unwrap();
        assert!(
            read(example).ends_with(program),
            "{example} is not in the tutorial"
        );
    }
}

#[test]
fn lines_of_the_tutorial_about_a_coach_are_those_of_the_example() {
    let (page, example) = (
        read("docs/tutorials/ai-coach.md"),
        read("examples/coach/coach.py"),
    );
    let known: Vec<&str> = example.lines().map(str::trim).collect();
    let blocks = page.split("```python\n").skip(1);
    let lines = blocks.flat_map(|block| block.split("```").next().unwrap().lines());
    let lines: Vec<&str> = lines.map(str::trim).collect();
    assert!(lines.len() > 10, "{lines:?}");
    for line in lines {
        assert!(known.contains(&line), "{line} is not in the example");
    }
}

#[test]
fn rows_in_the_page_of_architecture_are_those_of_the_source() {
    let page = read("docs/architecture.md");
    for (macro_name, file) in [
        ("events!", "server/src/service/rules/commands/history.rs"),
        (
            "emissions!",
            "server/src/service/rules/emissions/messages.rs",
        ),
    ] {
        let excerpt = page.split(&format!("\n{macro_name} {{")).nth(1).unwrap();
        let (_, rows) = excerpt.split_once('\n').unwrap();
        let (rows, _) = rows.split_once("\n}\n").unwrap();
        assert!(rows.contains("event: \""), "{rows}");
        assert!(read(file).contains(rows), "{file} does not contain\n{rows}");
    }
}

#[test]
fn changes_of_the_tutorial_apply_to_the_sources() {
    let page = read("docs/tutorials/own-event.md");
    let blocks = page.split("\n```diff\n").skip(1);
    let changes: String = blocks
        .map(|block| block.split("```").next().unwrap())
        .collect();
    assert_eq!(changes.matches("\n+++ b/").count(), 8, "{changes}");
    let mut git = Command::new("git")
        .args(["apply", "--check", "--verbose", "-"])
        .current_dir(root())
        .stdin(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    git.stdin
        .take()
        .unwrap()
        .write_all(changes.as_bytes())
        .unwrap();
    let output = git.wait_with_output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
}
