//! `docs/parity.md` names a test in each row, and each named test exists.

use std::collections::BTreeSet;

use crate::{missing, read, tests_in};

/// The features in the official server's documentation, which the table must contain.
const REQUIRED: &[&str] = &[
    "path",
    "addTrailingSlash",
    "pingInterval",
    "pingTimeout",
    "upgradeTimeout",
    "maxHttpBufferSize",
    "transports",
    "allowUpgrades",
    "allowRequest",
    "cors",
    "cookie",
    "httpCompression",
    "perMessageDeflate",
    "allowEIO3",
    "destroyUpgrade",
    "connectTimeout",
    "serveClient",
    "cleanupEmptyChildNamespaces",
    "connectionStateRecovery",
    "parser",
    "adapter",
    "connection_error",
    "initial_headers",
    "headers",
    "generateId",
    "engine.use",
    "engine.clientsCount",
    "io.of(name)",
    "dynamic namespaces",
    "nsp.use",
    "connect_error",
    "socket.on",
    "once",
    "off",
    "order of handlers",
    "socket.use",
    "onAny",
    "prependAny",
    "onAnyOutgoing",
    "socket.timeout().emitWithAck",
    "broadcast with acknowledgements",
    "join",
    "leave",
    "events of rooms",
    "to",
    "in",
    "except",
    "broadcast",
    "local",
    "volatile",
    "compress",
    "send",
    "fetchSockets",
    "socketsJoin",
    "socketsLeave",
    "disconnectSockets",
    "serverSideEmit",
    "socket.data",
    "socket.handshake",
    "socket.conn",
    "disconnect(close)",
    "disconnecting",
    "io.close",
    "parsers",
    "binary anywhere in the arguments",
    "retries",
    "JSONP",
    "WebTransport",
];

/// A row of the table.
#[derive(Debug, PartialEq)]
struct Row<'a> {
    feature: &'a str,
    proof: Proof<'a>,
}

#[derive(Debug, PartialEq)]
enum Proof<'a> {
    /// The tests, each as its file and its name or title.
    Tests(Vec<(&'a str, &'a str)>),
    /// The reason for having no test.
    Excluded(&'a str),
    /// Anything else, which is invalid.
    Open(&'a str),
}

#[test]
fn every_row_names_tests_that_exist() {
    let document = read("docs/parity.md");
    let reasons = reasons(&document);
    let rows = rows(&document);
    assert!(rows.len() > 100, "{} rows", rows.len());
    let mut wrong = Vec::new();
    for row in &rows {
        match &row.proof {
            Proof::Open(what) => wrong.push(format!("{}: open ({what})", row.feature)),
            Proof::Excluded(reason) if reasons.contains(reason) => {}
            Proof::Excluded(reason) => {
                wrong.push(format!("{}: `{reason}` is no reason", row.feature));
            }
            Proof::Tests(tests) => wrong.extend(missing(row.feature, tests)),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn required_rows_are_present() {
    let document = read("docs/parity.md");
    let rows = rows(&document);
    let features: BTreeSet<&str> = rows
        .iter()
        .flat_map(|row| row.feature.split(", "))
        .flat_map(|name| name.split(" and "))
        .map(|name| name.trim_matches('`').split("` ").next().unwrap())
        .collect();
    let missing: Vec<_> = REQUIRED
        .iter()
        .filter(|name| !features.contains(*name))
        .collect();
    assert!(missing.is_empty(), "{missing:?} not in {features:?}");
    let unique: BTreeSet<_> = rows.iter().map(|row| row.feature).collect();
    assert_eq!(unique.len(), rows.len(), "a row is there twice");
}

#[test]
fn rows_are_parsed_with_their_conditions() {
    let document = "| Node | here | proof |\n|---|---|---|\n\
        | `a`, b | x | `tests/a.rs::works` `tests/b.test.mjs::says \"hi\", twice` |\n\
        | c | – | excluded: later |\n| d | x | soon |\n| e | x | |\n\
        \n## Reasons\n\n- later: because.\n- never: because.\n";
    let tests = vec![
        ("tests/a.rs", "works"),
        ("tests/b.test.mjs", "says \"hi\", twice"),
    ];
    let expected = [
        ("`a`, b", Proof::Tests(tests)),
        ("c", Proof::Excluded("later")),
        ("d", Proof::Open("soon")),
        ("e", Proof::Open("")),
    ];
    let expected = expected.map(|(feature, proof)| Row { feature, proof });
    assert_eq!(rows(document), expected);
    assert_eq!(reasons(document), ["later", "never"].into());
}

fn rows(document: &str) -> Vec<Row<'_>> {
    let lines = document.lines().filter_map(|line| {
        let mut cells = line.strip_prefix('|')?.strip_suffix('|')?.split('|');
        let (feature, _, proof) = (cells.next()?.trim(), cells.next()?, cells.next()?.trim());
        assert_eq!(cells.next(), None, "more than three cells: {line}");
        let is_head = feature == "Node" || feature.starts_with("---");
        (!is_head).then(|| Row {
            feature,
            proof: read_proof(proof),
        })
    });
    lines.collect()
}

fn read_proof(cell: &str) -> Proof<'_> {
    if let Some(reason) = cell.strip_prefix("excluded: ") {
        return Proof::Excluded(reason);
    }
    match tests_in(cell) {
        tests if tests.is_empty() => Proof::Open(cell),
        tests => Proof::Tests(tests),
    }
}

/// Returns the reasons for which a row may be excluded.
fn reasons(document: &str) -> BTreeSet<&str> {
    let section = document.lines().skip_while(|line| *line != "## Reasons");
    section
        .filter_map(|line| line.strip_prefix("- ")?.split_once(": "))
        .filter(|(_, why)| !why.trim().is_empty())
        .map(|(word, _)| word)
        .collect()
}
