//! Each row of `docs/parity.md` has a reason for being excluded, or a row in `docs/proofs.md`,
//! which names tests that exist.

use std::collections::BTreeSet;

use crate::{
    proofs::{self, faults, section, two_cells},
    read,
};

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

/// A row of the tables of features.
#[derive(Debug, PartialEq)]
struct Row<'a> {
    feature: &'a str,
    /// The reason for having no proofs.
    excluded: Option<&'a str>,
}

#[test]
fn every_row_has_proofs_or_a_reason() {
    let (document, proofs) = (read("docs/parity.md"), read("docs/proofs.md"));
    let reasons = reasons(&document);
    let rows = rows(&document);
    assert!(rows.len() > 100, "{} rows", rows.len());
    let mut wrong = Vec::new();
    let mut titles = Vec::new();
    for Row { feature, excluded } in &rows {
        match excluded {
            None => titles.push(*feature),
            Some(reason) if reasons.contains(reason) => {}
            Some(reason) => wrong.push(format!("{feature}: `{reason}` is no reason")),
        }
    }
    let section = section(&proofs, "Parity with the Node server");
    wrong.extend(faults(&titles, &proofs::rows(section, "| Node | tests |")));
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
    let document = "| Node | here |\n|---|---|\n| `a`, b | x |\n| c | excluded: later |\n\
        | d | x; excluded: soon |\n\n## More\n\n| Node | here |\n|---|---|\n| e | |\n\
        \n## Reasons\n\n- later: because.\n- never: because.\n";
    let expected = [
        ("`a`, b", None),
        ("c", Some("later")),
        ("d", Some("soon")),
        ("e", None),
    ];
    let expected = expected.map(|(feature, excluded)| Row { feature, excluded });
    assert_eq!(rows(document), expected);
    assert_eq!(reasons(document), ["later", "never"].into());
}

fn rows(document: &str) -> Vec<Row<'_>> {
    let lines = document.lines().filter(|line| line.starts_with('|'));
    let rows = lines.map(two_cells).map(|(feature, here)| Row {
        feature,
        excluded: here.rsplit_once("excluded: ").map(|(_, reason)| reason),
    });
    rows.filter(|row| row.feature != "Node" && !row.feature.starts_with("---"))
        .collect()
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
