//! How the connections of clients are: counts for everybody, and the details for whom the metrics are.

use std::sync::Arc;

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Serialize;

use crate::metrics::Metrics;
use crate::service::admin::Statistics;
use crate::service::api::{Readiness, gauge};
use roomcast::{Io, metrics::Gauge};

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

pub(in crate::http) async fn counts(State(at): State<Connections>) -> Json<Counts> {
    Json(Counts {
        sessions: at.io.clients_count(),
        sockets: gauge(&at.metrics, Gauge::Sockets),
        rooms: gauge(&at.metrics, Gauge::Rooms),
    })
}

pub(in crate::http) async fn details(State(at): State<Connections>) -> Json<Statistics> {
    Json(at.describe())
}

impl Connections {
    /// How this server is.
    pub(in crate::http) fn describe(&self) -> Statistics {
        Statistics::of(&self.io, &self.metrics, &self.readiness)
    }
}
