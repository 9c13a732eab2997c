//! The state of all servers, each as it answers for itself, and their sums.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Instant;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::recent::{MINUTES, RecentTimes, Snapshots, TimeCounts};
use super::requests::{NodeAnswer, NodeRequest, request_all};
use crate::auth::Permission;
use crate::metrics::Metrics;
use crate::service::api::Readiness;
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::rules::admin::commands::{Queues, Sessions, Statistics, Times, Traffic};
use crate::service::rules::event::Command;
use crate::store::Time;
use roomcast::Io;

/// `GET /api/v1/stats/cluster`
#[derive(Debug)]
pub(crate) struct ReadClusterStatistics;

impl Command for ReadClusterStatistics {
    const PERMISSION: Option<Permission> = Some(Permission::ApiMetrics);
}

/// The state of all servers.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ClusterStatistics {
    /// The servers that have answered, ordered by id.
    servers: Vec<ServerStatistics>,
    /// The servers that have not answered, ordered by id. The totals do not include them.
    missing: Vec<MissingServer>,
    total: ClusterTotals,
    /// Durations of all servers since each was started.
    times: Times,
    /// Durations of all servers in the last 1, 5 and 60 minutes.
    recent: Vec<RecentTimes>,
}

/// The state of one server.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ServerStatistics {
    /// The name of the server, as sockets have it.
    name: String,
    statistics: Statistics,
    /// Durations in the last 1, 5 and 60 minutes.
    recent: Vec<RecentTimes>,
    parts: ServerParts,
}

/// A server that has not answered.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct MissingServer {
    id: Arc<str>,
    name: String,
    /// Milliseconds since its last heartbeat.
    heartbeat_age_ms: u64,
}

/// The sums of the servers that have answered.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct ClusterTotals {
    sessions: Sessions,
    sockets: u64,
    /// The users of all servers. A user who is connected to two servers counts twice.
    users: usize,
    /// The rooms of all servers. A room with members on two servers counts twice.
    rooms: usize,
    traffic: Traffic,
    queues: Queues,
}

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
    name: String,
    statistics: Statistics,
    since_start: TimeCounts,
    /// The counts of each of [`MINUTES`].
    recent: Vec<TimeCounts>,
    parts: ServerParts,
}

impl ServerReport {
    /// Returns the state of this server.
    pub(in crate::service::api) fn of(
        io: &Io,
        metrics: &Metrics,
        readiness: &Readiness,
        snapshots: &Snapshots,
    ) -> Self {
        let since_start = TimeCounts::of(io, metrics);
        Self {
            name: super::super::sockets::node_of(io),
            statistics: Statistics::of(io, metrics, readiness),
            recent: snapshots.recent(Instant::now(), &since_start),
            since_start,
            parts: ServerParts::of(io, readiness),
        }
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

/// Returns the value of the only label, and the value, of each row of a family in a text of metrics.
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

impl ClusterTotals {
    fn add(&mut self, one: &Statistics) {
        self.sessions.total += one.sessions.total;
        self.sessions.polling += one.sessions.polling;
        self.sessions.websocket += one.sessions.websocket;
        self.sockets += one.sockets;
        self.users += one.users;
        self.rooms += one.rooms.count;
        self.traffic.received += one.traffic.received;
        self.traffic.sent += one.traffic.sent;
        self.traffic.bytes_received += one.traffic.bytes_received;
        self.traffic.bytes_sent += one.traffic.bytes_sent;
        self.queues.bytes += one.queues.bytes;
        self.queues.acks_pending += one.queues.acks_pending;
        self.queues.polls += one.queues.polls;
    }
}

/// Returns the state of all servers. Servers that do not answer within the request timeout of the
/// adapter are listed as missing.
pub(crate) async fn cluster_statistics(
    io: &Io,
    allowed: Allowed<ReadClusterStatistics>,
) -> Result<ClusterStatistics, ServiceError> {
    let _ = allowed.into_parts();
    // A server that joins during the request was not asked and is not missing.
    let nodes = io.nodes();
    let (answers, _) = request_all(io, &NodeRequest::Statistics).await;
    let mut reports: Vec<ServerReport> = Vec::new();
    for answer in answers {
        if let NodeAnswer::Statistics(report) = answer {
            reports.push(*report);
        }
    }
    reports.sort_by(|a, b| (&a.statistics.node, &a.name).cmp(&(&b.statistics.node, &b.name)));
    let answered: HashSet<&str> = reports.iter().map(|report| &*report.name).collect();
    let silent = nodes
        .into_iter()
        .filter(|node| !answered.contains(&*node.name.to_string()));
    let mut missing: Vec<_> = silent
        .map(|node| MissingServer {
            id: node.id,
            name: node.name.to_string(),
            heartbeat_age_ms: u64::try_from(node.heartbeat_age.as_millis()).unwrap_or(u64::MAX),
        })
        .collect();
    missing.sort_by(|a, b| (&a.id, &a.name).cmp(&(&b.id, &b.name)));
    let mut total = ClusterTotals::default();
    let mut since_start = TimeCounts::default();
    let mut recent = vec![TimeCounts::default(); MINUTES.len()];
    for report in &reports {
        total.add(&report.statistics);
        since_start.merge(&report.since_start);
        for (sum, counts) in recent.iter_mut().zip(&report.recent) {
            sum.merge(counts);
        }
    }
    let servers = reports.into_iter().map(|report| ServerStatistics {
        recent: shown(&report.recent),
        name: report.name,
        statistics: report.statistics,
        parts: report.parts,
    });
    Ok(ClusterStatistics {
        servers: servers.collect(),
        missing,
        total,
        times: since_start.times(),
        recent: shown(&recent),
    })
}

fn shown(recent: &[TimeCounts]) -> Vec<RecentTimes> {
    let windows = MINUTES.into_iter().zip(recent);
    windows
        .map(|(minutes, counts)| RecentTimes {
            minutes,
            times: counts.times(),
        })
        .collect()
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
