//! Counters, gauges, durations and sizes of a server, rendered as Prometheus text.
//!
//! [`Metrics`] is the registry of a server, [`Io::metrics`](crate::Io::metrics), with the rows of
//! the library. An application declares its rows with [`metric_table!`](crate::metric_table),
//! stores their values in a [`Registry`] of its own, and [extends](Registry::extend) that of the
//! server with it. One text has all rows.
//!
//! Each family has one sentence of help, which the table states once. Its name ends in its unit,
//! because version 0.0.4 of the text format has no `# UNIT` line.
//!
//! Every row is one atomic, or a fixed number of atomics. Names that come from a peer never become
//! labels, so a table cannot grow. This module is a leaf: it must not depend on other modules.

mod exposition;
mod histogram;
mod registry;
mod table;

pub use exposition::Exposition;
pub use histogram::DurationCounts;
pub use registry::Registry;
pub use table::{Row, Table};

use crate::metric_table;

/// The registry of one server, with the rows of the library. Shared by reference.
pub type Metrics = Registry<Counter, Gauge, Timing, Size>;

metric_table! {
    /// Values that only grow.
    pub enum Counter {
        "roomcast_sessions_opened_total" => "Engine.IO sessions opened." { SessionsOpened }
        "roomcast_sessions_closed_total" => "Engine.IO sessions closed, by reason." {
            ClosedTransportClose["reason" = "transport_close"],
            ClosedTransportError["reason" = "transport_error"],
            ClosedPingTimeout["reason" = "ping_timeout"],
            ClosedParseError["reason" = "parse_error"],
            ClosedForced["reason" = "forced_close"],
            ClosedShutdown["reason" = "server_shutting_down"],
            ClosedOverflow["reason" = "overflow"],
        }
        "roomcast_upgrades_total" => "Upgrades of sessions from polling to WebSocket, by result." {
            Upgrades["result" = "done"],
            UpgradesFailed["result" = "failed"],
        }
        "roomcast_requests_rejected_total" =>
            "HTTP requests and connections rejected by the engine, by reason." {
            RejectedTransport["reason" = "transport_unknown"],
            RejectedSession["reason" = "session_id_unknown"],
            RejectedSessionMalformed["reason" = "session_id_malformed"],
            RejectedSessionOver["reason" = "session_over"],
            RejectedSessionUnowned["reason" = "session_of_no_known_server"],
            RejectedSessionUnreached["reason" = "session_not_reached"],
            RejectedSessionMisdirected["reason" = "session_of_a_third_server"],
            RejectedMethod["reason" = "bad_handshake_method"],
            RejectedRequest["reason" = "bad_request"],
            RejectedForbidden["reason" = "forbidden"],
            RejectedBusy["reason" = "busy"],
            RejectedHandshakeRate["reason" = "handshakes_per_second"],
            RejectedUnread["reason" = "handshakes_in_flight"],
            RejectedDraining["reason" = "draining"],
            RejectedForged["reason" = "not_forwarded_by_a_server"],
            RejectedVersion["reason" = "unsupported_protocol_version"],
            RejectedHandshake["reason" = "websocket_handshake"],
            RejectedTooLarge["reason" = "payload_too_large"],
            RejectedTimeout["reason" = "timeout"],
            RejectedOverlap["reason" = "overlap"],
            RejectedLimited["reason" = "limited"],
            RejectedMalformed["reason" = "malformed_http"],
        }
        "roomcast_requests_forwarded_total" =>
            "Requests forwarded to other servers or received from them, by result." {
            Forwarded["result" = "done"],
            ForwardedFailed["result" = "failed"],
            ForwardedFull["result" = "full"],
            ForwardedReceived["result" = "received"],
        }
        "roomcast_tunnels_refused_total" =>
            "WebSockets for sessions of other servers refused at the tunnel limit." {
            TunnelsRefused,
        }
        "roomcast_node_proofs_failed_total" =>
            "Connections to servers that did not prove their identity." {
            NodesUnproved,
        }
        "roomcast_decode_errors_total" =>
            "Frames and packets that could not be decoded, by protocol layer." {
            FrameErrors["layer" = "websocket"],
            EnginePacketErrors["layer" = "engine.io"],
            SocketPacketErrors["layer" = "socket.io"],
        }
        "roomcast_messages_received_total" => "Engine.IO messages received from clients." {
            MessagesReceived,
        }
        "roomcast_bytes_received_total" => "Bytes of the messages received from clients." {
            BytesReceived,
        }
        "roomcast_frames_sent_total" => "Frames sent to clients." { FramesSent }
        "roomcast_bytes_sent_total" => "Bytes sent to clients." { BytesSent }
        "roomcast_writes_total" => "Writes to connections of clients." { Writes }
        "roomcast_frames_dropped_total" => "Frames dropped instead of sent, by reason." {
            VolatileDropped["reason" = "volatile"],
            FramesConflated["reason" = "conflated"],
            OldestDropped["reason" = "oldest"],
        }
        "roomcast_slow_clients_disconnected_total" =>
            "Clients disconnected because their queue exceeded a budget, by budget." {
            SlowClientsDisconnected["budget" = "connection"],
            SlowClientsDisconnectedForAll["budget" = "total"],
        }
        "roomcast_reads_delayed_total" => "Reads delayed because a client exceeded its send rate." {
            ReadsDelayed,
        }
        "roomcast_connects_refused_total" =>
            "Connections refused by blocks and limits, by reason." {
            RefusedBlocked["reason" = "blocked"],
            RefusedRate["reason" = "rate"],
            RefusedAddress["reason" = "address_connections"],
            RefusedFull["reason" = "server_connections"],
        }
        "roomcast_joins_limited_total" => "CONNECT packets refused by a rate limit, by limit." {
            JoinsLimitedConnection["by" = "connection"],
            JoinsLimitedAddress["by" = "address"],
        }
        "roomcast_violations_total" => "Violations of limits by clients, by limit." {
            ViolationsConnects["limit" = "connects"],
            ViolationsFlood["limit" = "flood"],
            ViolationsCredentials["limit" = "credentials"],
        }
        "roomcast_blocks_automatic_total" => "Addresses blocked automatically after violations." {
            BlocksAutomatic,
        }
        "roomcast_tls_handshakes_done_total" =>
            "TLS handshakes that succeeded: in full, or resumed with a ticket or session id." {
            TlsFull["kind" = "full"],
            TlsResumed["kind" = "resumed"],
        }
        "roomcast_tls_handshakes_failed_total" => "TLS handshakes that failed, by reason." {
            TlsFailed["reason" = "error"],
            TlsTimeouts["reason" = "timeout"],
        }
        "roomcast_tls_reloads_total" => "Reloads of the TLS certificate, by result." {
            TlsReloads["result" = "done"],
            TlsReloadsFailed["result" = "failed"],
        }
        "roomcast_proxy_headers_rejected_total" =>
            "Connections rejected because of their PROXY protocol header." {
            ProxyHeadersRejected,
        }
        "roomcast_accept_errors_total" => "Errors of the listener when it accepted connections." {
            AcceptErrors,
        }
        "roomcast_sockets_connected_total" => "Sockets connected to a namespace." {
            SocketsConnected,
        }
        "roomcast_sockets_refused_total" =>
            "Requests to connect to a namespace that were refused." {
            SocketsRefused,
        }
        "roomcast_events_handled_total" => "Events passed to a handler." { EventsHandled }
        "roomcast_events_unhandled_total" => "Events received without a handler for their name." {
            EventsUnhandled,
        }
        "roomcast_events_invalid_total" => "Events refused because of their arguments." {
            EventsInvalid,
        }
        "roomcast_handler_panics_total" => "Panics in functions of the application." {
            HandlerPanics,
        }
        "roomcast_handlers_slow_total" =>
            "Handler steps that blocked their connection for more than 10 ms." {
            HandlersSlow,
        }
        "roomcast_acks_timed_out_total" => "Acknowledgements that did not arrive in time." {
            AcksTimedOut,
        }
        "roomcast_acks_unknown_total" =>
            "Acknowledgements received for events that did not wait for them." {
            AcksUnknown,
        }
        "roomcast_recoveries_total" => "Attempts of clients to recover a session, by result." {
            SessionsRecovered["result" = "recovered"],
            SessionsNotRecovered["result" = "fresh"],
        }
        "roomcast_recovery_lookups_total" =>
            "Queries to other servers for recoverable sessions, by result." {
            LookupsStarted["result" = "asked"],
            LookupsLimited["result" = "limited"],
            LookupsUnknown["result" = "known_to_be_unknown"],
        }
        "roomcast_recovery_sessions_expired_total" => "Recoverable sessions that expired." {
            SessionsExpired,
        }
        "roomcast_events_repeated_total" =>
            "Events answered as repetitions of an event with the same key." {
            EventsRepeated,
        }
        "roomcast_task_restarts_total" => "Restarts of tasks that ended unexpectedly." {
            TaskRestarts,
        }
        "roomcast_cluster_sent_total" => "Envelopes for other servers, by result." {
            ClusterSent["result" = "done"],
            ClusterUnsent["result" = "failed"],
        }
        "roomcast_cluster_received_total" => "Envelopes received from other servers, by result." {
            ClusterReceived["result" = "done"],
            ClusterSkipped["result" = "skipped"],
            ClusterRepeated["result" = "repeated"],
            ClusterUnknown["result" = "unknown"],
            ClusterMalformed["result" = "malformed"],
            ClusterPlain["result" = "plain"],
            ClusterUnknownKey["result" = "unknown_key"],
            ClusterForged["result" = "forged"],
            ClusterReplayed["result" = "replayed"],
            ClusterStale["result" = "stale"],
        }
        "roomcast_cluster_lost_total" =>
            "Envelopes to or from other servers that are known to be lost, without heartbeats on a broken connection." {
            ClusterLost,
        }
        "roomcast_cluster_replies_unknown_total" =>
            "Replies of other servers to requests that no longer wait." {
            ClusterRepliesUnknown,
        }
        "roomcast_cluster_requests_refused_total" =>
            "Requests to other servers refused at the limit of pending requests." {
            ClusterRequestsRefused,
        }
        "roomcast_cluster_requests_timed_out_total" =>
            "Requests that not all other servers answered in time." {
            ClusterRequestsTimedOut,
        }
    }
}

metric_table! {
    /// Values that grow and shrink.
    pub enum Gauge {
        "roomcast_connections" => "Open connections." { Connections }
        "roomcast_draining" => "1 while the server drains, otherwise 0." { Draining }
        "roomcast_sessions" => "Open Engine.IO sessions, by transport." {
            SessionsPolling["transport" = "polling"],
            SessionsWebSocket["transport" = "websocket"],
        }
        "roomcast_requests_waiting" => "Requests that wait, by what they wait for." {
            PollsWaiting["for" = "packets"],
            PostsWaiting["for" = "body"],
            RequestsForwarded["for" = "another_server"],
        }
        "roomcast_tunnels" =>
            "WebSockets of sessions on other servers that pass through this server." {
            Tunnels,
        }
        "roomcast_outbox_bytes" => "Bytes queued for clients." { OutboxBytes }
        "roomcast_deflate_connections" =>
            "WebSockets with compression contexts of their own (context takeover)." {
            DeflateConnections,
        }
        "roomcast_deflate_context_bytes" => "About the bytes of these compression contexts." {
            DeflateContextBytes,
        }
        "roomcast_sockets" => "Connected sockets." { Sockets }
        "roomcast_rooms" => "Rooms with at least one member." { Rooms }
        "roomcast_acks_pending" => "Acknowledgements that the server waits for." { AcksPending }
        "roomcast_handlers_detached" => "Running handlers whose socket has disconnected." {
            HandlersDetached,
        }
        "roomcast_tls_handshakes" => "TLS handshakes in progress." { TlsHandshakes }
        "roomcast_blocks" => "Blocked addresses and networks." { Blocks }
        "roomcast_limited_addresses" => "Addresses whose usage of limits is stored." {
            LimitedAddresses,
        }
        "roomcast_recovery_sessions" => "Disconnected sessions that clients can recover." {
            RecoverySessions,
        }
        "roomcast_recovery_bytes" => "Bytes stored for recovery." { RecoveryBytes }
        "roomcast_idempotent_answers" => "Answers stored for repeated events." { IdempotentAnswers }
        "roomcast_tasks_down" => "Tasks that ended unexpectedly and do not run again yet." {
            TasksDown,
        }
        "roomcast_cluster_requests" => "Pending requests to other servers." { ClusterRequests }
    }
}

metric_table! {
    /// Durations.
    pub enum Timing {
        "roomcast_queue_seconds" =>
            "Time from queueing a frame until all WebSockets of its round are written." {
            /// From queueing the first frame of a flusher's round until all WebSockets of the round
            /// have been written. One round in sixteen is measured.
            Queue,
        }
        "roomcast_slow_client_seconds" =>
            "Time from when a client stops reading until it has received its queue." {
            /// From when a client stops reading until it has received everything that was queued.
            /// Disconnected clients are not included.
            SlowClient,
        }
        "roomcast_ping_seconds" =>
            "Time from queueing a ping for a WebSocket until its pong arrives." {
            Ping,
        }
    }
}

metric_table! {
    /// Sizes.
    pub enum Size {
        "roomcast_queued_bytes" => "Bytes queued for a session when its ping is due." {
            /// The bytes queued for a session when its ping is due: its frames, and 256 bytes for
            /// each.
            Queued,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, time::Duration};

    use super::*;

    #[test]
    fn rows_are_rendered_with_one_type_line_per_family() {
        let metrics = Metrics::new();
        metrics.count(Counter::ClosedPingTimeout);
        metrics.shift(Gauge::Sockets, 3);
        metrics.shift(Gauge::Sockets, -1);
        let text = metrics.render();
        assert!(text.contains("roomcast_sessions_closed_total{reason=\"ping_timeout\"} 1\n"));
        assert!(text.contains(
            "# HELP roomcast_sockets Connected sockets.\n\
             # TYPE roomcast_sockets gauge\nroomcast_sockets 2\n"
        ));
        assert_eq!(
            text.matches("# TYPE roomcast_sessions_closed_total")
                .count(),
            1
        );
    }

    #[test]
    fn each_family_has_one_help_sentence_and_labels_without_spaces() {
        let tables = [Counter::ROWS, Gauge::ROWS, Timing::ROWS, Size::ROWS];
        let rows: Vec<&Row> = tables.into_iter().flatten().collect();
        for row in &rows {
            assert!(row.help.ends_with('.'), "{row:?}");
            assert!(!row.help.contains(['\n', '\\']), "{row:?}");
            assert!(!row.labels.contains(' '), "{row:?}");
            for other in &rows {
                assert!(
                    row.family != other.family || row.help == other.help,
                    "{row:?}"
                );
            }
        }
        let text = Metrics::new().render();
        let families = text.matches("# TYPE ").count();
        assert_eq!(text.matches("# HELP ").count(), families);
        let count: HashSet<&str> = rows.iter().map(|row| row.family).collect();
        assert_eq!(families, count.len());
    }

    #[test]
    fn the_name_of_each_family_ends_in_its_unit() {
        for (rows, unit) in [
            (Counter::ROWS, "_total"),
            (Timing::ROWS, "_seconds"),
            (Size::ROWS, "_bytes"),
        ] {
            assert!(rows.iter().all(|row| row.family.ends_with(unit)), "{unit}");
        }
        assert!(!Gauge::ROWS.iter().any(|row| row.family.ends_with("_total")));
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
    fn size_zero_has_its_own_bucket() {
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
