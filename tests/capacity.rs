//! The calculations in `docs/scaling.md` are correct and start from the figures of
//! `benches/README.md`.

#![allow(
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "a test fails by panicking"
)]

use std::{fs, path::Path};

fn read(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// Returns the rows of the table under a heading, as trimmed cells.
fn table(page: &str, heading: &str) -> Vec<Vec<String>> {
    let (_, section) = page.split_once(&format!("\n## {heading}\n")).unwrap();
    let lines = section.lines().skip_while(|line| !line.starts_with("| "));
    let rows = lines.take_while(|line| line.starts_with('|'));
    rows.skip(2)
        .map(|row| {
            let row = row.trim_matches('|');
            row.split('|').map(|cell| cell.trim().to_owned()).collect()
        })
        .collect()
}

fn number(text: &str) -> f64 {
    let plain = text.replace(',', "");
    plain
        .parse()
        .unwrap_or_else(|_| panic!("{text:?} is no number"))
}

/// Evaluates numbers joined by `×`, `/`, `+` and `−`.
fn value(sum: &str) -> f64 {
    let words: Vec<&str> = sum.split(' ').collect();
    let (mut total, mut product, mut sign) = (0.0, number(words[0]), 1.0);
    for pair in words[1..].chunks(2) {
        let next = number(pair[1]);
        match pair[0] {
            "×" => product *= next,
            "/" => product /= next,
            "+" | "−" => {
                total += sign * product;
                sign = if pair[0] == "+" { 1.0 } else { -1.0 };
                product = next;
            }
            other => panic!("{other:?} in {sum:?}"),
        }
    }
    total + sign * product
}

/// Returns half a unit of the last written digit.
fn tolerance(text: &str) -> f64 {
    let places = text.split_once('.').map_or(0, |(_, places)| places.len());
    0.5 * 10_f64.powi(-i32::try_from(places).unwrap()) + 1e-9
}

#[test]
fn every_sum_of_the_model_is_right() {
    let rows = table(&read("docs/scaling.md"), "On paper: a million connections");
    assert!(rows.len() > 10, "{} rows found", rows.len());
    for row in rows {
        let [quantity, sum, result] = &row[..] else {
            panic!("{row:?}");
        };
        let off = (value(sum) - number(result)).abs();
        assert!(
            off <= tolerance(result),
            "{quantity}: {sum} is not {result}"
        );
    }
}

#[test]
fn the_model_begins_with_the_figures_of_the_benches() {
    let (page, benches) = (read("docs/scaling.md"), read("benches/README.md"));
    let model: String = table(&page, "On paper: a million connections")
        .into_iter()
        .map(|row| row[1].clone() + " ")
        .collect();
    let rows = table(&page, "How much one server carries");
    assert_eq!(rows.len(), 7);
    for row in rows {
        let (figure, _unit) = row[1].split_once(' ').unwrap();
        let measured = benches.lines().find_map(|line| {
            let mut cells = line.strip_prefix("| ")?.split(" | ");
            let name = cells.next()?.replace(" (a ping every 3 s)", "");
            (name == row[2]).then(|| cells.next().unwrap_or_default())
        });
        let measured = measured.unwrap_or_else(|| panic!("no figure {:?}", row[2]));
        let (median, _) = measured.split_once(' ').unwrap();
        assert_eq!(figure, median, "{}", row[2]);
        assert!(
            model.contains(&format!(" {figure} ")),
            "{figure} is not used"
        );
    }
}
