//! Every promise in `docs/delivery.md` names tests that exist.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{fs, path::Path};

/// All tests that the page may name, as one text.
fn tests() -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut all = String::new();
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
                all += &fs::read_to_string(path).unwrap();
            }
        }
    }
    all
}

fn page() -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/delivery.md")).unwrap()
}

#[test]
fn every_function_that_is_named_as_a_test_is_one() {
    let (page, tests) = (page(), tests());
    let is_name = |part: &&str| {
        // Metrics have names like this too.
        !part.starts_with("roomcast_")
            && part.matches('_').count() >= 3
            && part
                .chars()
                .all(|c| c == '_' || c.is_ascii_lowercase() || c.is_ascii_digit())
    };
    let named: Vec<&str> = page.split('`').filter(is_name).collect();
    assert!(named.len() > 30, "{} names found", named.len());
    for name in named {
        assert!(
            tests.contains(&format!("fn {name}(")),
            "there is no test {name}"
        );
    }
}

#[test]
fn every_title_that_is_quoted_belongs_to_a_test() {
    let (page, tests) = (page(), tests());
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
            for part in title
                .split('…')
                .map(str::trim)
                .filter(|part| !part.is_empty())
            {
                assert!(tests.contains(part), "there is no test {title:?}");
            }
        }
    }
    assert!(quoted > 10, "{quoted} titles found");
}

#[test]
fn every_row_names_a_test() {
    let page = page();
    let rows = page
        .lines()
        .filter(|line| line.starts_with("| ") && !line.starts_with("| sentence"));
    for row in rows {
        let evidence = row.trim_end_matches(" |").rsplit(" | ").next().unwrap();
        assert!(
            evidence.contains('`') || evidence.contains('"'),
            "no test: {row}"
        );
    }
}
