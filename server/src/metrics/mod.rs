//! The rows that the server adds to the metrics of the library. This module imports no other module
//! of the server.

mod build;
pub(crate) mod diagnosis;
mod digits;
mod inventory;
mod process;
pub(crate) mod trace;

use roomcast::{
    metric_table,
    metrics::{Registry, Table as _},
};

pub(crate) use build::expose as expose_build;
pub(crate) use digits::hex;
pub(crate) use inventory::{Inventoried, Inventory, Size, table_bytes};
pub(crate) use process::expose as expose_process;

/// The server's own rows. At its start, the server extends the metrics of its
/// [`Io`](roomcast::Io) with them.
pub type Metrics = Registry<Counter, Gauge, Timing>;

metric_table! {
    /// Values that only grow.
    pub enum Counter {
        "roomcast_certificate_orders_total" =>
            "Orders of a certificate at the authority, by result." {
            CertificateOrders["result" = "done"],
            CertificateOrdersFailed["result" = "failed"],
        }
        "roomcast_connects_refused_total" =>
            "Connections refused by blocks and limits, by reason." {
            RefusedUser["reason" = "user_connections"],
        }
        "roomcast_events_limited_total" =>
            "Events refused by the rate limits of their user, by class." {
            LimitedMessages["class" = "messages"],
            LimitedTyping["class" = "typing"],
            LimitedChanges["class" = "changes"],
            LimitedRequests["class" = "requests"],
            LimitedJoins["class" = "joins"],
            LimitedAppends["class" = "appends"],
            LimitedChannels["class" = "channels"],
        }
        "roomcast_streams_limited_total" =>
            "Messages sent in pieces, and pieces, that a limit refused, by limit." {
            StreamsOfUser["limit" = "per_user"],
            StreamsOfServer["limit" = "max"],
            StreamChars["limit" = "max_chars"],
            StreamAppends["limit" = "appends_per_second"],
            StreamBytes["limit" = "bytes_per_second"],
        }
        "roomcast_channel_events_total" => "Events stored in channels, by who published them." {
            ChannelEventsOfClients["publisher" = "client"],
            ChannelEventsOfServices["publisher" = "service"],
        }
        "roomcast_channels_limited_total" =>
            "Subscriptions to channels, and events for channels, that a limit refused, by limit." {
            ChannelsOfConnection["limit" = "channels_per_connection"],
            ChannelsOfUser["limit" = "channels_per_user"],
            ChannelFollowers["limit" = "max_followers"],
            ChannelPublishes["limit" = "publishes_per_second"],
            ChannelEventsOfKind["limit" = "max_stored_events"],
            ChannelBytesOfKind["limit" = "max_stored_bytes"],
            ChannelEventsOfAll["limit" = "stored_channel_events"],
            ChannelBytesOfAll["limit" = "stored_channel_bytes"],
        }
        "roomcast_channel_asks_total" =>
            "Requests that asked the backend who may follow a channel, by result." {
            ChannelAsksAllowed["result" = "allowed"],
            ChannelAsksDenied["result" = "denied"],
            ChannelAsksFailed["result" = "failed"],
        }
        "roomcast_channel_subscriptions_total" => "Subscriptions to channels." {
            ChannelSubscriptions,
        }
        "roomcast_limited_users_sharing_total" =>
            "Times a user shared rate limits because no more users could be stored." {
            UsersSharing,
        }
        "roomcast_limited_users_evicted_total" =>
            "Users without connections whose rate limit usage was evicted." {
            UsersEvicted,
        }
        "roomcast_reconnections_total" =>
            "Users who connected again within a minute of a lost connection, by result." {
            ReconnectionsRecovered["result" = "recovered"],
            ReconnectionsFresh["result" = "fresh"],
        }
        "roomcast_permission_cache_hits_total" => "Permission checks answered by the cache." {
            PermissionCacheHits,
        }
        "roomcast_permission_cache_misses_total" => "Permission checks not answered by the cache." {
            PermissionCacheMisses,
        }
        "roomcast_auth_accepted_total" => "Accepted authentications." { AuthAccepted }
        "roomcast_auth_refused_total" => "Refused authentications, by reason." {
            AuthMissing["reason" = "missing"],
            AuthMalformed["reason" = "malformed"],
            AuthOrigin["reason" = "origin"],
            AuthTooLong["reason" = "too_long"],
            AuthAlgorithm["reason" = "algorithm"],
            AuthUnknownKey["reason" = "unknown_key"],
            AuthSignature["reason" = "signature"],
            AuthClaims["reason" = "claims"],
            AuthExpired["reason" = "expired"],
            AuthRevoked["reason" = "revoked"],
            AuthUnknownLogin["reason" = "unknown_session"],
            AuthUnavailable["reason" = "unavailable"],
        }
        "roomcast_commands_denied_total" =>
            "Commands and API calls denied because a permission is missing." {
            CommandsDenied,
        }
        "roomcast_errors_total" => "Events of clients that were refused or failed, by code." {
            ErrorsUnauthenticated["code" = "unauthenticated"],
            ErrorsForbidden["code" = "forbidden"],
            ErrorsInvalidPayload["code" = "invalid_payload"],
            ErrorsNotFound["code" = "not_found"],
            ErrorsConflict["code" = "conflict"],
            ErrorsRateLimited["code" = "rate_limited"],
            ErrorsStoreUnavailable["code" = "store_unavailable"],
            ErrorsBackendUnavailable["code" = "backend_unavailable"],
            ErrorsInternal["code" = "internal"],
        }
        "roomcast_store_errors_total" =>
            "Changes and queries that the store refused or that failed." {
            StoreErrors,
        }
        "roomcast_store_commits_total" => "Transactions committed by the store." { StoreCommits }
        "roomcast_store_retries_total" => "Retries of changes and queries after a failure." {
            StoreRetries,
        }
        "roomcast_store_doubtful_commits_total" =>
            "Commits with an unknown outcome because the connection was lost." {
            StoreDoubts,
        }
        "roomcast_messages_stored_total" => "New messages stored." { MessagesStored }
        "roomcast_messages_expired_total" => "Messages removed by retention." { MessagesExpired }
        "roomcast_alerts_dropped_total" =>
            "Changes of the server's own alerts that were dropped because too many waited, by what they waited for." {
            AlertsUnstored["for" = "store"],
            AlertsUnsent["for" = "webhook"],
        }
        "roomcast_retention_runs_total" => "Runs of retention, by result." {
            RetentionDone["result" = "done"],
            RetentionFailed["result" = "failed"],
        }
        "roomcast_confirmations_skipped_total" =>
            "Messages emitted without requesting confirmations of their delivery." {
            ConfirmationsSkipped,
        }
        "roomcast_leases_lost_total" => "Leases of this server that were lost." { LeasesLost }
        "roomcast_nodes_expired_total" => "Other servers removed because their lease expired." {
            NodesExpired,
        }
        "roomcast_adapter_transitions_total" =>
            "Changes of whether other servers are reachable, by new state." {
            AdapterUp["to" = "up"],
            AdapterDown["to" = "down"],
        }
        "roomcast_announcements_total" => "Announcements to other servers, by result." {
            AnnouncementsSent["result" = "sent"],
            AnnouncementsDropped["result" = "dropped"],
        }
        "roomcast_announcements_received_total" =>
            "Announcements and requests received from other servers, by result." {
            AnnouncementsReceived["result" = "done"],
            AnnouncementsUnknown["result" = "unknown"],
            AnnouncementsMalformed["result" = "malformed"],
            AnnouncementsForeign["result" = "foreign"],
        }
        "roomcast_publications_total" => "Publications from the database, by result." {
            PublicationsEmitted["result" = "emitted"],
            PublicationsRefused["result" = "refused"],
            PublicationsLost["result" = "lost"],
        }
        "roomcast_api_calls_total" => "Calls of the HTTP API, by result." {
            ApiRead["result" = "read"],
            ApiWritten["result" = "written"],
            ApiRefused["result" = "refused"],
            ApiLimited["result" = "limited"],
            ApiFailed["result" = "failed"],
            ApiDenied["result" = "denied"],
        }
        "roomcast_audit_entries_total" => "Administrative acts, by what was recorded of them." {
            AuditRecorded["result" = "recorded"],
            AuditRefused["result" = "refused"],
            AuditIncomplete["result" = "incomplete"],
        }
        "roomcast_webhook_events_total" => "Events for webhooks, by result." {
            WebhookEventsQueued["result" = "queued"],
            WebhookEventsDropped["result" = "dropped"],
            WebhookEventsOverShare["result" = "over_share"],
            WebhookEventsTooLarge["result" = "too_large"],
        }
        "roomcast_webhook_deliveries_total" =>
            "Attempts to deliver an event to a webhook, by result." {
            WebhooksDelivered["result" = "delivered"],
            WebhooksRepeated["result" = "repeated"],
            WebhooksExpired["result" = "expired"],
            WebhooksGone["result" = "gone"],
        }
        "roomcast_sampling_requests_total" =>
            "Events and calls whose caller requested that they are sampled, by decision." {
            SamplingGranted["decision" = "granted"],
            SamplingDenied["decision" = "denied"],
        }
        "roomcast_spans_total" => "Spans of sampled events, by result." {
            SpansExported["result" = "exported"],
            SpansRejected["result" = "rejected"],
            SpansFailed["result" = "failed"],
            SpansLimited["result" = "limited"],
            SpansUnqueued["result" = "queue_full"],
        }
    }
}

metric_table! {
    /// Values that grow and shrink.
    pub enum Gauge {
        "roomcast_permission_cache_size" => "Entries in the permission cache." { PermissionCache }
        "roomcast_revocations" => "Revocations in effect." { Revocations }
        "roomcast_limited_users" => "Users whose usage of limits is stored." { LimitedUsers }
        "roomcast_streams_open" => "Messages that are written in pieces at this server." {
            StreamsOpen,
        }
        "roomcast_adapter_up" => "1 while other servers are reachable, otherwise 0." { AdapterUp }
        "roomcast_publications_pending" =>
            "Publications committed and not yet emitted at the last poll." {
            PublicationsPending,
        }
    }
}

metric_table! {
    /// Measured durations.
    pub enum Timing {
        "roomcast_message_processing_seconds" =>
            "Time from receiving a message until it is stored and queued." {
            MessageProcessing,
        }
        "roomcast_store_operation_seconds" =>
            "Time from a change or query until its caller has the answer of the store, by operation." {
            StoreMessage["operation" = "message"],
            StoreEdit["operation" = "edit"],
            StoreDelete["operation" = "delete"],
            StoreAnnotation["operation" = "annotation"],
            StoreConversation["operation" = "conversation"],
            StoreMember["operation" = "member"],
            StoreRename["operation" = "rename"],
            StoreDeletion["operation" = "conversation_deletion"],
            StoreReadMark["operation" = "read_mark"],
            StoreJournal["operation" = "journal"],
            StoreChange["operation" = "other_change"],
            StoreQuery["operation" = "query"],
        }
    }
}

impl Timing {
    /// Returns the value of the label `operation`, or the family of a row without it.
    pub(crate) fn operation(self) -> &'static str {
        let row = Self::ROWS.get(self.position());
        let label = row.and_then(|row| row.labels.split('"').nth(1));
        label.unwrap_or_else(|| row.map_or("", |row| row.family))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use roomcast::metrics::{self as library, Row, Table};

    use super::*;

    #[test]
    fn each_family_has_one_help_sentence_and_labels_without_spaces() {
        let tables = [
            Counter::ROWS,
            Gauge::ROWS,
            Timing::ROWS,
            library::Counter::ROWS,
            library::Gauge::ROWS,
            library::Timing::ROWS,
            library::Size::ROWS,
        ];
        let rows: Vec<&Row> = tables.into_iter().flatten().collect();
        for row in &rows {
            assert!(row.help.ends_with('.'), "{row:?}");
            assert!(!row.labels.contains(' '), "{row:?}");
            for other in &rows {
                assert!(
                    row.family != other.family || row.help == other.help,
                    "{row:?}"
                );
            }
        }
        let (metrics, library) = (Metrics::new(), library::Metrics::new());
        library.extend(move |out| metrics.expose(out));
        let text = library.render();
        let families = text.matches("# TYPE ").count();
        assert_eq!(text.matches("# HELP ").count(), families);
        let count: HashSet<&str> = rows.iter().map(|row| row.family).collect();
        assert_eq!(families, count.len());
    }
}
