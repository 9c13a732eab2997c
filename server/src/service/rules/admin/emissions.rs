//! Events that admins receive in the namespace `/admin`.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::service::rules::emission::emissions;
use crate::service::rules::examples::{self, NOON};
use crate::store::Time;

emissions! {
    REFUSALS {
        event: "admin:refusals", payload: Refusals<'static>, delivery: Reliable,
        summary: "the counts of refusals by a server since its previous event, at most once a second",
        to: "sockets in `/admin` on all servers", rooms: [Admin],
        example: Refusals {
            node: "chat-1",
            refusals: vec![RefusalCount { kind: "authentication", reason: "expired", count: 3 }],
            timestamp: examples::time(NOON),
        },
    }
    ALERT {
        event: "admin:alert", payload: Alert<'static>, delivery: Reliable,
        summary: "a part that the server depends on has failed, or works again",
        to: "sockets in `/admin` on all servers; a new socket receives the failures of its server, and the latest alerts of all",
        rooms: [Admin],
        example: Alert {
            node: "chat-1",
            alert: Part::Store.alert(),
            part: Part::Store,
            task: None,
            state: PartState::Unavailable,
            timestamp: examples::time(NOON),
        },
    }
    NODE {
        event: "admin:node", payload: NodeChange<'static>, delivery: Reliable,
        summary: "a server has joined the cluster, has left it, or is about to stop",
        to: "sockets in `/admin` on all servers", rooms: [Admin],
        example: NodeChange {
            node: "chat-2",
            change: Change::Joined,
            timestamp: examples::time(NOON),
        },
    }
}

/// `admin:refusals`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Refusals<'a> {
    /// The id of the server.
    pub(crate) node: &'a str,
    pub(crate) refusals: Vec<RefusalCount>,
    pub(crate) timestamp: Time,
}

/// How often something was refused for one reason since the last event.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
pub(crate) struct RefusalCount {
    /// `authentication`, `permission`, `rateLimit` or `connection`.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    /// What was wrong, or which limit was exceeded.
    pub(crate) reason: &'static str,
    pub(crate) count: u64,
}

/// `admin:alert`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Alert<'a> {
    /// The id of the server.
    pub(crate) node: &'a str,
    /// The name of the alert in the rules of Prometheus and in the runbooks.
    pub(crate) alert: &'static str,
    pub(crate) part: Part,
    /// The name of the task, if the part is a task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) task: Option<&'a str>,
    pub(crate) state: PartState,
    pub(crate) timestamp: Time,
}

/// A part that the server depends on, or the server itself if an earlier process was killed.
#[derive(
    Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema,
)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Part {
    Store,
    Adapter,
    Publications,
    Task,
    Server,
}

impl Part {
    /// Returns the name of the alert in `deploy/prometheus/rules.yml`.
    pub(crate) const fn alert(self) -> &'static str {
        match self {
            Self::Store => "RoomcastStoreUnavailable",
            Self::Adapter => "RoomcastAdapterUnavailable",
            Self::Publications => "RoomcastPublicationsUnavailable",
            Self::Task => "RoomcastTaskDown",
            Self::Server => "RoomcastRestarting",
        }
    }
}

/// The name of [`ALERT`], for webhooks.
pub(crate) const ALERT_EVENT: &str = "admin:alert";

/// Whether a part works.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum PartState {
    Ok,
    Unavailable,
}

/// `admin:node`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct NodeChange<'a> {
    /// The id of the server.
    pub(crate) node: &'a str,
    pub(crate) change: Change,
    pub(crate) timestamp: Time,
}

/// A change of a server in the cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Change {
    Joined,
    Left,
    Draining,
}
