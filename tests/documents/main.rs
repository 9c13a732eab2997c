//! Documents that are lists: each command, default, migration, dependency and task of the program
//! is described as it is. The pages form a site without gaps.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::string_slice,
    reason = "a test fails by panicking"
)]

mod collections;
mod commands;
mod defaults;
mod dependencies;
mod operation;
mod site;
mod tasks;

use std::{fs, path::Path};

/// Returns a file of the project.
fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
