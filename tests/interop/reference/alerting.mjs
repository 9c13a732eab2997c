// How to alert on metrics that no rule of `deploy/prometheus/rules.yml` uses, where more can be
// said than how to alert on any counter, gauge or histogram. Each has an expression and what it
// means.

/** Growth of a counter within five minutes. */
const grows = (selector, more = 0) => `increase(${selector}[5m]) > ${more}`;
/** Events of a counter per second, at one server. */
const faster = (selector, limit) => `sum by (instance) (rate(${selector}[5m])) > ${limit}`;
/** The share of some events of a counter in all of them. */
const share = (part, all, limit) => `sum by (instance) (rate(${part}[5m])) / sum by (instance) (rate(${all}[5m]) > 0) > ${limit}`;
/** A percentile of a histogram. */
const percentile = (name, limit, of = 0.99) => `histogram_quantile(${of}, sum by (instance, le) (rate(${name}_bucket[5m]))) > ${limit}`;

export const alerting = {
  // Sessions and transports.
  roomcast_sessions_closed_total: [share('roomcast_sessions_closed_total{reason=~"ping_timeout|transport_error|overflow"}', "roomcast_sessions_closed_total", 0.5), "most sessions end because of the network, a proxy or slow clients"],
  roomcast_upgrades_total: [share('roomcast_upgrades_total{result="failed"}', "roomcast_upgrades_total", 0.2), "a proxy does not pass WebSockets"],
  roomcast_requests_rejected_total: [faster('roomcast_requests_rejected_total{reason="session_id_unknown"}', 1), "the load balancer sends requests of a session to another server. `busy`, `handshakes_in_flight` and `handshakes_per_second` are a server at its limit"],
  roomcast_requests_forwarded_total: [faster('roomcast_requests_forwarded_total{result=~"failed|full"}', 1), "servers do not reach each other at `node.address`"],
  roomcast_tunnels_refused_total: [grows("roomcast_tunnels_refused_total"), "the load balancer sends too many WebSockets to the wrong server"],
  roomcast_node_proofs_failed_total: [grows("roomcast_node_proofs_failed_total"), "another process listens at the address of a server, or their secrets differ"],
  roomcast_decode_errors_total: [faster("roomcast_decode_errors_total", 1), "clients or a proxy send broken packets"],
  roomcast_accept_errors_total: [grows("roomcast_accept_errors_total"), "the process has no free file descriptors"],
  roomcast_proxy_headers_rejected_total: [grows("roomcast_proxy_headers_rejected_total"), "the load balancer sends no PROXY protocol, or is not in `server.trusted_proxies`"],
  roomcast_tls_reloads_total: [grows('roomcast_tls_reloads_total{result="failed"}'), "the changed certificate cannot be loaded"],
  roomcast_certificate_orders_total: [grows('roomcast_certificate_orders_total{result="failed"}'), "the authority issues no certificate"],
  roomcast_draining: ["roomcast_draining == 1", "a drain does not end; with `for: 10m`, longer than `server.drain`"],
  roomcast_sessions: ['sum by (instance) (roomcast_sessions{transport="polling"}) / sum by (instance) (roomcast_sessions > 0) > 0.5', "most clients cannot use WebSockets"],
  // Queues, drops and slow clients.
  roomcast_frames_dropped_total: [faster('roomcast_frames_dropped_total{reason!="conflated"}', 10), "clients do not receive volatile or older events. `conflated` is normal: a newer event has replaced the dropped one"],
  roomcast_slow_clients_disconnected_total: [grows("roomcast_slow_clients_disconnected_total", 10), "clients do not read. With the budget `total`, the queues of all clients together are full"],
  roomcast_slow_client_seconds: [percentile("roomcast_slow_client_seconds", 10), "slow clients do not catch up"],
  roomcast_ping_seconds: [percentile("roomcast_ping_seconds", 5), "the network or the clients are slow"],
  roomcast_queued_bytes: [percentile("roomcast_queued_bytes", 262144), "one client of a hundred has more than 256 KiB in its queue"],
  roomcast_reads_delayed_total: [faster("roomcast_reads_delayed_total", 10), "clients send faster than their limit"],
  roomcast_handlers_slow_total: [grows("roomcast_handlers_slow_total", 10), "handlers block their worker thread"],
  roomcast_handler_panics_total: [grows("roomcast_handler_panics_total"), "a fault in the program"],
  roomcast_acks_timed_out_total: [faster("roomcast_acks_timed_out_total", 1), "clients do not answer in time"],
  // Limits and refusals.
  roomcast_violations_total: [faster("roomcast_violations_total", 1), "an address attacks, or a limit is too low"],
  roomcast_blocks_automatic_total: [grows("roomcast_blocks_automatic_total", 10), "an attack from many addresses, or a proxy whose address is not in `server.trusted_proxies`"],
  roomcast_joins_limited_total: [faster("roomcast_joins_limited_total", 1), "clients send more CONNECT packets than a limit allows"],
  roomcast_events_limited_total: [faster("roomcast_events_limited_total", 10), "users send more than the limits of their class allow"],
  roomcast_events_invalid_total: [share("roomcast_events_invalid_total", "roomcast_events_received_total", 0.05), "a version of the client sends wrong arguments"],
  roomcast_streams_limited_total: [faster("roomcast_streams_limited_total", 10), "authors send pieces faster, or begin more messages, than `chat.streams` allows"],
  roomcast_limited_users_sharing_total: [grows("roomcast_limited_users_sharing_total"), "users share a rate limit because too many are stored"],
  roomcast_auth_refused_total: [faster('roomcast_auth_refused_total{reason=~"signature|unknown_key|expired|unavailable"}', 1), "the issuer of tokens uses another key, a clock is wrong, or the backend of logins does not answer"],
  roomcast_auth_keys_loaded_timestamp_seconds: ['time() - roomcast_auth_keys_loaded_timestamp_seconds{source!="file"} > 86400', "the key set of the issuer cannot be fetched, and the server uses old keys; longer than `auth.jwt.jwks_refresh`"],
  roomcast_commands_denied_total: [faster("roomcast_commands_denied_total", 1), "a role lacks a permission that its clients need"],
  roomcast_api_calls_total: [faster('roomcast_api_calls_total{result=~"failed|limited"}', 1), "calls of services fail or exceed their limit"],
  // Recovery.
  roomcast_recoveries_total: [share('roomcast_recoveries_total{result="fresh"}', "roomcast_recoveries_total", 0.5), "most clients return after `recovery.window`, or at another server without a shared journal"],
  roomcast_recovery_lookups_total: [grows('roomcast_recovery_lookups_total{result="limited"}'), "the clients of an address ask for more unknown sessions than a limit allows"],
  // Store.
  roomcast_store_errors_total: [faster("roomcast_store_errors_total", 1), "the store refuses changes or queries"],
  roomcast_store_retries_total: [faster("roomcast_store_retries_total", 1), "the connection to the database breaks repeatedly"],
  roomcast_store_doubtful_commits_total: [grows("roomcast_store_doubtful_commits_total"), "the connection to the database was lost during commits"],
  roomcast_store_waiting_reads: ["roomcast_store_waiting_reads > 10", "the read connections are in use; with `for: 1m`"],
  roomcast_store_connections: ["roomcast_store_connections / roomcast_store_connections_max > 0.9", "the read connections are in use; with `for: 5m`"],
  roomcast_message_processing_seconds: [percentile("roomcast_message_processing_seconds", 1), "senders wait for the store"],
  roomcast_retention_runs_total: [grows('roomcast_retention_runs_total{result="failed"}'), "old messages are not removed"],
  roomcast_audit_entries_total: [grows('roomcast_audit_entries_total{result!="recorded"}'), "administrative acts are refused or incomplete because the audit log cannot be written"],
  // Other servers.
  roomcast_adapter_lag_seconds: ["roomcast_adapter_lag_seconds > 1", "the broker is slow; with `for: 1m`"],
  roomcast_adapter_queued_bytes: ["roomcast_adapter_queued_bytes > 1e7", "the broker accepts less than this server sends; with `for: 1m`"],
  roomcast_adapter_transitions_total: ['increase(roomcast_adapter_transitions_total{to="down"}[15m]) > 3', "the connection to the broker is unstable"],
  roomcast_cluster_sent_total: [faster('roomcast_cluster_sent_total{result="failed"}', 0), "events do not reach the other servers"],
  roomcast_cluster_received_total: [faster('roomcast_cluster_received_total{result=~"forged|unknown_key|plain"}', 0), "a server has another `adapter.secret`, does not seal, or a foreign program writes to the broker"],
  roomcast_cluster_requests_timed_out_total: [faster("roomcast_cluster_requests_timed_out_total", 0.1), "a server does not answer the others"],
  roomcast_cluster_gap_seconds_total: [grows("roomcast_cluster_gap_seconds_total", 5), "this server was isolated"],
  roomcast_announcements_total: [grows('roomcast_announcements_total{result="dropped"}'), "the other servers learn of changes later, or not of typing, because the adapter accepts no more"],
  roomcast_leases_lost_total: [grows("roomcast_leases_lost_total"), "the server was suspended, or the store did not answer for as long as `presence.lease`"],
  roomcast_nodes_expired_total: [grows("roomcast_nodes_expired_total"), "a server has ended without a leave message, or was isolated"],
  roomcast_nodes: ['min by (job) (roomcast_nodes) < on (job) count by (job) (up{job="roomcast"} == 1)', "a server does not see all others that run; with `for: 2m`"],
  roomcast_node_heartbeat_age_seconds: ["roomcast_node_heartbeat_age_seconds > 5", "a server is silent"],
  roomcast_node_lag_seconds: ["roomcast_node_lag_seconds > 1", "a server is overloaded; with `for: 1m`"],
  roomcast_node_busy_ratio: ["roomcast_node_busy_ratio > 0.9", "a server needs more processors; with `for: 5m`"],
  // What leaves the server.
  roomcast_publications_pending: ["roomcast_publications_pending > 1000", "publications are committed faster than they are emitted; with `for: 2m`"],
  roomcast_publications_total: [grows('roomcast_publications_total{result!="emitted"}'), "publications are invalid, or were deleted before they were emitted"],
  roomcast_webhook_deliveries_total: [share('roomcast_webhook_deliveries_total{result="repeated"}', "roomcast_webhook_deliveries_total", 0.5), "the receiver of webhooks does not answer. `expired` and `gone` are lost"],
  roomcast_spans_total: [grows('roomcast_spans_total{result=~"failed|queue_full|rejected"}'), "the collector of traces does not accept them"],
};
