//! How the connections of clients are: counts for everybody, and the details for whom the metrics are.

use std::{sync::Arc, time::Duration};

use axum::{Json, extract::State};
use serde::Serialize;

use super::Readiness;
use crate::metrics::{Metrics, Timing};
use roomcast::{
    Io,
    metrics::{Gauge, Timing as Library},
};

/// What is looked at.
#[derive(Clone)]
pub(in crate::http) struct Connections {
    pub(in crate::http) metrics: Arc<Metrics>,
    pub(in crate::http) io: Io,
    pub(in crate::http) readiness: Readiness,
}

/// `GET /health/websocket`
#[derive(Serialize)]
pub(in crate::http) struct Counts {
    /// Clients that are connected, by Engine.IO sessions.
    sessions: usize,
    /// Sockets of all namespaces.
    sockets: u64,
    rooms: u64,
}

/// `GET /health/websocket/detailed`
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
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
#[derive(Serialize)]
struct Sessions {
    total: usize,
    polling: u64,
    websocket: u64,
}

/// The rooms of the chat.
#[derive(Serialize)]
struct Rooms {
    count: usize,
    /// Members of all of them; a socket that is in three counts three times.
    members: usize,
    largest: usize,
}

/// What waits.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Queues {
    /// Of all clients together.
    bytes: u64,
    /// Acknowledgements that clients have not sent yet.
    acks_pending: u64,
    /// Polls that wait for something to send.
    polls: u64,
}

#[derive(Serialize)]
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
#[derive(Serialize)]
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
    let rooms = at.io.of("/").rooms();
    let sizes = rooms.iter().map(|(_, members)| *members);
    let processing = Timing::MessageProcessing;
    let readiness = &at.readiness;
    Json(Details {
        sessions: Sessions {
            total: at.io.clients_count(),
            polling: at.gauge(Gauge::SessionsPolling),
            websocket: at.gauge(Gauge::SessionsWebSocket),
        },
        sockets: at.gauge(Gauge::Sockets),
        rooms: Rooms {
            count: rooms.len(),
            members: sizes.clone().sum(),
            largest: sizes.max().unwrap_or(0),
        },
        queues: Queues {
            bytes: at.gauge(Gauge::OutboxBytes),
            acks_pending: at.gauge(Gauge::AcksPending),
            polls: at.gauge(Gauge::PollsWaiting),
        },
        times: Times {
            delivery: at.library(Library::Queue),
            processing: Percentiles::new(at.metrics.timed(processing), |q| {
                at.metrics.quantile(processing, q)
            }),
            ping: at.library(Library::Ping),
        },
        store: readiness.store_word(),
        adapter: readiness.adapter_word(),
        nodes: at.io.nodes().len(),
        draining: readiness.is_draining(),
    })
}
