//! Tables of features and failures have their tests in `docs/proofs.md`, in rows of the same
//! titles.

use std::collections::BTreeSet;

use crate::{missing, read, tests_in};

/// Returns the section of a page below this heading of the second level.
pub(crate) fn section<'a>(document: &'a str, heading: &str) -> &'a str {
    let parts: Vec<&str> = document.split(&format!("\n## {heading}\n")).collect();
    assert_eq!(parts.len(), 2, "not exactly one section {heading}");
    parts[1].split("\n## ").next().unwrap()
}

/// Returns the rows of the only table with this header, as their two cells.
pub(crate) fn rows<'a>(text: &'a str, header: &str) -> Vec<(&'a str, &'a str)> {
    let count = text.lines().filter(|line| *line == header).count();
    assert_eq!(count, 1, "not exactly one table {header}");
    let lines = text.lines().skip_while(|line| *line != header).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.map(two_cells).collect()
}

/// Returns the cells of a row that has two.
pub(crate) fn two_cells(line: &str) -> (&str, &str) {
    let row = line
        .strip_prefix('|')
        .and_then(|line| line.strip_suffix('|'));
    let cells: Vec<&str> = row.unwrap_or(line).split('|').map(str::trim).collect();
    match cells.as_slice() {
        [title, cell] => (title, cell),
        _ => panic!("not two cells: {line}"),
    }
}

/// Returns what is wrong with the proofs of rows with these titles: each title needs one row, in
/// the same order, which names tests that exist and nothing else.
pub(crate) fn faults(titles: &[&str], proofs: &[(&str, &str)]) -> Vec<String> {
    let mut wrong = Vec::new();
    let unique: BTreeSet<_> = titles.iter().collect();
    if unique.len() != titles.len() {
        wrong.push("a title is there twice".to_owned());
    }
    let proved: Vec<&str> = proofs.iter().map(|(title, _)| *title).collect();
    for title in titles.iter().filter(|title| !proved.contains(title)) {
        wrong.push(format!("{title}: no row of proofs"));
    }
    for title in proved.iter().filter(|title| !titles.contains(title)) {
        wrong.push(format!("{title}: proofs of a row that does not exist"));
    }
    if wrong.is_empty() && proved != titles {
        wrong.push("the proofs have another order, or a row twice".to_owned());
    }
    for (title, cell) in proofs {
        let tests = tests_in(cell);
        let others: String = cell.split('`').step_by(2).collect();
        if tests.is_empty() || !others.trim().is_empty() {
            wrong.push(format!(
                "{title}: must name tests and nothing else ({cell})"
            ));
        } else if tests.len() != cell.split('`').skip(1).step_by(2).count() {
            wrong.push(format!("{title}: not a test as `file::name` ({cell})"));
        }
        wrong.extend(missing(title, &tests));
    }
    wrong
}

#[test]
fn every_failure_of_the_store_has_proofs() {
    let (storage, proofs) = (read("docs/storage.md"), read("docs/proofs.md"));
    let failures = rows(&storage, "| failure | behaviour of the server |");
    assert!(failures.len() > 8, "{failures:?}");
    let titles: Vec<&str> = failures.iter().map(|(title, _)| *title).collect();
    let proofs = rows(section(&proofs, "Storage"), "| failure | tests |");
    let wrong = faults(&titles, &proofs);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn pages_link_to_their_proofs_and_name_no_tests() {
    for page in [
        "docs/parity.md",
        "docs/rotation.md",
        "docs/security.md",
        "docs/storage.md",
    ] {
        let document = read(page);
        let mut named = tests_in(&document);
        // Items of the library have the same form.
        named.retain(|(file, _)| file.contains('/'));
        assert_eq!(named, [], "{page}");
        assert!(document.contains("](proofs.md#"), "{page} has no link");
    }
}

#[test]
fn rows_are_those_of_one_table_in_one_section() {
    let document = "\n## A\n\n| t | tests |\n|---|---|\n| x | 1 |\n| `y`, z | 2 |\n\n| u | v |\n\
        |---|---|\n| w | 3 |\n\n## B\n\n| t | tests |\n|---|---|\n| v | 4 |\n";
    let expected = [("x", "1"), ("`y`, z", "2")];
    assert_eq!(rows(section(document, "A"), "| t | tests |"), expected);
    assert_eq!(rows(section(document, "B"), "| t | tests |"), [("v", "4")]);
}

#[test]
fn missing_surplus_and_incomplete_proofs_are_found() {
    let this = "`tests/documents/proofs.rs::every_failure_of_the_store_has_proofs`";
    let both = format!("{this} {this}");
    let proofs = [("a", this), ("b", both.as_str())];
    assert_eq!(faults(&["a", "b"], &proofs), Vec::<String>::new());
    let named = |cell: &str| faults(&["a"], &[("a", cell)]);
    for cell in [
        "",
        "soon",
        "`tests/documents/proofs.rs`",
        "`tests/documents/proofs.rs::faults`",
        "`tests/documents/none.rs::every_failure_of_the_store_has_proofs`",
        &format!("{this} and others"),
        &format!("{this} `others`"),
    ] {
        assert!(!named(cell).is_empty(), "{cell}");
    }
    for titles in [
        vec!["a"],
        vec!["b", "a"],
        vec!["a", "b", "c"],
        vec!["a", "a", "b"],
    ] {
        assert!(!faults(&titles, &proofs).is_empty(), "{titles:?}");
    }
    let doubled = [("a", this), ("a", this)];
    assert!(!faults(&["a"], &doubled).is_empty());
}
