//! How the connections of clients are: counts for everybody, and the details for whom the metrics are.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Serialize;

use super::Readiness;
use crate::metrics::{Metrics, Timing};
use roomcast::{
    Io,
    metrics::{Gauge, Timing as Library},
};

/// The server whose connections are looked at.
#[derive(Clone)]
pub(crate) struct Connections {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) io: Io,
    pub(crate) readiness: Readiness,
}

/// `GET /health/websocket`
#[derive(Serialize, JsonSchema)]
pub(in crate::http) struct Counts {
    /// Clients that are connected, by Engine.IO sessions.
    sessions: usize,
    /// Sockets of all namespaces.
    sockets: u64,
    rooms: u64,
}

/// How a server is: `GET /health/websocket/detailed` and `GET /api/v1/stats`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Statistics")]
pub(in crate::http) struct Details {
    sessions: Sessions,
    sockets: u64,
    rooms: Rooms,
    queues: Queues,
    /// Since the server was started.
    times: Times,
    store: &'static str,
    adapter: &'static str,
    /// Servers of the cluster, this one among them.
    nodes: usize,
    draining: bool,
}

/// Sessions by what carries them now.
#[derive(Serialize, JsonSchema)]
struct Sessions {
    total: usize,
    polling: u64,
    websocket: u64,
}

/// The rooms of the chat.
#[derive(Serialize, JsonSchema)]
#[schemars(rename = "RoomTotals")]
struct Rooms {
    count: usize,
    /// Members of all of them; a socket that is in three counts three times.
    members: usize,
    largest: usize,
}

/// Bytes, acknowledgements and polls that wait.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Queues {
    /// Of all clients together.
    bytes: u64,
    /// Acknowledgements that clients have not sent yet.
    acks_pending: u64,
    /// Polls that wait for something to send.
    polls: u64,
}

/// How long things take.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Times {
    /// From when something is queued for WebSockets until all of them have been written to.
    delivery: Percentiles,
    /// From when a message is received until it is stored and queued.
    processing: Percentiles,
    /// From a ping on a WebSocket to its pong.
    ping: Percentiles,
}

/// Milliseconds below which so many percent are; absent as long as there is none.
#[derive(Serialize, JsonSchema)]
struct Percentiles {
    count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p95: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    p99: Option<f64>,
}

impl Percentiles {
    fn new(count: u64, quantile: impl Fn(f64) -> Option<Duration>) -> Self {
        let millis = |q| {
            let micros = quantile(q)?.as_micros();
            Some(micros as f64 / 1e3)
        };
        Self {
            count,
            p50: millis(0.5),
            p95: millis(0.95),
            p99: millis(0.99),
        }
    }
}

impl Connections {
    fn gauge(&self, gauge: Gauge) -> u64 {
        u64::try_from(self.metrics.library().gauge(gauge)).unwrap_or(0)
    }

    fn library(&self, timing: Library) -> Percentiles {
        let library = self.metrics.library();
        Percentiles::new(library.timed(timing), |q| library.quantile(timing, q))
    }
}

pub(in crate::http) async fn counts(State(at): State<Connections>) -> Json<Counts> {
    Json(Counts {
        sessions: at.io.clients_count(),
        sockets: at.gauge(Gauge::Sockets),
        rooms: at.gauge(Gauge::Rooms),
    })
}

pub(in crate::http) async fn details(State(at): State<Connections>) -> Json<Details> {
    Json(at.describe())
}

impl Connections {
    /// How this server is.
    pub(in crate::http) fn describe(&self) -> Details {
        let rooms = self.io.of("/").rooms();
        let sizes = rooms.iter().map(|(_, members)| *members);
        let processing = Timing::MessageProcessing;
        let readiness = &self.readiness;
        Details {
            sessions: Sessions {
                total: self.io.clients_count(),
                polling: self.gauge(Gauge::SessionsPolling),
                websocket: self.gauge(Gauge::SessionsWebSocket),
            },
            sockets: self.gauge(Gauge::Sockets),
            rooms: Rooms {
                count: rooms.len(),
                members: sizes.clone().sum(),
                largest: sizes.max().unwrap_or(0),
            },
            queues: Queues {
                bytes: self.gauge(Gauge::OutboxBytes),
                acks_pending: self.gauge(Gauge::AcksPending),
                polls: self.gauge(Gauge::PollsWaiting),
            },
            times: Times {
                delivery: self.library(Library::Queue),
                processing: Percentiles::new(self.metrics.timed(processing), |q| {
                    self.metrics.quantile(processing, q)
                }),
                ping: self.library(Library::Ping),
            },
            store: readiness.store_word(),
            adapter: readiness.adapter_word(),
            nodes: self.io.nodes().len(),
            draining: readiness.is_draining(),
        }
    }
}
