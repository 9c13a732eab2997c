//! Every event of a client goes through the table in `server/src/service/rules/policy.rs`: the gateway registers
//! what is in it and nothing else, and every service method begins with the check of its row.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "a test fails by panicking"
)]

use std::{collections::BTreeMap, collections::BTreeSet, fs, path::Path};

fn source(path: &str) -> String {
    fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap()
}

/// The rows: what they are called in the source, and their event.
fn rows() -> BTreeMap<String, String> {
    let policy = source("src/service/rules/policy.rs");
    let (_, table) = policy.split_once("\nevents! {\n").unwrap();
    let (table, _) = table.split_once("\n}").unwrap();
    let rows = table
        .lines()
        .filter_map(|line| line.trim().split_once(" = \""))
        .map(|(name, rest)| {
            let (event, _) = rest.split_once('"').unwrap();
            (name.to_owned(), event.to_owned())
        });
    rows.collect()
}

/// What follows each `marker`, up to the next one.
fn pieces<'a>(source: &'a str, marker: &'a str) -> impl Iterator<Item = &'a str> {
    source.split(marker).skip(1)
}

fn name_at_start(text: &str) -> &str {
    let end = text.find(|c: char| !c.is_ascii_uppercase() && c != '_');
    &text[..end.unwrap_or(text.len())]
}

#[test]
fn every_event_that_is_registered_has_a_row_and_takes_from_its_limit() {
    let rows = rows();
    assert!(rows.len() >= 15, "{rows:?}");
    let mut registered = BTreeSet::new();
    for file in ["src/gateway/chat.rs", "src/gateway/changes.rs"] {
        let text = source(file);
        for marker in [".on(", ".on_serial("] {
            for piece in pieces(&text, marker) {
                let event = piece.trim_start();
                if event.starts_with("\"disconnect\"") {
                    continue; // No client sends it.
                }
                let row = event.strip_prefix("policy::").map(name_at_start);
                let row = row.unwrap_or_else(|| panic!("{file}: {event:.40} is not in the table"));
                assert!(rows.contains_key(row), "{file}: {row}");
                let taken = piece.split("command(&users, &policy::").nth(1);
                let taken = taken.map(name_at_start);
                assert_eq!(taken, Some(row), "{file}: counts for another row");
                registered.insert(row.to_owned());
            }
        }
    }
    // Handled by the socket layer, for which the gateway takes from the limit.
    assert!(source("src/gateway/identity.rs").contains("policy::REFRESH.class"));
    registered.insert("REFRESH".to_owned());
    let names: BTreeSet<_> = rows.into_keys().collect();
    assert_eq!(registered, names, "a row that nobody serves");
}

#[test]
fn every_service_method_begins_with_its_check() {
    let mut checked = BTreeSet::new();
    for file in [
        "src/service/authorization/access.rs",
        "src/service/authorization/blocks.rs",
        "src/service/chat/changes.rs",
        "src/service/chat/deleting.rs",
        "src/service/chat/handle.rs",
        "src/service/authorization/explain.rs",
        "src/service/authorization/revoking.rs",
    ] {
        let text = source(file);
        for method in pieces(&text, "\n    pub(crate) async fn ") {
            let (head, body) = method.split_once(" {\n").unwrap();
            // Others are called by the server itself.
            if !head.contains("by: &Principal") && !head.contains("socket: &Socket") {
                continue;
            }
            let name = head.split(['(', '<']).next().unwrap();
            let body = body.split("\n    }\n").next().unwrap();
            let check = body.find(".require");
            let check = check.unwrap_or_else(|| panic!("{file}: `{name}` checks nothing"));
            // Nothing is asked, waited for or refused before.
            let before = &body[..check];
            assert!(
                !before.contains(".await") && !before.contains('?') && !before.contains("return"),
                "{file}: `{name}` does something before its check:\n{before}"
            );
            checked.insert(name.to_owned());
        }
    }
    for name in [
        "send",
        "join",
        "edit",
        "search",
        "revoke",
        "explain",
        "make_session",
    ] {
        assert!(checked.contains(name), "{name} in {checked:?}");
    }
    assert!(checked.len() >= 18, "{checked:?}");
}

#[test]
fn permissions_are_asked_for_in_services_and_nowhere_else() {
    let mut files = Vec::new();
    collect(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        &mut files,
    );
    for path in files {
        let shown = path.display().to_string();
        let is_at_home = ["/service/", "/auth/rbac.rs"]
            .iter()
            .any(|home| shown.contains(home));
        let text = fs::read_to_string(&path).unwrap();
        if !is_at_home {
            for word in [
                ".allow(&",
                ".require(",
                "Permission::Chat",
                "Permission::Api",
                "Permission::Roles",
            ] {
                assert!(!text.contains(word), "{shown} has `{word}`");
            }
        }
    }
}

fn collect(folder: &Path, files: &mut Vec<std::path::PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            collect(&path, files);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
}
