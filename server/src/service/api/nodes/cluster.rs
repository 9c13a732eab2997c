//! The state of all servers, each as it answers for itself, and their sums.

use std::collections::HashSet;
use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;

use super::distinct::distinct;
use super::recent::{MINUTES, RecentTimes, TimeCounts};
use super::report::{ServerParts, ServerReport};
use super::requests::{NodeAnswer, NodeRequest, request_all};
use crate::auth::Permission;
use crate::service::authorization::Allowed;
use crate::service::fault::ServiceError;
use crate::service::rules::admin::commands::{Queues, Sessions, Statistics, Times, Traffic};
use crate::service::rules::event::Command;
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
    /// Durations of operations on the servers that have answered, each since it was started.
    times: Times,
    /// Durations of operations on the servers that have answered, in the last 1, 5 and 60 minutes.
    recent: Vec<RecentTimes>,
}

/// The state of one server.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct ServerStatistics {
    /// The unique name of the server: the field `node` of its sockets. `statistics.node` is its id.
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

/// The totals of the servers that have answered. A user or a room at several servers counts once.
#[derive(Debug, Default, Serialize, JsonSchema)]
struct ClusterTotals {
    sessions: Sessions,
    sockets: u64,
    /// The number of distinct users. Exact if no server has more than 1,024, otherwise an estimate.
    users: usize,
    /// The number of distinct rooms. Exact if no server has more than 1,024, otherwise an estimate.
    rooms: usize,
    traffic: Traffic,
    queues: Queues,
}

impl ClusterTotals {
    fn add(&mut self, one: &Statistics) {
        self.sessions.total += one.sessions.total;
        self.sessions.polling += one.sessions.polling;
        self.sessions.websocket += one.sessions.websocket;
        self.sockets += one.sockets;
        self.traffic.received += one.traffic.received;
        self.traffic.sent += one.traffic.sent;
        self.traffic.bytes_received += one.traffic.bytes_received;
        self.traffic.bytes_sent += one.traffic.bytes_sent;
        self.queues.bytes += one.queues.bytes;
        self.queues.acks_pending += one.queues.acks_pending;
        self.queues.polls += one.queues.polls;
    }

    /// Counts the users and rooms of all servers.
    fn count_names(&mut self, reports: &[ServerReport]) {
        let names = reports.iter().map(|report| &report.names);
        let (users, rooms): (Vec<_>, Vec<_>) =
            names.map(|names| (&names.users, &names.rooms)).unzip();
        self.users += distinct(&users);
        self.rooms += distinct(&rooms);
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
    total.count_names(&reports);
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
