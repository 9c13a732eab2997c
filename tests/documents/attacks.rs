//! The tables of attacks, rights and rotated keys in `docs` name a test in each row, and each named
//! test exists.

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
fn every_row_of_the_table_of_rights_names_tests_that_exist() {
    let document = read("docs/security.md");
    assert_eq!(
        document.matches(RIGHTS).count(),
        1,
        "there is one table of rights"
    );
    let rows = rights(&document);
    assert!(rows.len() > 10, "{rows:?}");
    let mut wrong = Vec::new();
    for Row { id, tests } in rows {
        if tests.is_empty() {
            wrong.push(format!("no test for {id}"));
        }
        wrong.extend(missing(id, &tests));
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn rights_are_the_rows_of_their_table_only() {
    let document = format!(
        "{RIGHTS}\n|---|---|---|---|\n| table `a` | SELECT | a role | `t/a.rs::x` `t/b.rs::y` |\n\
         | file `b` | nothing | | – |\n\n| c | d | e | `t/a.rs::z` |\n"
    );
    let expected = [
        Row {
            id: "table `a`",
            tests: vec![("t/a.rs", "x"), ("t/b.rs", "y")],
        },
        Row {
            id: "file `b`",
            tests: vec![],
        },
    ];
    assert_eq!(rights(&document), expected);
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
const RIGHTS: &str = "| what | permits | to whom | test |";

/// Returns the rows of the table of rights.
fn rights(document: &str) -> Vec<Row<'_>> {
    let lines = document.lines().skip_while(|line| *line != RIGHTS).skip(2);
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.map(|line| {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let [what, _, _, tests] = cells.as_slice() else {
            panic!("four cells: {line}");
        };
        Row {
            id: what,
            tests: tests_in(tests),
        }
    })
    .collect()
}

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
