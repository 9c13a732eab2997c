//! The statistics of a server.

use std::time::Duration;

use super::health::Readiness;
use crate::metrics::{Metrics, Timing};
use crate::service::chat::is_user_room;
use crate::service::rules::admin::commands::{
    AdapterState, Percentiles, Queues, Rooms, Sessions, Statistics, Times, Traffic,
};
use roomcast::{
    Io,
    adapter::Health,
    metrics::{Counter, Gauge, Timing as Library},
};

impl Statistics {
    /// Returns the current statistics of this server.
    pub(crate) fn of(io: &Io, metrics: &Metrics, readiness: &Readiness) -> Self {
        let rooms = io.of("/").rooms();
        let sizes = rooms.iter().map(|(_, members)| *members);
        // Every socket of the chat is in the room of its user.
        let users = rooms.iter().filter(|(room, _)| is_user_room(room)).count();
        let processing = Timing::MessageProcessing;
        let library = |timing: Library| {
            let library = io.metrics();
            percentiles(library.timed(timing), |q| library.quantile(timing, q))
        };
        let nodes = io.nodes();
        let this = nodes.iter().find(|node| node.is_this);
        Self {
            node: this.map_or_else(String::new, |node| node.id.to_string()),
            sessions: Sessions {
                total: io.clients_count(),
                polling: gauge(io, Gauge::SessionsPolling),
                websocket: gauge(io, Gauge::SessionsWebSocket),
            },
            sockets: gauge(io, Gauge::Sockets),
            users,
            rooms: Rooms {
                count: rooms.len(),
                members: sizes.clone().sum(),
                largest: sizes.max().unwrap_or(0),
            },
            traffic: Traffic::of(io.metrics()),
            queues: Queues {
                bytes: gauge(io, Gauge::OutboxBytes),
                acks_pending: gauge(io, Gauge::AcksPending),
                polls: gauge(io, Gauge::PollsWaiting),
            },
            times: Times {
                delivery: library(Library::Queue),
                processing: percentiles(metrics.timed(processing), |q| {
                    metrics.quantile(processing, q)
                }),
                ping: library(Library::Ping),
            },
            store: readiness.store_word().into(),
            adapter: readiness.adapter_word().into(),
            adapter_state: AdapterState::of(io),
            nodes: nodes.len(),
            draining: readiness.is_draining(),
        }
    }
}

impl Traffic {
    fn of(library: &roomcast::metrics::Metrics) -> Self {
        Self {
            received: library.counter(Counter::MessagesReceived),
            sent: library.counter(Counter::FramesSent),
            bytes_received: library.counter(Counter::BytesReceived),
            bytes_sent: library.counter(Counter::BytesSent),
        }
    }
}

impl AdapterState {
    /// Returns the state of the adapter, if there is one.
    fn of(io: &Io) -> Option<Self> {
        let health = io.adapter_health()?;
        let backlog = io.adapter_backlog().unwrap_or_default();
        let gaps = io.adapter_gaps().unwrap_or_default();
        let library = io.metrics();
        Some(Self {
            up: health == Health::Ready,
            lost: library.counter(Counter::ClusterLost),
            gaps: gaps.count,
            gap_ms: millis(gaps.time),
            unsent: library.counter(Counter::ClusterUnsent),
            queued: backlog.messages,
            queued_bytes: backlog.bytes,
            lag: backlog.lag.map(millis),
        })
    }
}

/// Returns a gauge of the library, which is never negative.
pub(crate) fn gauge(io: &Io, gauge: Gauge) -> u64 {
    u64::try_from(io.metrics().gauge(gauge)).unwrap_or(0)
}

fn percentiles(count: u64, quantile: impl Fn(f64) -> Option<Duration>) -> Percentiles {
    let percentile = |q| quantile(q).map(millis);
    Percentiles {
        count,
        p50: percentile(0.5),
        p95: percentile(0.95),
        p99: percentile(0.99),
    }
}

fn millis(duration: Duration) -> f64 {
    duration.as_micros() as f64 / 1e3
}
