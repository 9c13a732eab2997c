//! The metrics of the server, rendered together with those of the library as Prometheus text. This
//! module imports no other module of the server.

use std::{sync::Arc, time::Duration};

use roomcast::{
    metric_table,
    metrics::{Counters, Exposition, Gauges, Histogram, TIMES},
};

metric_table! {
    /// Values that only grow.
    pub enum Counter {
        RefusedUser => "roomcast_connects_refused_total"["reason" = "user connections"],
        LimitedMessages => "roomcast_events_limited_total"["class" = "messages"],
        LimitedTyping => "roomcast_events_limited_total"["class" = "typing"],
        LimitedChanges => "roomcast_events_limited_total"["class" = "changes"],
        LimitedRequests => "roomcast_events_limited_total"["class" = "requests"],
        LimitedJoins => "roomcast_events_limited_total"["class" = "joins"],
        UsersSharing => "roomcast_limited_users_sharing_total",
        UsersEvicted => "roomcast_limited_users_evicted_total",
        PermissionCacheHits => "roomcast_permission_cache_hits_total",
        PermissionCacheMisses => "roomcast_permission_cache_misses_total",
        AuthAccepted => "roomcast_auth_accepted_total",
        AuthMissing => "roomcast_auth_refused_total"["reason" = "missing"],
        AuthMalformed => "roomcast_auth_refused_total"["reason" = "malformed"],
        AuthOrigin => "roomcast_auth_refused_total"["reason" = "origin"],
        AuthTooLong => "roomcast_auth_refused_total"["reason" = "too long"],
        AuthAlgorithm => "roomcast_auth_refused_total"["reason" = "algorithm"],
        AuthUnknownKey => "roomcast_auth_refused_total"["reason" = "unknown key"],
        AuthSignature => "roomcast_auth_refused_total"["reason" = "signature"],
        AuthClaims => "roomcast_auth_refused_total"["reason" = "claims"],
        AuthExpired => "roomcast_auth_refused_total"["reason" = "expired"],
        AuthRevoked => "roomcast_auth_refused_total"["reason" = "revoked"],
        AuthUnknownLogin => "roomcast_auth_refused_total"["reason" = "unknown session"],
        AuthUnavailable => "roomcast_auth_refused_total"["reason" = "unavailable"],
        CommandsDenied => "roomcast_commands_denied_total",
        StoreErrors => "roomcast_store_errors_total",
        StoreCommits => "roomcast_store_commits_total",
        StoreRetries => "roomcast_store_retries_total",
        StoreDoubts => "roomcast_store_doubtful_commits_total",
        MessagesStored => "roomcast_messages_stored_total",
        MessagesExpired => "roomcast_messages_expired_total",
        RetentionDone => "roomcast_retention_runs_total"["result" = "done"],
        RetentionFailed => "roomcast_retention_runs_total"["result" = "failed"],
        ConfirmationsSkipped => "roomcast_confirmations_skipped_total",
        StatusesForgotten => "roomcast_statuses_forgotten_total",
        LeasesLost => "roomcast_leases_lost_total",
        NodesExpired => "roomcast_nodes_expired_total",
        AdapterUp => "roomcast_adapter_transitions_total"["to" = "up"],
        AdapterDown => "roomcast_adapter_transitions_total"["to" = "down"],
        AnnouncementsSent => "roomcast_announcements_total"["result" = "sent"],
        AnnouncementsDropped => "roomcast_announcements_total"["result" = "dropped"],
        AnnouncementsHeard => "roomcast_announcements_heard_total"["result" = "done"],
        AnnouncementsUnknown => "roomcast_announcements_heard_total"["result" = "unknown"],
        AnnouncementsMalformed => "roomcast_announcements_heard_total"["result" = "malformed"],
        AnnouncementsForeign => "roomcast_announcements_heard_total"["result" = "foreign"],
        PublicationsEmitted => "roomcast_publications_total"["result" = "emitted"],
        PublicationsRefused => "roomcast_publications_total"["result" = "refused"],
        PublicationsLost => "roomcast_publications_total"["result" = "lost"],
        ApiRead => "roomcast_api_calls_total"["result" = "read"],
        ApiWritten => "roomcast_api_calls_total"["result" = "written"],
        ApiRefused => "roomcast_api_calls_total"["result" = "refused"],
        ApiLimited => "roomcast_api_calls_total"["result" = "limited"],
        ApiFailed => "roomcast_api_calls_total"["result" = "failed"],
        WebhookEventsQueued => "roomcast_webhook_events_total"["result" = "queued"],
        WebhookEventsDropped => "roomcast_webhook_events_total"["result" = "dropped"],
        WebhookEventsOverShare => "roomcast_webhook_events_total"["result" = "over share"],
        WebhookEventsTooLarge => "roomcast_webhook_events_total"["result" = "too large"],
        WebhooksDelivered => "roomcast_webhook_deliveries_total"["result" = "delivered"],
        WebhooksRepeated => "roomcast_webhook_deliveries_total"["result" = "repeated"],
        WebhooksExpired => "roomcast_webhook_deliveries_total"["result" = "expired"],
        WebhooksGone => "roomcast_webhook_deliveries_total"["result" = "gone"],
        ApiTurnedAway => "roomcast_api_calls_total"["result" = "turned away"],
    }
}

metric_table! {
    /// Values that grow and shrink.
    pub enum Gauge {
        PermissionCache => "roomcast_permission_cache_size",
        Revocations => "roomcast_revocations",
        LimitedUsers => "roomcast_limited_users",
        AdapterUp => "roomcast_adapter_up",
        PublicationsBehind => "roomcast_publications_behind",
    }
}

metric_table! {
    /// Measured durations.
    pub enum Timing {
        MessageProcessing => "roomcast_message_processing_seconds",
        Publication => "roomcast_publication_lag_seconds",
    }
}

/// The metrics of one server, including those of its [`Io`](roomcast::Io).
#[derive(Debug, Default)]
pub struct Metrics {
    library: Arc<roomcast::metrics::Metrics>,
    counters: Counters<{ Counter::ROWS.len() }>,
    gauges: Gauges<{ Gauge::ROWS.len() }>,
    times: [Times; Timing::ROWS.len()],
}

#[derive(Debug)]
struct Times(Histogram<{ TIMES.len() }>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new(&TIMES))
    }
}

impl Metrics {
    /// Creates metrics with all values at zero, in addition to those of a library.
    #[must_use]
    pub fn beside(library: Arc<roomcast::metrics::Metrics>) -> Self {
        Self {
            library,
            ..Self::default()
        }
    }

    /// Returns the metrics of the library.
    #[must_use]
    pub fn library(&self) -> &Arc<roomcast::metrics::Metrics> {
        &self.library
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

    /// Moves a gauge by `delta`.
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
        self.of(timing).time(took);
    }

    /// Returns how many durations were recorded.
    #[must_use]
    pub fn timed(&self, timing: Timing) -> u64 {
        self.of(timing).count()
    }

    /// Returns the quantile `part`, from 0 to 1, of the recorded durations. `None` if there are
    /// none.
    #[must_use]
    pub fn quantile(&self, timing: Timing, part: f64) -> Option<Duration> {
        self.of(timing).time_quantile(part)
    }

    fn of(&self, timing: Timing) -> &Histogram<{ TIMES.len() }> {
        let [message_processing, publication] = &self.times;
        match timing {
            Timing::MessageProcessing => &message_processing.0,
            Timing::Publication => &publication.0,
        }
    }

    /// Renders all metrics in the Prometheus text format (version 0.0.4).
    #[must_use]
    pub fn render(&self) -> String {
        self.render_with(|_| {})
    }

    /// Renders the metrics, followed by the output of `more`.
    #[must_use]
    pub fn render_with(&self, more: impl FnOnce(&mut Exposition)) -> String {
        let mut out = Exposition::default();
        self.library.expose(&mut out);
        out.counters(Counter::ROWS, &self.counters);
        out.gauges(Gauge::ROWS, &self.gauges);
        for ((family, _), times) in Timing::ROWS.iter().zip(&self.times) {
            out.seconds(family, &times.0);
        }
        more(&mut out);
        out.to_string()
    }
}
