//! Each task that runs as long as the server is started by name, is listed in `docs/operations.md`,
//! and is killed in a test.

use std::{collections::BTreeSet, fs, path::Path};

use crate::read;

/// Calls that start a task with a name.
const STARTS: [&str; 5] = [
    ".keep(",
    ".start(",
    ".start_once(",
    ".start_thread(",
    "Follower::new(",
];

/// Calls that start a task without a name, and where the server may use them. These tasks end by
/// themselves, and soon.
const SPAWNS: [&str; 5] = [
    "tokio::spawn(",
    "TraceContext::spawn(",
    "spawn_blocking(",
    "JoinSet::new(",
    "thread::Builder",
];
const NAMELESS: [(&str, &str); 30] = [
    (
        "metrics/trace/context.rs",
        "It is what starts tasks within a trace.",
    ),
    ("supervisor.rs", "It is what starts tasks by name."),
    (
        "http/api/audit.rs",
        "One request of the API, which has a deadline and is waited for.",
    ),
    ("service/audit/mod.rs", "One line of a file."),
    (
        "gateway/admin_ui/password.rs",
        "One comparison, whose cost is limited; few wait.",
    ),
    ("auth/jwt/source.rs", "One fetch, which has a deadline."),
    (
        "http/api/describe/reference.rs",
        "The description of the API, which is awaited.",
    ),
    (
        "http/api/once/mod.rs",
        "One request of the API, which has a deadline and is waited for.",
    ),
    (
        "service/chat/sequencer/confirming.rs",
        "One report, or answer to another server; both have a deadline.",
    ),
    (
        "http/api/messages/streamed.rs",
        "One streamed message, which ends when no text arrives for a while.",
    ),
    (
        "service/chat/messages/streams/spreading.rs",
        "A few queries for a growing text, which have a deadline.",
    ),
    (
        "service/chat/messages/streams/storing.rs",
        "The end of one message, which the store takes or refuses in time.",
    ),
    (
        "service/cluster/announcer.rs",
        "One question to other servers, which has a deadline.",
    ),
    (
        "service/api/admin/mod.rs",
        "One query for a new admin, which has a deadline.",
    ),
    (
        "service/api/trace.rs",
        "The lines of one trace, which ends 20 s after its last request.",
    ),
    ("service/channels/ending.rs", "One deletion."),
    (
        "service/channels/continuing/mod.rs",
        "The ends of a socket's rights; it ends with the socket or the last right.",
    ),
    (
        "service/chat/emission.rs",
        "The gaps of conversations; the task that emits waits for each.",
    ),
    (
        "service/channels/rights/asking.rs",
        "Renewals while there are questions, and one request, which has a deadline.",
    ),
    (
        "service/channels/history/trimming.rs",
        "Removals of old events, until a minute after the last event; the next event repeats them.",
    ),
    (
        "service/journals/amending.rs",
        "One amendment, which the store takes or refuses in time.",
    ),
    (
        "service/journals/followed.rs",
        "The end of one window, which is a minute at most.",
    ),
    (
        "service/journals/appending.rs",
        "One entry, which the store takes or refuses in time.",
    ),
    (
        "service/market/execution/mod.rs",
        "One trade, whose attempts and pauses are limited.",
    ),
    (
        "service/rules/html/mod.rs",
        "One page, which is waited for.",
    ),
    (
        "store/postgres/address.rs",
        "One connection, which ends with its client.",
    ),
    (
        "server/edge/admin.rs",
        "One connection of an operator, which ends after a minute.",
    ),
    (
        "server/edge/redirect.rs",
        "One connection, which ends after ten seconds.",
    ),
    ("store/sqlite/reader.rs", "One query, which has a deadline."),
    ("server/reload/mod.rs", "reads the configuration again"),
];

/// The tests that kill tasks.
const KILLERS: [&str; 3] = [
    "tests/server/supervision.rs",
    "tests/gateways/supervision.rs",
    "server/src/store/sqlite/mod.rs",
];

/// Returns the sources below a folder without their tests, as relative path and text.
pub(crate) fn sources(folder: &str) -> Vec<(String, String)> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let mut sources = Vec::new();
    let mut folders = vec![root.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let text = fs::read_to_string(&path).unwrap();
                let code = text.split("#[cfg(test)]\nmod tests {").next().unwrap();
                let shown = path.strip_prefix(&root).unwrap().to_str().unwrap();
                sources.push((shown.to_owned(), code.to_owned()));
            }
        }
    }
    sources
}

/// Returns the names under which tasks are started.
fn started() -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    for (_, code) in [sources("src"), sources("server/src")].concat() {
        for start in STARTS {
            for rest in code.split(start).skip(1) {
                let name = rest.trim_start().strip_prefix('"');
                names.extend(name.map(|name| name.split('"').next().unwrap().to_owned()));
            }
        }
    }
    names
}

#[test]
fn every_task_is_described_and_no_other() {
    let page = read("docs/operations.md");
    let (_, table) = page.split_once("| task | policy |").unwrap();
    let rows = table
        .lines()
        .skip(2)
        .map_while(|row| row.strip_prefix("| `"));
    let described: BTreeSet<String> = rows
        .map(|row| row.split('`').next().unwrap().to_owned())
        .collect();
    assert!(described.len() >= 19, "{described:?}");
    assert_eq!(described, started());
}

#[test]
fn every_task_is_killed_in_a_test() {
    let tests = KILLERS.map(read).concat();
    for name in started() {
        assert!(
            tests.contains(&format!("\"{name}\"")),
            "{name} is killed nowhere"
        );
    }
}

#[test]
fn the_server_starts_no_task_without_a_name_that_does_not_end_soon() {
    let sources = sources("server/src");
    for (path, code) in &sources {
        let spawns = SPAWNS.iter().any(|spawn| code.contains(spawn));
        let may = NAMELESS.iter().any(|(known, _)| known == path);
        assert_eq!(spawns, may, "{path}");
    }
    for (known, _) in NAMELESS {
        let mut paths = sources.iter().map(|(path, _)| path);
        assert!(paths.any(|path| path == known), "there is no {known}");
    }
}
