//! Checks in the source which module imports which.
//!
//! The compiler enforces the borders between packages. These tests enforce them within a package:
//! first between modules, then between the submodules that have a table.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::{
    collections::{BTreeSet, HashMap},
    fs,
    path::{Path, PathBuf},
};

use source_tree::{Rules, SourceTree, circles, collect, entries, join, root, segments, submodule};

#[path = "layers/source_tree.rs"]
mod source_tree;

/// Each module of a package, and the modules of the package that it may import.
const MODULES: &[(&str, Rules)] = &[
    ("src", LIBRARY),
    ("server/src", SERVER),
    ("loadgen/src", LOAD_GENERATOR),
];

/// Leaves are `metrics`, `names`, `time` and `identity`; `tasks` imports only the metrics. `client`
/// imports the return values of handlers and the ids of listeners from `socket`, and the contracts
/// from `names`.
const LIBRARY: Rules = &[
    ("metrics", ""),
    ("tasks", "metrics"),
    ("names", ""),
    ("time", ""),
    ("network", "time"),
    ("identity", ""),
    ("client", "names socket"),
    ("config", "network"),
    ("limit", "config metrics network"),
    ("adapter", "limit metrics names time"),
    ("engine", "config metrics limit tasks time"),
    (
        "socket",
        "config metrics network names adapter engine identity limit tasks time",
    ),
    ("testing", "client config names socket"),
];

/// Leaves are `breaker`, `config`, `metrics` and `supervisor`.
const SERVER: Rules = &[
    ("breaker", ""),
    ("config", ""),
    ("metrics", ""),
    ("limit", "config metrics"),
    ("auth", "breaker config metrics"),
    ("supervisor", ""),
    ("store", "breaker config metrics supervisor"),
    (
        "service",
        "breaker config metrics auth limit store supervisor",
    ),
    ("gateway", "config metrics service auth limit store"),
    ("http", "config metrics auth service limit"),
    (
        "server",
        "config metrics limit auth store service gateway http supervisor",
    ),
    (
        "cli",
        "config metrics limit auth store service gateway http server",
    ),
    ("main", "cli"),
];

const LOAD_GENERATOR: Rules = &[
    ("load", ""),
    ("account", "load"),
    ("clients", "load account"),
    ("report", "load account"),
    ("play", "load account clients report"),
];

/// The folders with submodules. A folder of another package is named from the root, as
/// `protocol/src`.
const SUBMODULES: &[(&str, Rules)] = &[
    ("src/engine", SUBMODULES_ENGINE),
    ("src/engine/outbox", SUBMODULES_OUTBOX),
    ("src/engine/http", SUBMODULES_HTTP),
    ("src/socket", SUBMODULES_SOCKET),
    ("src/client", SUBMODULES_CLIENT),
    ("loadgen/src", LOAD_GENERATOR),
    ("server/src/service", SUBMODULES_SERVICE),
    ("server/src/service/chat", SUBMODULES_CHAT),
];

/// Each module may import the modules above it in this table, if it needs them.
const SUBMODULES_ENGINE: Rules = &[
    ("primitives", ""),
    ("transport", ""),
    ("outbox", "primitives transport"),
    ("admission", "primitives"),
    ("forwarding", "primitives"),
    (
        "session",
        "primitives transport outbox admission forwarding",
    ),
    (
        "http",
        "primitives transport outbox admission forwarding session",
    ),
    ("accept", "primitives admission session http"),
];

/// The files of this folder are one submodule.
const SUBMODULES_OUTBOX: Rules = &[
    ("waiting", ""),
    ("worker", "waiting"),
    ("queue", "waiting"),
    (".", "waiting worker queue"),
];

const SUBMODULES_HTTP: Rules = &[
    ("message", ""),
    ("accepted", ""),
    ("tunnel", ""),
    ("handoff", "tunnel"),
    ("forward", "message handoff tunnel"),
    ("no_forward", "message handoff"),
    ("exchange", "message"),
    ("answer", "message handoff exchange"),
    ("site", ""),
    ("http1", "message accepted handoff site"),
    ("connection", "message accepted handoff site http1"),
    ("mount", "message handoff"),
    ("fuzzing", "message http1"),
];

const SUBMODULES_SOCKET: Rules = &[
    ("types", ""),
    ("rooms", "types"),
    ("acks", "types"),
    ("recovery", "types"),
    ("core", "types rooms acks recovery"),
    ("sending", "types rooms acks recovery core"),
    ("dispatch", "types core"),
    ("life", "types rooms recovery core dispatch"),
    ("connect", "types recovery core dispatch life"),
    ("inbound", "types recovery core dispatch life connect"),
    ("apply", "types rooms core sending life"),
    ("api", "types core sending dispatch connect apply"),
    ("fuzzing", "types recovery core life"),
];

/// The files of this folder are one submodule: transports, and one session on them. `product` is
/// what the product adds, and sends events as an application does.
const SUBMODULES_CLIENT: Rules = &[
    (".", ""),
    ("api", "."),
    ("driver", ". api"),
    ("product", ". api"),
];

const SUBMODULES_SERVICE: Rules = &[
    ("cluster", ""),
    ("fault", ""),
    ("feed", ""),
    ("rules", "fault"),
    ("authorization", "cluster fault feed rules"),
    ("audit", "fault rules authorization"),
    ("hooks", "rules"),
    ("journals", "fault feed hooks rules"),
    (
        "channels",
        "cluster fault feed hooks rules journals authorization",
    ),
    (
        "market",
        "channels fault feed rules journals authorization notifications",
    ),
    ("notifications", "fault hooks rules journals authorization"),
    (
        "chat",
        "cluster fault feed hooks rules authorization notifications",
    ),
    (
        "api",
        "channels cluster fault feed hooks rules authorization audit chat",
    ),
];

const SUBMODULES_CHAT: Rules = &[
    ("presence", ""),
    ("sequencer", "presence"),
    (".", "presence sequencer"),
];

/// Folders that are checked, with their subfolders.
const FOLDERS: &[&str] = &["src", "server/src", "loadgen/src", "protocol/src"];
/// Maximum number of files and folders in one folder.
const MAX_ENTRIES: usize = 14;
/// Maximum number of files of one submodule that import each other in a cycle that cannot be split.
const MAX_CIRCLE: usize = 4;

#[test]
fn every_import_follows_the_table() {
    let mut wrong = Vec::new();
    for (folder, modules) in MODULES {
        let root = root().join(folder);
        let mut files = Vec::new();
        collect(&root, &mut files);
        assert!(
            !files.is_empty(),
            "no source found under {}",
            root.display()
        );
        let mut exported = exports(&fs::read_to_string(root.join("lib.rs")).unwrap());
        for file in &files {
            // Macros are exported at the root, wherever they are defined.
            let source = fs::read_to_string(file).unwrap();
            for rest in source.split("#[macro_export]\nmacro_rules! ").skip(1) {
                let name = rest.split(' ').next().unwrap();
                let home = file.strip_prefix(&root).unwrap().iter().next().unwrap();
                exported.insert(name.to_owned(), home.to_str().unwrap().to_owned());
            }
        }
        for file in files {
            let relative = file.strip_prefix(&root).unwrap();
            let first = relative.iter().next().unwrap();
            let module = Path::new(first).file_stem().unwrap().to_str().unwrap();
            if module == "lib" {
                continue; // The table of contents names everything.
            }
            let shown = Path::new(folder).join(relative);
            let Some((_, allowed)) = modules.iter().find(|(name, _)| *name == module) else {
                wrong.push(format!(
                    "{}: module `{module}` is not in the table",
                    shown.display()
                ));
                continue;
            };
            let prefix = if module == "main" {
                "roomcast_server::"
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
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn reexport_at_the_root_belongs_to_its_module() {
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
                  // crate::comment is prose\nfn f(x: crate::store::Row) {}\npub(crate) fn g()
                  // {}\n";
    let expected = [(2, "engine"), (3, "limit"), (6, "store")];
    let expected: Vec<_> = expected.map(|(line, name)| (line, name.to_owned())).into();
    assert_eq!(imports(source, "crate::"), expected);
}

#[test]
fn every_import_between_submodules_follows_its_table() {
    let mut wrong = Vec::new();
    for (folder, rules) in SUBMODULES {
        let (source_tree, module) = SourceTree::of(folder);
        for entry in entries(&root().join(folder)) {
            let is_known = rules
                .iter()
                .any(|(submodule, _)| *submodule == entry || *submodule == ".");
            if !is_known && !source_tree.is_for_tests(&join(&module, &entry)) {
                wrong.push(format!("{folder}: submodule `{entry}` is not in the table"));
            }
        }
        for arrow in source_tree.arrows(&module, rules) {
            let allowed = rules.iter().find(|(submodule, _)| *submodule == arrow.from);
            let allowed = allowed.map_or("", |(_, allowed)| allowed);
            if !allowed.split(' ').any(|submodule| submodule == arrow.to) {
                wrong.push(arrow.to_string());
            }
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn submodules_import_without_cycles() {
    for (folder, rules) in SUBMODULES {
        let (source_tree, module) = SourceTree::of(folder);
        let arrows = source_tree.arrows(&module, rules);
        assert!(!arrows.is_empty(), "no import found in {folder}");
        let arrows = arrows.into_iter().map(|arrow| (arrow.from, arrow.to));
        let circles = circles(arrows.collect());
        assert!(
            circles.is_empty(),
            "circles of submodules in {folder}: {circles:?}"
        );
    }
}

#[test]
fn circles_of_files_are_small_and_stay_in_their_submodule() {
    for (folder, rules) in SUBMODULES {
        let (source_tree, module) = SourceTree::of(folder);
        for circle in circles(source_tree.files_that_import(&module)) {
            let submodules: BTreeSet<&str> = circle
                .iter()
                .filter_map(|file| submodule(&module, &segments(file), rules))
                .collect();
            let is_small = circle.len() <= MAX_CIRCLE && submodules.len() == 1;
            assert!(is_small, "in {folder} import each other: {circle:?}");
        }
    }
}

#[test]
fn folders_are_small_and_documented() {
    let mut wrong = Vec::new();
    let mut folders: Vec<PathBuf> = FOLDERS.iter().map(|folder| root().join(folder)).collect();
    while let Some(folder) = folders.pop() {
        let shown = folder.strip_prefix(root()).unwrap().display().to_string();
        let mut count = 0;
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            let is_folder = path.is_dir();
            count += usize::from(is_folder || path.extension().is_some_and(|end| end == "rs"));
            if is_folder {
                folders.push(path);
            }
        }
        if count > MAX_ENTRIES {
            wrong.push(format!("{shown}: {count} files and folders side by side"));
        }
        let contents = ["mod.rs", "lib.rs"].map(|name| fs::read_to_string(folder.join(name)));
        if !contents
            .iter()
            .flatten()
            .any(|text| text.starts_with("//!") || text.starts_with("#![doc"))
        {
            wrong.push(format!("{shown}: no word of what it is for"));
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn a_name_belongs_to_the_submodule_that_defines_it() {
    let source_tree = SourceTree::new(
        [
            ("lib", "pub mod source_tree;\npub use source_tree::Low;\n"),
            ("source_tree/mod", "mod low;\nmod high;\npub use low::{Low, deep};\n"),
            ("source_tree/low/mod", "mod cellar;\npub mod deep;\npub use cellar::Low;\n#[cfg(test)]\nmod tests;\n"),
            ("source_tree/low/cellar", "use super::super::high::High;\npub struct Low;\n"),
            ("source_tree/low/tests", "use super::super::high::High;\n"),
            ("source_tree/low/deep", "pub struct Deep;\n"),
            (
                "source_tree/high",
                "use std::fmt;\nuse crate::{source_tree::{self, Low}, Low as Same};\nuse super::deep::Deep;\n\
                 fn f(x: super::low::Low) {} // super::low::prose\n\
                 #[cfg(test)]\nmod tests {\n    use super::super::low::Low;\n}\n",
            ),
        ]
        .map(|(path, source)| (path.to_owned(), source.to_owned())),
    );
    let module = ["source_tree".to_owned()];
    let rules: Rules = &[("low", ""), ("high", "low")];
    let shown = source_tree.arrows(&module, rules);
    let shown: Vec<String> = shown.iter().map(ToString::to_string).collect();
    let low = |line, name: &str| {
        format!("source_tree::high:{line}: `high` may not import `{name}` of `low`")
    };
    assert_eq!(
        shown,
        [
            low(2, "Low"),
            "source_tree::high:2: `high` may not import `source_tree` of `mod.rs`".to_owned(),
            low(2, "Low"),
            low(3, "Deep"),
            low(4, "Low"),
            "source_tree::low::cellar:1: `low` may not import `High` of `high`".to_owned(),
        ]
    );
    let arrows = source_tree.arrows(&module, rules);
    let arrows = arrows.into_iter().filter(|arrow| arrow.to != "mod.rs");
    let found = circles(arrows.map(|arrow| (arrow.from, arrow.to)).collect());
    assert_eq!(found, [["high", "low"]]);
}

/// Returns the first path segment after each `prefix`, with its line; a group gives one entry per
/// member.
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

/// Returns the names that the root exports, with the modules that define them.
fn exports(lib: &str) -> HashMap<String, String> {
    let uses = lib
        .split("\npub use ") // At the root only, not in an inner module.
        .skip(1)
        .map(|rest| rest.split(';').next().unwrap());
    let mut exported = HashMap::new();
    for path in uses {
        let (home, names) = path.split_once("::").unwrap();
        if home == "roomcast_protocol" {
            continue; // Each module may use the codec.
        }
        for name in names.split(|c: char| !c.is_alphanumeric() && c != '_') {
            exported.insert(name.to_owned(), home.to_owned());
        }
    }
    exported
}

#[test]
fn files_named_by_the_architecture_and_decisions_exist() {
    let root = root();
    let pages = ["docs/architecture.md", "docs/decisions.md"].map(|page| root.join(page));
    let (mut count, mut missing) = (0, Vec::new());
    for page in pages {
        let text = fs::read_to_string(&page).unwrap();
        let named = text.split('`').skip(1).step_by(2);
        let files = named
            .filter(|name| name.contains('/') && !name.contains([' ', '*', '{']))
            .filter(|name| {
                let folder = name.split('/').next();
                folder.is_some_and(|folder| !folder.is_empty() && root.join(folder).is_dir())
            });
        for file in files {
            count += 1;
            if !root.join(file).exists() {
                missing.push(format!("{}: {file}", page.display()));
            }
        }
    }
    assert!(count > 150, "{count}");
    assert!(missing.is_empty(), "{missing:#?}");
}
