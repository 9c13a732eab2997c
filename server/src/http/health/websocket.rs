//! The state of client connections: public counts, and details for readers of the metrics.

use std::sync::Arc;

use axum::{Json, extract::State};
use schemars::JsonSchema;
use serde::Serialize;

use crate::metrics::Metrics;
use crate::service::admin::Statistics;
use crate::service::api::{Readiness, gauge};
use roomcast::{Io, metrics::Gauge};

/// The state of this server's connections.
#[derive(Clone)]
pub(crate) struct Connections {
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) io: Io,
    pub(crate) readiness: Readiness,
}

/// The response of `GET /health/websocket`.
#[derive(Serialize, JsonSchema)]
pub(in crate::http) struct Counts {
    /// Connected clients, counted as Engine.IO sessions.
    sessions: usize,
    /// Sockets of all namespaces.
    sockets: u64,
    rooms: u64,
}

pub(in crate::http) async fn counts(State(at): State<Connections>) -> Json<Counts> {
    Json(Counts {
        sessions: at.io.clients_count(),
        sockets: gauge(&at.io, Gauge::Sockets),
        rooms: gauge(&at.io, Gauge::Rooms),
    })
}

pub(in crate::http) async fn details(State(at): State<Connections>) -> Json<Statistics> {
    Json(at.describe())
}

impl Connections {
    /// Returns the state of this server.
    pub(in crate::http) fn describe(&self) -> Statistics {
        Statistics::of(&self.io, &self.metrics, &self.readiness)
    }
}
