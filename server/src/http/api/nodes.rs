//! `/api/v1/nodes`, `/api/v1/stats`, `/api/v1/diagnosis`, `/api/v1/alerts` and `/api/v1/log-level`:
//! the servers of the cluster, their state, clients that may cause trouble, alerts, and the log
//! level of this server.

use std::{sync::Arc, time::Duration};

use axum::{Extension, Json, extract::State, http::Method};
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Api, ApiError, By, JsonBody, Operation, Parameters, Routes};
use crate::http::forwarding::forward;
use crate::{
    auth::Permission,
    service::{
        ListNodes,
        admin::Statistics,
        api::{
            AlertPage, ClusterDiagnosis, ClusterStatistics, FindClients, FoundClients, ListAlerts,
            LogFilter, ReadClusterStatistics, ReadDiagnosis, ReadLogLevel, SetLogLevel,
            cluster_statistics, diagnose, find_clients, list_alerts,
        },
    },
};
use roomcast::adapter;

/// Returns the routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    Routes::new()
        .on(
            Method::GET,
            "/nodes",
            list,
            Operation::new(
                "listNodes",
                "Lists the servers of the cluster.",
                Permission::ApiMetrics,
            )
            .answer::<List>(200),
        )
        .on(
            Method::GET,
            "/stats",
            stats,
            Operation::new(
                "statistics",
                "Reads the state of the server that receives the request, such as sessions, rooms, queues, and durations of deliveries and pings.",
                Permission::ApiMetrics,
            )
            .answer::<Statistics>(200),
        )
        .on(
            Method::GET,
            "/stats/cluster",
            cluster_stats,
            Operation::new(
                "clusterStatistics",
                "Reads the state of each server, the totals, and how long deliveries, processing and pings took recently.",
                Permission::ApiMetrics,
            )
            .answer::<ClusterStatistics>(200),
        )
        .on(
            Method::GET,
            "/diagnosis",
            diagnosis,
            Operation::new(
                "diagnosis",
                "Reads who is most active, who connected and disconnected in the last hour, and the latest refusals and cuts.",
                Permission::ApiMetrics,
            )
            .answer::<ClusterDiagnosis>(200),
        )
        .on(
            Method::GET,
            "/diagnosis/clients",
            forward!(Parameters(query): Parameters<FindClients> => find_clients(io, query)),
            Operation::new(
                "findClients",
                "Finds clients that disconnected or were refused in the last hour.",
                Permission::ApiSockets,
            )
            .query::<FindClients>()
            .answer::<FoundClients>(200),
        )
        .on(
            Method::GET,
            "/alerts",
            forward!(Parameters(query): Parameters<ListAlerts> => list_alerts(io, query)),
            Operation::new(
                "listAlerts",
                "Lists the open alerts of all servers and those that ended in the last seven days.",
                Permission::ApiMetrics,
            )
            .query::<ListAlerts>()
            .answer::<AlertPage>(200),
        )
        .on(
            Method::GET,
            "/log-level",
            log_level,
            Operation::new(
                "logLevel",
                "Reads the log level of the server that receives the request.",
                Permission::ApiLogLevel,
            )
            .answer::<LogFilter>(200),
        )
        .on(
            Method::PUT,
            "/log-level",
            set_log_level,
            Operation::new(
                "setLogLevel",
                "Sets the log level of the server that receives the request, until it reloads its configuration or is restarted.",
                Permission::ApiLogLevel,
            )
            .body::<SetLogLevel>()
            .answer::<LogFilter>(200),
        )
}

/// The servers of the cluster.
#[derive(Serialize, JsonSchema)]
struct List {
    nodes: Vec<Node>,
}

/// A server of the cluster.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Node {
    id: Arc<str>,
    name: String,
    version: Arc<str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    address: Option<Arc<str>>,
    started_at: String,
    /// Milliseconds since its last heartbeat.
    heartbeat_age_ms: u64,
    /// Whether it is the server that responds.
    this: bool,
    load: Load,
}

/// The load of a server.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
struct Load {
    connections: u64,
    sessions: u64,
    sockets: u64,
    rooms: u64,
    queued_bytes: u64,
    /// Milliseconds by which the last heartbeat was delayed.
    lag: f64,
    /// How busy the worker threads are, from 0 to 1.
    busy: f64,
    /// Messages known to be lost in either direction.
    lost: u64,
    /// How often the server was isolated from its peers.
    gaps: u64,
    /// Total milliseconds during which it was isolated.
    gap_ms: u64,
}

impl From<adapter::Node> for Node {
    fn from(node: adapter::Node) -> Self {
        let load = node.load;
        let started = Timestamp::try_from(node.started).unwrap_or_default();
        Self {
            id: node.id,
            name: node.name.to_string(),
            version: node.version,
            address: node.address,
            started_at: format!("{started:.3}"),
            heartbeat_age_ms: millis(node.heartbeat_age),
            this: node.is_this,
            load: Load {
                connections: load.connections,
                sessions: load.sessions,
                sockets: load.sockets,
                rooms: load.rooms,
                queued_bytes: load.queued_bytes,
                lag: load.lag.as_secs_f64() * 1e3,
                busy: load.busy,
                lost: load.lost,
                gaps: load.gaps,
                gap_ms: millis(load.gap_time),
            },
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

async fn list(State(at): State<Api>, Extension(by): By) -> Result<Json<List>, ApiError> {
    at.access.allow(by, ListNodes)?;
    let nodes = at.io().nodes().into_iter().map(Node::from).collect();
    Ok(Json(List { nodes }))
}

async fn stats(State(at): State<Api>, Extension(by): By) -> Result<Json<Statistics>, ApiError> {
    at.access.allow(by, ListNodes)?;
    Ok(Json(at.connections.describe()))
}

async fn cluster_stats(
    State(at): State<Api>,
    Extension(by): By,
) -> Result<Json<ClusterStatistics>, ApiError> {
    let allowed = at.access.allow(by, ReadClusterStatistics)?;
    Ok(Json(cluster_statistics(at.io(), allowed).await?))
}

async fn diagnosis(
    State(at): State<Api>,
    Extension(by): By,
) -> Result<Json<ClusterDiagnosis>, ApiError> {
    let allowed = at.access.allow(by, ReadDiagnosis)?;
    Ok(Json(diagnose(at.io(), &at.access, allowed).await?))
}

async fn log_level(State(at): State<Api>, Extension(by): By) -> Result<Json<LogFilter>, ApiError> {
    let allowed = at.access.allow(by, ReadLogLevel)?;
    Ok(Json(at.log_level.read(&allowed)))
}

async fn set_log_level(
    State(at): State<Api>,
    Extension(by): By,
    JsonBody(new): JsonBody<SetLogLevel>,
) -> Result<Json<LogFilter>, ApiError> {
    Ok(Json(at.log_level.set(at.access.allow(by, new)?)?))
}
