//! The state of this server, as it answers its peers.

use std::sync::{Arc, OnceLock};
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::distinct::NameSample;
use super::recent::{Snapshots, TimeCounts};
use crate::metrics::Metrics;
use crate::service::api::health::Readiness;
use crate::service::chat::is_user_room;
use crate::service::rules::admin::commands::Statistics;
use crate::store::Time;
use roomcast::{Io, Room};

/// The parts of a server that can fail.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(in crate::service::api) struct ServerParts {
    /// Changes that wait to be stored.
    store_changes: u64,
    /// Maximum number of changes that wait to be stored.
    store_changes_max: u64,
    /// Queries that wait for a connection of the store.
    store_waiting_reads: u64,
    /// The state of publications through the store: `none` if they are disabled or impossible.
    #[schemars(extend("enum" = ["ok", "unavailable", "none"]))]
    publications: String,
    /// The tasks that apply changes of other servers, with the lag of each. Empty without a shared
    /// store.
    followers: Vec<FollowerLag>,
    /// Tasks that ended unexpectedly.
    ended_tasks: Vec<String>,
    /// When a certificate of the chain in use expires first. Absent without TLS.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    certificate_expires_at: Option<Time>,
}

/// The lag of a follower.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct FollowerLag {
    /// The name of its task.
    name: String,
    /// Seconds since it had applied all changes of other servers.
    lag_s: f64,
}

/// The answer of a server.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(in crate::service::api) struct ServerReport {
    pub(super) name: String,
    pub(super) statistics: Statistics,
    pub(super) since_start: TimeCounts,
    /// The counts of each of [`MINUTES`](super::recent::MINUTES).
    pub(super) recent: Vec<TimeCounts>,
    pub(super) parts: ServerParts,
    /// The users and rooms.
    pub(super) names: ReportedNames,
}

/// Samples of the names that can be at several servers.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ReportedNames {
    pub(super) users: NameSample,
    pub(super) rooms: NameSample,
}

impl ReportedNames {
    fn of(io: &Io) -> Self {
        let rooms = io.of("/").rooms();
        let rooms = || rooms.iter().map(|(room, _)| room);
        // Every socket of the chat is in the room of its user.
        let users = rooms().filter(|room| is_user_room(room));
        Self {
            users: NameSample::of(users.map(Room::as_str)),
            rooms: NameSample::of(rooms().map(Room::as_str)),
        }
    }
}

/// Creates the reports of this server. Clones share the snapshots.
#[derive(Clone)]
pub(crate) struct Reports(Arc<ReportsInner>);

struct ReportsInner {
    metrics: Arc<Metrics>,
    snapshots: Snapshots,
    /// Exists only after the server is built.
    readiness: OnceLock<Readiness>,
}

impl Reports {
    pub(in crate::service::api) fn new(metrics: Arc<Metrics>) -> Self {
        Self(Arc::new(ReportsInner {
            metrics,
            snapshots: Snapshots::default(),
            readiness: OnceLock::new(),
        }))
    }

    /// Starts reporting, after the server is built.
    pub(in crate::service::api) fn serve(&self, readiness: Readiness) {
        // The server is built once, so the cell is empty.
        let _ = self.0.readiness.set(readiness);
    }

    /// Takes a snapshot of durations if one is due. Called about once a second.
    pub(in crate::service::api) fn update(&self, io: &Io) {
        let counts = || TimeCounts::of(io, &self.0.metrics);
        self.0.snapshots.update(Instant::now(), counts);
    }

    /// Returns the state of this server, or `None` while it starts.
    pub(super) fn report(&self, io: &Io) -> Option<ServerReport> {
        let readiness = self.0.readiness.get()?;
        let metrics = &self.0.metrics;
        let since_start = TimeCounts::of(io, metrics);
        let this = io.nodes().into_iter().find(|node| node.is_this);
        Some(ServerReport {
            name: this.map_or_else(String::new, |node| node.name.to_string()),
            statistics: Statistics::of(io, metrics, readiness),
            recent: self.0.snapshots.recent(Instant::now(), &since_start),
            since_start,
            parts: ServerParts::of(io, readiness),
            names: ReportedNames::of(io),
        })
    }
}

impl ServerParts {
    /// Reads the parts from the metrics, which is where all of them report.
    fn of(io: &Io, readiness: &Readiness) -> Self {
        let text = io.metrics().render();
        let value = |family| values(&text, family).next().map(|(_, value)| value);
        let count = |family| value(family).map_or(0, |value| value as u64);
        let followers = values(&text, "roomcast_follower_lag_seconds");
        let expires_at = value("roomcast_tls_certificate_expiry_timestamp_seconds");
        let ended = readiness.tasks();
        Self {
            store_changes: count("roomcast_store_changes"),
            store_changes_max: count("roomcast_store_changes_max"),
            store_waiting_reads: count("roomcast_store_waiting_reads"),
            publications: readiness.publications_word().to_owned(),
            followers: followers
                .map(|(name, lag_s)| FollowerLag {
                    name: name.to_owned(),
                    lag_s,
                })
                .collect(),
            ended_tasks: ended.iter().map(|task| task.name.to_owned()).collect(),
            certificate_expires_at: expires_at.and_then(|seconds| {
                let at = jiff::Timestamp::from_second(seconds as i64).ok()?;
                Some(std::time::SystemTime::from(at).into())
            }),
        }
    }
}

/// Returns the value of the only label, and the value, of each row of a family in the metrics.
fn values<'a>(text: &'a str, family: &'a str) -> impl Iterator<Item = (&'a str, f64)> {
    text.lines().filter_map(move |line| {
        let (labels, value) = line.strip_prefix(family)?.rsplit_once(' ')?;
        let label = match labels {
            "" => "",
            labels => labels.strip_prefix('{')?.split('"').nth(1)?,
        };
        Some((label, value.parse().ok()?))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_a_family_exclude_families_with_the_same_beginning() {
        let text = "# HELP a_x Text.\na_x 3\na_x_max 9\na_x{of=\"the one\"} 1.5\n";
        let found: Vec<_> = values(text, "a_x").collect();
        assert_eq!(found, [("", 3.0), ("the one", 1.5)]);
        assert_eq!(values(text, "a_y").count(), 0);
    }
}
