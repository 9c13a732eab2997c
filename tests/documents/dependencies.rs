//! `docs/dependencies.md` gives a reason for each dependency, and lists nothing else.

use std::collections::BTreeSet;

use crate::read;

#[test]
fn every_dependency_of_the_library_has_a_reason() {
    compare("Cargo.toml");
}

#[test]
fn every_dependency_of_the_server_has_a_reason() {
    compare("server/Cargo.toml");
}

#[test]
fn every_dependency_of_the_load_generator_has_a_reason() {
    compare("loadgen/Cargo.toml");
}

#[test]
fn every_dependency_of_the_codec_has_a_reason() {
    compare("protocol/Cargo.toml");
}

#[test]
fn every_dependency_of_the_compile_tests_has_a_reason() {
    compare("tests/compile/Cargo.toml");
}

#[test]
fn every_dependency_of_the_api_snapshot_has_a_reason() {
    compare("tests/public_api/Cargo.toml");
}

fn compare(manifest: &str) {
    let (declaration, document) = (read(manifest), read("docs/dependencies.md"));
    let named = declared(&declaration);
    let explained = explained(&document, manifest);
    assert!(!named.is_empty(), "no dependency found in {manifest}");
    let silent: Vec<_> = named.difference(&explained).collect();
    assert!(
        silent.is_empty(),
        "docs/dependencies.md gives no reason for {silent:?} under {manifest}"
    );
    let stale: Vec<_> = explained.difference(&named).collect();
    assert!(
        stale.is_empty(),
        "docs/dependencies.md lists under {manifest} what it does not contain: {stale:?}"
    );
}

/// Returns the keys of all dependency tables of a manifest, except `workspace.dependencies`.
fn declared(manifest: &str) -> BTreeSet<&str> {
    let mut names = BTreeSet::new();
    let mut inside = false;
    for line in manifest.lines() {
        if let Some(table) = line.strip_prefix('[') {
            let table = table.trim_end_matches(']');
            inside = table != "workspace.dependencies" && table.ends_with("dependencies");
        } else if inside && let Some((name, _)) = line.split_once('=') {
            names.insert(name.trim());
        }
    }
    names
}

/// Returns the names of the list items with a reason, under the heading of `manifest`.
fn explained<'a>(document: &'a str, manifest: &str) -> BTreeSet<&'a str> {
    let heading = format!("## `{manifest}`");
    let section = document.lines().skip_while(|line| *line != heading).skip(1);
    section
        .take_while(|line| !line.starts_with("## "))
        .filter_map(|line| line.strip_prefix("- `")?.split_once("`: "))
        .filter(|(_, reason)| !reason.trim().is_empty())
        .map(|(name, _)| name)
        .collect()
}
