//! Each numbered row of `docs/delivery.md`, `docs/client.md` and `docs/rotation.md` has a row in
//! `docs/proofs.md`, which names tests that exist.

use std::{fs, path::Path};

use crate::{named::has_test, proofs::section, read};

/// The files of all tests that the page may name.
struct Tests(Vec<(String, String)>);

impl Tests {
    fn read() -> Self {
        let root = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut files = Vec::new();
        let mut folders = ["tests", "server/src/service/chat/sequencer", "src/engine"]
            .map(|folder| root.join(folder))
            .to_vec();
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.ends_with("node_modules") {
                    folders.push(path);
                } else if path
                    .extension()
                    .is_some_and(|end| end == "rs" || end == "mjs")
                {
                    let shown = path.strip_prefix(root).unwrap().to_str().unwrap();
                    files.push((shown.to_owned(), fs::read_to_string(&path).unwrap()));
                }
            }
        }
        assert!(files.len() > 100, "{} files", files.len());
        Self(files)
    }

    /// Returns whether a test in Rust has this name.
    fn has_function(&self, name: &str) -> bool {
        self.has(".rs", name)
    }

    /// Returns whether a test in JavaScript has this part in its title.
    fn has_title(&self, part: &str) -> bool {
        self.has(".mjs", part)
    }

    fn has(&self, end: &str, name: &str) -> bool {
        let mut files = self.0.iter().filter(|(path, _)| path.ends_with(end));
        files.any(|(path, source)| has_test(path, source, name))
    }

    /// Returns what is wrong with the last cell of a row: it must name a test, and each name, title
    /// and path in it must exist.
    fn fault(&self, row: &str) -> Option<String> {
        let evidence = row.trim_end_matches(" |").rsplit(" | ").next()?;
        let mut tests = 0;
        for (n, part) in evidence.split('"').enumerate() {
            if n % 2 == 1 {
                for title in title_parts(part) {
                    if !self.has_title(title) {
                        return Some(format!("no test has the title {title:?}"));
                    }
                    tests += 1;
                }
                continue;
            }
            for item in part.split('`').skip(1).step_by(2) {
                let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(item);
                if self.has_function(item) {
                    tests += 1;
                } else if item.contains('/') && !path.exists() {
                    return Some(format!("there is no `{item}`"));
                } else if !item.contains('/') && item.contains('_') {
                    return Some(format!("`{item}` is no test"));
                }
            }
        }
        (tests == 0).then(|| "no test".to_owned())
    }
}

/// Splits a title at its omissions.
fn title_parts(title: &str) -> impl Iterator<Item = &str> {
    let parts = title.split('…').map(str::trim);
    parts.filter(|part| !part.is_empty())
}

/// Returns the section of the proofs of delivery.
fn proofs() -> String {
    section(&read("docs/proofs.md"), "Delivery").to_owned()
}

/// Returns the promises, which also name tests, and their proofs.
fn page() -> String {
    read("docs/delivery.md") + &proofs()
}

/// Returns the numbers of rows of tables whose numbers begin with this letter.
fn numbers(text: &str, letter: char) -> Vec<&str> {
    let rows = text.lines().filter_map(|line| line.strip_prefix("| "));
    let numbers = rows.map(|row| row.split(' ').next().unwrap());
    let is_number = |name: &&str| {
        let rest = name.strip_prefix(letter).unwrap_or_default();
        !rest.is_empty() && rest.chars().all(|c| c.is_ascii_digit())
    };
    numbers.filter(is_number).collect()
}

#[test]
fn every_promise_has_one_row_of_proofs() {
    let proofs = read("docs/proofs.md");
    for (page, letter, least) in [
        ("docs/delivery.md", 'D', 100),
        ("docs/client.md", 'K', 15),
        ("docs/rotation.md", 'R', 15),
    ] {
        let promises = read(page);
        let numbers = [numbers(&promises, letter), numbers(&proofs, letter)];
        assert!(numbers[0].len() > least, "{page}: {numbers:?}");
        assert_eq!(numbers[0], numbers[1], "{page}");
    }
}

#[test]
fn every_cited_function_is_a_test() {
    let (page, tests) = (page(), Tests::read());
    let is_name = |part: &&str| {
        // Metrics have similar names.
        !part.starts_with("roomcast_")
            && part.matches('_').count() >= 3
            && part
                .chars()
                .all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    let named: Vec<&str> = page.split('`').filter(is_name).collect();
    assert!(named.len() > 30, "{} names found", named.len());
    for name in named {
        assert!(tests.has_function(name), "there is no test {name}");
    }
}

#[test]
fn every_title_that_is_quoted_belongs_to_a_test() {
    let (page, tests) = (page(), Tests::read());
    let page = page.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut quoted = 0;
    for line in page.split(['|', '(']).map(str::trim) {
        let cites = [
            "JR ", "JD ", "JO ", "JS ", "JN ", "JT ", "JB ", "JG ", "JP ",
        ]
        .iter()
        .any(|suite| line.contains(suite));
        for title in line.split('"').skip(1).step_by(2).filter(|_| cites) {
            quoted += 1;
            for part in title_parts(title) {
                assert!(tests.has_title(part), "there is no test {title:?}");
            }
        }
    }
    assert!(quoted > 10, "{quoted} titles found");
}

#[test]
fn every_row_names_tests_that_exist() {
    let (page, tests) = (proofs(), Tests::read());
    let rows = page.lines().filter(|line| line.starts_with("| D"));
    let mut count = 0;
    let mut wrong = Vec::new();
    for row in rows {
        count += 1;
        wrong.extend(tests.fault(row).map(|fault| format!("{fault}: {row}")));
    }
    assert!(count > 100, "{count} rows");
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn rows_without_a_test_are_found() {
    let file = |path: &str, source: &str| (path.to_owned(), source.to_owned());
    let tests = Tests(vec![
        file(
            "tests/layers.rs",
            "#[test]\nfn it_works() {}\nfn helper() {}\n",
        ),
        file(
            "tests/a.test.mjs",
            "// a note\ntest(\"goes on, twice\", () => {});\n",
        ),
    ]);
    for evidence in [
        "`it_works`",
        "`tests/layers.rs` `it_works`",
        "JR \"goes on …\"",
        "\"… twice\", `it_works`",
        "\"goes … twice\"",
    ] {
        assert_eq!(tests.fault(&format!("| a | {evidence} |")), None);
    }
    for evidence in [
        "",
        "soon",
        "`helper`",
        "`it_works`, `it_does_not`",
        "`tests/layers.rs`",
        "`tests/none.rs` `it_works`",
        "\"a note\"",
        "\"goes on … thrice\"",
        "`lastSeq`",
    ] {
        let fault = tests.fault(&format!("| a | {evidence} |"));
        assert!(fault.is_some(), "{evidence}");
    }
}
