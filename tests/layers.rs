//! Which module may import which: the arrows of the house, checked on the source.
//!
//! `protocol` is a crate of its own, so the compiler holds that border; everything else is one
//! package and is held here.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
};

/// Every module of `src` and the modules it may name. `breaker`, `config` and `metrics` are leaves.
const ALLOWED: &[(&str, &str)] = &[
    ("breaker", ""),
    ("config", "network"),
    ("metrics", ""),
    ("network", ""),
    ("client", ""),
    ("bench", "client"),
    ("limit", "config metrics network"),
    ("engine", "config metrics limit"),
    ("auth", "config metrics"),
    ("adapter", "config metrics"),
    ("socket", "config metrics network engine auth adapter limit"),
    ("testing", "client config socket"),
    ("store", "breaker config metrics network"),
    ("service", "config metrics network socket auth limit store"),
    ("gateway", "config metrics service socket auth limit store"),
    (
        "http",
        "config metrics network engine socket auth service limit",
    ),
    (
        "server",
        "config metrics network limit engine auth adapter socket store service gateway http",
    ),
    (
        "cli",
        "config metrics limit auth adapter socket store service gateway http server client bench",
    ),
    ("main", "config cli server"),
];

#[test]
fn every_import_follows_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&root, &mut files);
    assert!(
        !files.is_empty(),
        "no source found under {}",
        root.display()
    );
    let exported = exports(&fs::read_to_string(root.join("lib.rs")).unwrap());
    let mut wrong = Vec::new();
    for file in files {
        let relative = file.strip_prefix(&root).unwrap();
        let first = relative.iter().next().unwrap();
        let module = Path::new(first).file_stem().unwrap().to_str().unwrap();
        if module == "lib" {
            continue; // The table of contents names everything.
        }
        let shown = Path::new("src").join(relative);
        let Some((_, allowed)) = ALLOWED.iter().find(|(name, _)| *name == module) else {
            wrong.push(format!(
                "{}: module `{module}` is not in the table",
                shown.display()
            ));
            continue;
        };
        let prefix = if module == "main" {
            "roomcast::"
        } else {
            "crate::"
        };
        for (line, name) in imports(&fs::read_to_string(&file).unwrap(), prefix) {
            let home = exported.get(&name).unwrap_or(&name);
            if home != module && !allowed.split(' ').any(|other| other == home) {
                let shown = shown.display();
                wrong.push(format!(
                    "{shown}:{line}: `{module}` may not import `{name}` of `{home}`"
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_name_of_the_root_belongs_to_its_module() {
    let exported = exports(
        "pub mod a;\nmod b {\n    pub use crate::engine::b;\n}\npub use config::Config;\npub use engine::{\n    Frame, Sid,\n};\n\
                 pub use roomcast_protocol::{engine::Transport, socket::{Args}};\n",
    );
    let home = |name: &str| exported.get(name).map(String::as_str);
    assert_eq!(
        [home("Config"), home("Frame"), home("Sid")],
        [Some("config"), Some("engine"), Some("engine")]
    );
    assert_eq!([home("a"), home("engine"), home("Args")], [None; 3]);
}

#[test]
fn imports_are_found_in_paths_and_in_groups() {
    let source = "use crate::{\n    engine::{Outbox, frame},\n    limit::Bucket,\n};\n\
                  // crate::comment is prose\nfn f(x: crate::store::Row) {}\npub(crate) fn g() {}\n";
    let expected = [(2, "engine"), (3, "limit"), (6, "store")];
    let expected: Vec<_> = expected.map(|(line, name)| (line, name.to_owned())).into();
    assert_eq!(imports(source, "crate::"), expected);
}

/// The first path segment behind each `prefix`, with its line; a group gives one entry per member.
fn imports(source: &str, prefix: &str) -> Vec<(usize, String)> {
    let code: String = source
        .lines()
        .flat_map(|line| [line.split("//").next().unwrap_or_default(), "\n"])
        .collect();
    let mut found = Vec::new();
    for (start, _) in code.match_indices(prefix) {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue; // The tail of a longer path.
        }
        let (mut at, mut depth, mut fresh) = (start + prefix.len(), 0, true);
        while let Some(c) = code[at..].chars().next() {
            if fresh && (c.is_alphanumeric() || c == '_') {
                let rest = &code[at..];
                let end = rest
                    .find(|c: char| !c.is_alphanumeric() && c != '_')
                    .unwrap_or(rest.len());
                found.push((code[..at].matches('\n').count() + 1, rest[..end].to_owned()));
                (at, fresh) = (at + end, false);
            } else {
                match c {
                    '{' => depth += 1,
                    '}' => depth -= 1,
                    ',' if depth == 1 => fresh = true,
                    _ => {}
                }
                at += c.len_utf8();
            }
            if depth == 0 {
                break;
            }
        }
    }
    found
}

/// What the root exports by name, with the module that it comes from.
fn exports(lib: &str) -> HashMap<String, String> {
    let uses = lib
        .split("\npub use ") // At the root only: not in a module inside.
        .skip(1)
        .map(|rest| rest.split(';').next().unwrap());
    let mut exported = HashMap::new();
    for path in uses {
        let (home, names) = path.split_once("::").unwrap();
        if home == "roomcast_protocol" {
            continue; // Every module may use the codec.
        }
        for name in names.split(|c: char| !c.is_alphanumeric() && c != '_') {
            exported.insert(name.to_owned(), home.to_owned());
        }
    }
    exported
}

/// All Rust files below `directory`.
fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
