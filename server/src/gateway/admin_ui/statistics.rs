//! The event `server_stats`: the figures of this server.

use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use roomcast::Io;
use roomcast::metrics::{Counter, Gauge};

/// The payload of `server_stats`.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ServerStatistics {
    server_id: String,
    hostname: String,
    pid: u32,
    /// Seconds since the server was built.
    uptime: f64,
    clients_count: usize,
    polling_clients_count: i64,
    aggregated_events: Vec<AggregatedEvent>,
    namespaces: Vec<NamespaceSize>,
}

/// What was counted since the previous report.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct AggregatedEvent {
    /// Milliseconds since 1970, in whole seconds.
    timestamp: u64,
    #[serde(rename = "type")]
    kind: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sub_type: Option<&'static str>,
    count: u64,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct NamespaceSize {
    name: String,
    sockets_count: usize,
}

/// The counters at the time of a report.
pub(super) struct Counts([u64; COUNTED.len()]);

impl Counts {
    pub(super) fn now(io: &Io) -> Self {
        Self(COUNTED.map(|(counter, _, _)| io.metrics().counter(counter)))
    }
}

impl ServerStatistics {
    /// Returns the figures of a server, with what was counted between two reports.
    pub(super) fn of(io: &Io, before: &Counts, now: &Counts) -> Self {
        let this = io.nodes().into_iter().find(|node| node.is_this);
        let uptime = this.as_ref().and_then(|node| node.started.elapsed().ok());
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
        let timestamp = since_1970.map_or(0, |time| time.as_secs() * 1000);
        let counted = COUNTED.iter().zip(now.0.iter().zip(&before.0));
        let aggregated = counted.filter_map(|((_, kind, sub_type), (now, before))| {
            let count = now.saturating_sub(*before);
            (count > 0).then_some(AggregatedEvent {
                timestamp,
                kind,
                sub_type: *sub_type,
                count,
            })
        });
        let namespaces = io.namespaces().into_iter().take(MAX_NAMESPACES);
        Self {
            server_id: this.map_or_else(String::new, |node| node.id.to_string()),
            hostname: hostname(),
            pid: std::process::id(),
            uptime: uptime.unwrap_or_default().as_secs_f64(),
            clients_count: io.clients_count(),
            polling_clients_count: io.metrics().gauge(Gauge::SessionsPolling),
            aggregated_events: aggregated.collect(),
            namespaces: namespaces
                .map(|namespace| NamespaceSize {
                    sockets_count: namespace.local().count(),
                    name: namespace.name().to_owned(),
                })
                .collect(),
        }
    }
}

fn hostname() -> String {
    let system = rustix::system::uname();
    system.nodename().to_string_lossy().into_owned()
}

/// The maximum number of namespaces in a report.
const MAX_NAMESPACES: usize = 64;

/// The counters of reports, and the types and subtypes of the UI.
const COUNTED: [(Counter, &str, Option<&str>); 12] = [
    (Counter::SessionsOpened, "rawConnection", None),
    (
        Counter::ClosedTransportClose,
        CLOSED,
        Some("transport close"),
    ),
    (
        Counter::ClosedTransportError,
        CLOSED,
        Some("transport error"),
    ),
    (Counter::ClosedPingTimeout, CLOSED, Some("ping timeout")),
    (Counter::ClosedParseError, CLOSED, Some("parse error")),
    (Counter::ClosedForced, CLOSED, Some("forced close")),
    (
        Counter::ClosedShutdown,
        CLOSED,
        Some("server shutting down"),
    ),
    (Counter::ClosedOverflow, CLOSED, Some("overflow")),
    (Counter::MessagesReceived, "packetsIn", None),
    (Counter::FramesSent, "packetsOut", None),
    (Counter::BytesReceived, "bytesIn", None),
    (Counter::BytesSent, "bytesOut", None),
];
const CLOSED: &str = "rawDisconnection";
