//! Documents that are lists: each row of a table of promises names tests that exist, and each
//! dependency and each task of the program is described. The pages form a site without gaps.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

mod attacks;
mod collections;
mod commands;
mod defaults;
mod delivery;
mod dependencies;
mod named;
mod operation;
mod parity;
mod proofs;
mod site;
mod tasks;

use std::{fs, path::Path};

/// Returns a file of the project.
fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns the tests that a cell names as `file::name`, each as its file and its name or title.
fn tests_in(cell: &str) -> Vec<(&str, &str)> {
    let items = cell.split('`').skip(1).step_by(2);
    items.filter_map(|item| item.split_once("::")).collect()
}

/// Returns a complaint for each of these tests that does not exist.
fn missing<'a>(row: &str, tests: &[(&'a str, &'a str)]) -> Vec<String> {
    let exists = |file: &str, name: &str| {
        let source = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file));
        named::has_test(file, &source.unwrap_or_default(), name)
    };
    let missing = tests.iter().filter(|(file, name)| !exists(file, name));
    missing
        .map(|(file, name)| format!("{row}: there is no test `{name}` in {file}"))
        .collect()
}
