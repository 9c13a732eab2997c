//! The tables of attacks, rights and rotated keys in `docs` have a test for each row, and each
//! named test exists.

use crate::proofs::{faults, rows as table, section};
use crate::{missing, read, tests_in};

/// The letters of rows of `docs/proofs.md`, and how many rows of each letter there are.
const ROWS: &[(&str, usize)] = &[("A", 25), ("B", 14), ("F", 12), ("R", 16)];

/// A row of a table, and the file and name of each test that it names.
#[derive(Debug, PartialEq)]
struct Row<'a> {
    id: &'a str,
    tests: Vec<(&'a str, &'a str)>,
}

#[test]
fn every_row_of_a_table_of_attacks_names_tests_that_exist() {
    let document = read("docs/proofs.md");
    let rows = rows(&document);
    let mut wrong = Vec::new();
    for row in &rows {
        wrong.extend(missing(row.id, &row.tests));
    }
    for (letter, count) in ROWS {
        for number in 1..=*count {
            let id = format!("{letter}{number}");
            let mut named = rows.iter().filter(|row| row.id == id);
            if !named.any(|row| !row.tests.is_empty()) {
                wrong.push(format!("no test for {id}"));
            }
        }
        let next = format!("{letter}{}", count + 1);
        if rows.iter().any(|row| row.id == next) {
            wrong.push(format!("{next} is not among the rows that need a test"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_row_of_the_table_of_rights_has_proofs() {
    let (security, proofs) = (read("docs/security.md"), read("docs/proofs.md"));
    let lines = security.lines().skip_while(|line| *line != RIGHTS).skip(2);
    let rights = lines.take_while(|line| line.starts_with('|'));
    let titles: Vec<&str> = rights
        .map(|line| line.split('|').nth(1).unwrap().trim())
        .collect();
    assert!(titles.len() > 10, "{titles:?}");
    let proofs = table(section(&proofs, "Rights"), "| what | tests |");
    let wrong = faults(&titles, &proofs);
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn rows_start_with_an_id_and_end_with_a_test() {
    let document = "| row | attack | test |\n|---|---|---|\n\
        | B1 | x `a` | `t/a.rs::x`, `t/b.mjs::B1: y` |\n| B2 | x | elsewhere |\n\n\
        | a | b | c |\n|---|---|---|\n| B3 | x | `t/a.rs::z` |\n";
    let expected = [
        Row {
            id: "B1",
            tests: vec![("t/a.rs", "x"), ("t/b.mjs", "B1: y")],
        },
        Row {
            id: "B2",
            tests: vec![],
        },
    ];
    assert_eq!(rows(document), expected);
}

/// The header of the table of rights.
const RIGHTS: &str = "| what | permits | to whom |";

fn rows(document: &str) -> Vec<Row<'_>> {
    let mut rows = Vec::new();
    let mut columns = 0;
    for line in document.lines() {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        match cells.as_slice() {
            ["row", .., "test"] => columns = cells.len(),
            [id, .., tests] if cells.len() == columns => {
                if !id.starts_with("---") {
                    rows.push(Row {
                        id,
                        tests: tests_in(tests),
                    });
                }
            }
            _ => columns = 0,
        }
    }
    rows
}
