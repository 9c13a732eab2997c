//! Counters, gauges, durations and sizes of a server, rendered as Prometheus text.
//!
//! [`Metrics`] holds the metrics of the library. An application with metrics of its own declares a
//! table of rows with [`metric_table!`](crate::metric_table) and stores the values in [`Counters`],
//! [`Gauges`] and [`Histogram`]. It writes both into one [`Exposition`].
//!
//! Every row is one atomic, or a fixed number of atomics. Names that come from a peer never become
//! labels, so a table cannot grow. This module is a leaf: it must not depend on other modules.

mod exposition;
mod histogram;
mod table;

use std::time::Duration;

pub use exposition::Exposition;
pub use histogram::{Histogram, SIZES, TIMES};
pub use table::{Counters, Gauges, Row};

use crate::metric_table;

metric_table! {
    /// Values that only grow.
    pub enum Counter {
        SessionsOpened => "roomcast_sessions_opened_total",
        ClosedTransportClose => "roomcast_sessions_closed_total"["reason" = "transport close"],
        ClosedTransportError => "roomcast_sessions_closed_total"["reason" = "transport error"],
        ClosedPingTimeout => "roomcast_sessions_closed_total"["reason" = "ping timeout"],
        ClosedParseError => "roomcast_sessions_closed_total"["reason" = "parse error"],
        ClosedForced => "roomcast_sessions_closed_total"["reason" = "forced close"],
        ClosedServer => "roomcast_sessions_closed_total"["reason" = "forced server close"],
        ClosedShutdown => "roomcast_sessions_closed_total"["reason" = "server shutting down"],
        ClosedOverflow => "roomcast_sessions_closed_total"["reason" = "overflow"],
        Upgrades => "roomcast_upgrades_total"["result" = "done"],
        UpgradesFailed => "roomcast_upgrades_total"["result" = "failed"],
        RejectedTransport => "roomcast_requests_rejected_total"["reason" = "transport unknown"],
        RejectedSession => "roomcast_requests_rejected_total"["reason" = "session id unknown"],
        RejectedSessionMalformed => "roomcast_requests_rejected_total"["reason" = "session id malformed"],
        RejectedSessionOver => "roomcast_requests_rejected_total"["reason" = "session over"],
        RejectedSessionUnowned => "roomcast_requests_rejected_total"["reason" = "session of no known server"],
        RejectedSessionUnreached => "roomcast_requests_rejected_total"["reason" = "session not reached"],
        RejectedSessionMisdirected => "roomcast_requests_rejected_total"["reason" = "session of a third server"],
        RejectedMethod => "roomcast_requests_rejected_total"["reason" = "bad handshake method"],
        RejectedRequest => "roomcast_requests_rejected_total"["reason" = "bad request"],
        RejectedForbidden => "roomcast_requests_rejected_total"["reason" = "forbidden"],
        RejectedBusy => "roomcast_requests_rejected_total"["reason" = "busy"],
        RejectedHandshakeRate => "roomcast_requests_rejected_total"["reason" = "handshakes per second"],
        RejectedUnread => "roomcast_requests_rejected_total"["reason" = "handshakes under way"],
        RejectedDraining => "roomcast_requests_rejected_total"["reason" = "draining"],
        RejectedForged => "roomcast_requests_rejected_total"["reason" = "not handed on by a server"],
        RejectedVersion => "roomcast_requests_rejected_total"["reason" = "unsupported protocol version"],
        RejectedHandshake => "roomcast_requests_rejected_total"["reason" = "websocket handshake"],
        RejectedTooLarge => "roomcast_requests_rejected_total"["reason" = "payload too large"],
        RejectedTimeout => "roomcast_requests_rejected_total"["reason" = "timeout"],
        RejectedOverlap => "roomcast_requests_rejected_total"["reason" = "overlap"],
        RejectedLimited => "roomcast_requests_rejected_total"["reason" = "limited"],
        RejectedMalformed => "roomcast_requests_rejected_total"["reason" = "malformed http"],
        Forwarded => "roomcast_requests_forwarded_total"["result" = "done"],
        ForwardedFailed => "roomcast_requests_forwarded_total"["result" = "failed"],
        ForwardedFull => "roomcast_requests_forwarded_total"["result" = "full"],
        TunnelsRefused => "roomcast_tunnels_refused_total",
        ForwardedReceived => "roomcast_requests_forwarded_total"["result" = "received"],
        NodesUnproved => "roomcast_node_proofs_failed_total",
        FrameErrors => "roomcast_decode_errors_total"["layer" = "websocket"],
        EnginePacketErrors => "roomcast_decode_errors_total"["layer" = "engine.io"],
        SocketPacketErrors => "roomcast_decode_errors_total"["layer" = "socket.io"],
        MessagesReceived => "roomcast_messages_received_total",
        BytesReceived => "roomcast_bytes_received_total",
        FramesSent => "roomcast_frames_sent_total",
        BytesSent => "roomcast_bytes_sent_total",
        Writes => "roomcast_writes_total",
        VolatileDropped => "roomcast_frames_dropped_total"["reason" = "volatile"],
        FramesConflated => "roomcast_frames_dropped_total"["reason" = "conflated"],
        OldestDropped => "roomcast_frames_dropped_total"["reason" = "oldest"],
        SlowClientsDisconnected => "roomcast_slow_clients_cut_total"["budget" = "connection"],
        SlowClientsDisconnectedForAll => "roomcast_slow_clients_cut_total"["budget" = "total"],
        ReadsDelayed => "roomcast_reads_delayed_total",
        RefusedBlocked => "roomcast_connects_refused_total"["reason" = "blocked"],
        JoinsLimitedConnection => "roomcast_joins_limited_total"["by" = "connection"],
        JoinsLimitedAddress => "roomcast_joins_limited_total"["by" = "address"],
        RefusedRate => "roomcast_connects_refused_total"["reason" = "rate"],
        RefusedAddress => "roomcast_connects_refused_total"["reason" = "address connections"],
        RefusedFull => "roomcast_connects_refused_total"["reason" = "server connections"],
        ViolationsConnects => "roomcast_violations_total"["limit" = "connects"],
        ViolationsFlood => "roomcast_violations_total"["limit" = "flood"],
        ViolationsCredentials => "roomcast_violations_total"["limit" = "credentials"],
        BlocksAutomatic => "roomcast_blocks_automatic_total",
        TlsFailed => "roomcast_tls_handshakes_failed_total"["reason" = "error"],
        TlsTimeouts => "roomcast_tls_handshakes_failed_total"["reason" = "timeout"],
        TlsReloads => "roomcast_tls_reloads_total"["result" = "done"],
        TlsReloadsFailed => "roomcast_tls_reloads_total"["result" = "failed"],
        ProxyHeadersRejected => "roomcast_proxy_headers_rejected_total",
        AcceptErrors => "roomcast_accept_errors_total",
        SocketsConnected => "roomcast_sockets_connected_total",
        SocketsRefused => "roomcast_sockets_refused_total",
        EventsHandled => "roomcast_events_handled_total",
        EventsUnhandled => "roomcast_events_unhandled_total",
        EventsInvalid => "roomcast_events_invalid_total",
        HandlerPanics => "roomcast_handler_panics_total",
        HandlersSlow => "roomcast_handlers_slow_total",
        AcksTimedOut => "roomcast_acks_timed_out_total",
        AcksUnknown => "roomcast_acks_unknown_total",
        SessionsRecovered => "roomcast_recoveries_total"["result" = "recovered"],
        SessionsNotRecovered => "roomcast_recoveries_total"["result" = "fresh"],
        LookupsStarted => "roomcast_recovery_lookups_total"["result" = "asked"],
        LookupsLimited => "roomcast_recovery_lookups_total"["result" = "limited"],
        LookupsUnknown => "roomcast_recovery_lookups_total"["result" = "known to be unknown"],
        SessionsExpired => "roomcast_recovery_sessions_expired_total",
        EventsRepeated => "roomcast_events_repeated_total",
        TaskRestarts => "roomcast_task_restarts_total",
        ClusterSent => "roomcast_cluster_sent_total"["result" = "done"],
        ClusterUnsent => "roomcast_cluster_sent_total"["result" = "failed"],
        ClusterReceived => "roomcast_cluster_received_total"["result" = "done"],
        ClusterSkipped => "roomcast_cluster_received_total"["result" = "passed"],
        ClusterRepeated => "roomcast_cluster_received_total"["result" = "repeated"],
        ClusterUnknown => "roomcast_cluster_received_total"["result" = "unknown"],
        ClusterMalformed => "roomcast_cluster_received_total"["result" = "malformed"],
        ClusterPlain => "roomcast_cluster_received_total"["result" = "plain"],
        ClusterUnknownKey => "roomcast_cluster_received_total"["result" = "unknown_key"],
        ClusterForged => "roomcast_cluster_received_total"["result" = "forged"],
        ClusterReplayed => "roomcast_cluster_received_total"["result" = "replayed"],
        ClusterStale => "roomcast_cluster_received_total"["result" = "stale"],
        ClusterLost => "roomcast_cluster_lost_total",
        ClusterRepliesUnknown => "roomcast_cluster_replies_unknown_total",
        ClusterRequestsRefused => "roomcast_cluster_requests_refused_total",
        ClusterRequestsTimedOut => "roomcast_cluster_requests_timed_out_total",
    }
}

metric_table! {
    /// Values that grow and shrink.
    pub enum Gauge {
        Connections => "roomcast_connections",
        Draining => "roomcast_draining",
        SessionsPolling => "roomcast_sessions"["transport" = "polling"],
        SessionsWebSocket => "roomcast_sessions"["transport" = "websocket"],
        PollsWaiting => "roomcast_requests_waiting"["for" = "packets"],
        PostsWaiting => "roomcast_requests_waiting"["for" = "body"],
        RequestsForwarded => "roomcast_requests_waiting"["for" = "another server"],
        Tunnels => "roomcast_tunnels",
        OutboxBytes => "roomcast_outbox_bytes",
        Sockets => "roomcast_sockets",
        Rooms => "roomcast_rooms",
        AcksPending => "roomcast_acks_pending",
        HandlersDetached => "roomcast_handlers_detached",
        TlsHandshakes => "roomcast_tls_handshakes",
        Blocks => "roomcast_blocks",
        LimitedAddresses => "roomcast_limited_addresses",
        RecoverySessions => "roomcast_recovery_sessions",
        RecoveryBytes => "roomcast_recovery_bytes",
        IdempotentAnswers => "roomcast_idempotent_answers",
        TasksDown => "roomcast_tasks_ended",
        ClusterRequests => "roomcast_cluster_requests",
    }
}

metric_table! {
    /// Durations.
    pub enum Timing {
        /// From queueing the first frame of a flusher's round until all WebSockets of the round
        /// have been written. One round in sixteen is measured.
        Queue => "roomcast_queue_seconds",
        /// From when a client stops reading until it has received everything that was queued.
        /// Disconnected clients are not included.
        SlowClient => "roomcast_slow_client_seconds",
        /// From queueing a ping for a WebSocket until its pong arrives.
        Ping => "roomcast_ping_seconds",
    }
}

metric_table! {
    /// Sizes.
    pub enum Size {
        /// The bytes queued for a session when its ping is due: its frames, and 256 bytes for each.
        Queued => "roomcast_queued_bytes",
    }
}

/// The metrics of one server. Shared by reference. A count is one relaxed addition; a duration or
/// size is two.
#[derive(Debug)]
pub struct Metrics {
    counters: Counters<{ Counter::ROWS.len() }>,
    gauges: Gauges<{ Gauge::ROWS.len() }>,
    timings: [Histogram<{ TIMES.len() }>; Timing::ROWS.len()],
    sizes: [Histogram<{ SIZES.len() }>; Size::ROWS.len()],
}

impl Metrics {
    /// Creates metrics with all rows at zero.
    #[must_use]
    pub fn new() -> Self {
        Self {
            counters: Counters::new(),
            gauges: Gauges::new(),
            timings: [const { Histogram::new(&TIMES) }; Timing::ROWS.len()],
            sizes: [const { Histogram::new(&SIZES) }; Size::ROWS.len()],
        }
    }

    /// Adds one to a counter.
    pub fn count(&self, counter: Counter) {
        self.add(counter, 1);
    }

    /// Adds `n` to a counter.
    pub fn add(&self, counter: Counter, n: u64) {
        self.counters.add(counter as usize, n);
    }

    /// Returns the value of a counter.
    #[must_use]
    pub fn counter(&self, counter: Counter) -> u64 {
        self.counters.value(counter as usize)
    }

    /// Changes a gauge by `delta`.
    pub fn shift(&self, gauge: Gauge, delta: i64) {
        self.gauges.shift(gauge as usize, delta);
    }

    /// Returns the value of a gauge.
    #[must_use]
    pub fn gauge(&self, gauge: Gauge) -> i64 {
        self.gauges.value(gauge as usize)
    }

    /// Records a duration.
    pub fn time(&self, timing: Timing, took: Duration) {
        if let Some(histogram) = self.timings.get(timing as usize) {
            histogram.time(took);
        }
    }

    /// Returns the number of recorded durations.
    #[must_use]
    pub fn timed(&self, timing: Timing) -> u64 {
        self.timings
            .get(timing as usize)
            .map_or(0, Histogram::count)
    }

    /// Returns the duration below which this fraction (0 to 1) of the recorded durations lie, or
    /// `None` if none was recorded. The precision depends on the width of the buckets.
    #[must_use]
    pub fn quantile(&self, timing: Timing, part: f64) -> Option<Duration> {
        self.timings.get(timing as usize)?.time_quantile(part)
    }

    /// Records a size in bytes.
    pub fn size(&self, size: Size, bytes: usize) {
        if let Some(histogram) = self.sizes.get(size as usize) {
            histogram.note(bytes as u64);
        }
    }

    /// Returns the number of recorded sizes.
    #[must_use]
    pub fn sized(&self, size: Size) -> u64 {
        self.sizes.get(size as usize).map_or(0, Histogram::count)
    }

    /// Writes all rows.
    pub fn expose(&self, out: &mut Exposition) {
        out.counters(Counter::ROWS, &self.counters);
        out.gauges(Gauge::ROWS, &self.gauges);
        for ((family, _), histogram) in Timing::ROWS.iter().zip(&self.timings) {
            out.seconds(family, histogram);
        }
        for ((family, _), histogram) in Size::ROWS.iter().zip(&self.sizes) {
            out.bytes(family, histogram);
        }
    }

    /// Renders all rows in the Prometheus text format (version 0.0.4).
    #[must_use]
    pub fn render(&self) -> String {
        let mut out = Exposition::default();
        self.expose(&mut out);
        out.to_string()
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_rendered_with_one_type_line_per_family() {
        let metrics = Metrics::new();
        metrics.count(Counter::ClosedPingTimeout);
        metrics.shift(Gauge::Sockets, 3);
        metrics.shift(Gauge::Sockets, -1);
        let text = metrics.render();
        assert!(text.contains("roomcast_sessions_closed_total{reason=\"ping timeout\"} 1\n"));
        assert!(text.contains("# TYPE roomcast_sockets gauge\nroomcast_sockets 2\n"));
        assert_eq!(
            text.matches("# TYPE roomcast_sessions_closed_total")
                .count(),
            1
        );
    }

    #[test]
    fn a_time_counts_in_its_bucket_and_all_that_follow() {
        let metrics = Metrics::new();
        for microseconds in [200, 1_000, 1_001, 9_000_000] {
            metrics.time(Timing::SlowClient, Duration::from_micros(microseconds));
        }
        assert_eq!(metrics.timed(Timing::SlowClient), 4);
        let text = metrics.render();
        let (_, rows) = text
            .split_once("# TYPE roomcast_slow_client_seconds histogram\n")
            .unwrap();
        for row in [
            "_bucket{le=\"0.0001\"} 0\n",
            "_bucket{le=\"0.00025\"} 1\n",
            "_bucket{le=\"0.001\"} 2\n",
            "_bucket{le=\"0.002\"} 3\n",
            "_bucket{le=\"5\"} 3\n",
            "_bucket{le=\"+Inf\"} 4\n",
            "_sum 9.002201\n",
            "_count 4\n",
        ] {
            assert!(rows.contains(row), "{row}: {rows}");
        }
    }
    #[test]
    fn a_size_of_nothing_is_a_bucket_of_its_own() {
        let metrics = Metrics::new();
        for bytes in [0, 0, 1, 1024, 1025, 100 << 20] {
            metrics.size(Size::Queued, bytes);
        }
        assert_eq!(metrics.sized(Size::Queued), 6);
        let text = metrics.render();
        for row in [
            "# TYPE roomcast_queued_bytes histogram\n",
            "_bytes_bucket{le=\"0\"} 2\n",
            "_bytes_bucket{le=\"1024\"} 4\n",
            "_bytes_bucket{le=\"4096\"} 5\n",
            "_bytes_bucket{le=\"16777216\"} 5\n",
            "_bytes_bucket{le=\"+Inf\"} 6\n",
            "_bytes_sum 104859650\n",
            "_bytes_count 6\n",
        ] {
            assert!(text.contains(row), "{row}: {text}");
        }
    }
}
