//! Commands that admins send in the namespace `/admin`.

use std::borrow::Cow;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::service::rules::bounds::{Network, Reason, UserId, one_of};
use crate::service::rules::commands::form::whole_or_none;
use crate::service::rules::event::events;
use crate::service::rules::examples::{self, ADA, CONVERSATION, NOON};
use crate::store::Time;

events! {
    KICK {
        event: "admin:kick", payload: Kick, answer: Kicked,
        permission: ApiSockets, limit: Changes, room: Anyone, argument: object,
        does: "closes the connections of a user, or the connection of a socket, on all servers",
        example: {"userId": ADA},
        answered: Kicked { disconnected: 2, missing: 0 },
        call: Admin::kick(socket),
    }
    BLOCK {
        event: "admin:block", payload: BlockNetwork, answer: Blocked,
        permission: ApiBlocks, limit: Changes, room: Anyone, argument: object,
        does: "blocks a network on all servers of the store, and closes its connections",
        example: {"cidr": "192.0.2.0/24", "seconds": 3600, "reason": "a flood"},
        answered: Blocked {
            id: CONVERSATION,
            cidr: "192.0.2.0/24".to_owned(),
            expires_at: Some(examples::time(NOON)),
        },
        call: Admin::block(socket),
    }
    STATS {
        event: "admin:stats", payload: ReadStatistics, answer: Statistics,
        permission: ApiMetrics, limit: Requests, room: Anyone, argument: object_or_none,
        does: "reads the state of the server that receives the request",
        example: {},
        answered: Statistics::example(),
        call: Admin::statistics(),
    }
}

/// The acknowledgement of `admin:kick`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Kicked {
    /// How many connections were closed.
    pub(crate) disconnected: usize,
    /// Servers that have not answered.
    pub(crate) missing: usize,
}

/// The acknowledgement of `admin:block`.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Blocked {
    /// The id of the block, with which it can be removed over HTTP.
    pub(crate) id: Uuid,
    /// The network as the server parsed it.
    pub(crate) cidr: String,
    /// When the block ends. Absent if it is permanent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Time>,
}

/// `admin:kick`: either a user or a socket.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("oneOf" = one_of(["userId", "socketId"], ["string", "string"])))]
pub(crate) struct Kick {
    /// The user whose connections are closed.
    #[schemars(with = "Option<UserId>")]
    pub(crate) user_id: Option<String>,
    /// The socket of the chat whose connection is closed.
    pub(crate) socket_id: Option<String>,
}

/// `admin:block`: the network to block.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct BlockNetwork {
    /// An IP address or a network, such as `192.0.2.0/24`.
    #[schemars(with = "Network")]
    pub(crate) cidr: String,
    /// The reason, for people.
    #[schemars(with = "Reason")]
    pub(crate) reason: String,
    /// Duration in seconds, at most ten years. Default: permanent.
    #[schemars(range(min = 1, max = 315_360_000))]
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) seconds: Option<u64>,
}

/// `admin:stats`: reads the state of the server.
#[derive(Debug, Default, Deserialize, JsonSchema)]
pub(crate) struct ReadStatistics {}

/// The state of a server: `GET /health/websocket/detailed`, `GET /api/v1/stats` and the
/// acknowledgement of `admin:stats`.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Statistics {
    /// The id of the server that the values describe.
    pub(crate) node: String,
    pub(crate) sessions: Sessions,
    pub(crate) sockets: u64,
    /// Users connected to the chat, each counted once.
    pub(crate) users: usize,
    pub(crate) rooms: Rooms,
    /// Since the server was started.
    pub(crate) traffic: Traffic,
    pub(crate) queues: Queues,
    /// Since the server was started.
    pub(crate) times: Times,
    pub(crate) store: Cow<'static, str>,
    pub(crate) adapter: Cow<'static, str>,
    /// The state of the cluster adapter. Absent if the server has none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) adapter_state: Option<AdapterState>,
    /// Servers in the cluster, including this one.
    pub(crate) nodes: usize,
    pub(crate) draining: bool,
}

/// Sessions by their current transport.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Sessions {
    pub(crate) total: usize,
    pub(crate) polling: u64,
    pub(crate) websocket: u64,
}

/// The rooms of the chat.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "RoomTotals")]
pub(crate) struct Rooms {
    pub(crate) count: usize,
    /// Members of all rooms. A socket in three rooms counts three times.
    pub(crate) members: usize,
    pub(crate) largest: usize,
}

/// Traffic from and to clients. Rates are differences of two responses.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Traffic {
    /// Messages from clients: events, acknowledgements and connect packets.
    pub(crate) received: u64,
    /// Messages to clients, counted once per receiving client.
    pub(crate) sent: u64,
    /// Bytes of the messages from clients.
    pub(crate) bytes_received: u64,
    /// Bytes written to clients.
    pub(crate) bytes_sent: u64,
}

/// Queued bytes, pending acknowledgements and pending polls.
#[derive(Clone, Debug, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Queues {
    /// Queued bytes of all clients together.
    pub(crate) bytes: u64,
    /// Acknowledgements that clients have not sent yet.
    pub(crate) acks_pending: u64,
    /// Polling requests that wait for data.
    pub(crate) polls: u64,
}

/// The state of the adapter.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AdapterState {
    /// Whether the adapter reaches other servers, as far as known.
    pub(crate) up: bool,
    /// Messages known to be lost in either direction since the server started.
    pub(crate) lost: u64,
    /// How often the server was isolated from its peers since it started. Their messages can be
    /// missing for these times.
    pub(crate) gaps: u64,
    /// Total milliseconds during which the server was isolated.
    pub(crate) gap_ms: f64,
    /// Messages that the adapter did not accept for sending since the server started.
    pub(crate) unsent: u64,
    /// Messages in the send queue.
    pub(crate) queued: usize,
    /// Bytes of the messages in the send queue.
    pub(crate) queued_bytes: usize,
    /// Round-trip milliseconds of the last message of this server to itself, or the age of the one
    /// in flight if that is more. Absent while unknown, for example without a connection.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) lag: Option<f64>,
}

/// Durations of operations.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Times {
    /// From queuing a message for WebSockets until it is written to all of them.
    pub(crate) delivery: Percentiles,
    /// From receiving a message until it is stored and queued.
    pub(crate) processing: Percentiles,
    /// From a ping on a WebSocket to its pong.
    pub(crate) ping: Percentiles,
}

/// Percentiles in milliseconds. Absent while there are no measurements.
#[derive(Clone, Copy, Debug, Serialize, Deserialize, JsonSchema)]
pub(crate) struct Percentiles {
    pub(crate) count: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p50: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p95: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) p99: Option<f64>,
}

impl Statistics {
    fn example() -> Self {
        let percentiles = Percentiles {
            count: 812,
            p50: Some(1.5),
            p95: Some(2.8),
            p99: Some(6.2),
        };
        Self {
            node: "chat-1".to_owned(),
            sessions: Sessions {
                total: 120,
                polling: 2,
                websocket: 118,
            },
            sockets: 120,
            users: 96,
            rooms: Rooms {
                count: 140,
                members: 260,
                largest: 96,
            },
            traffic: Traffic {
                received: 4_120,
                sent: 39_800,
                bytes_received: 612_000,
                bytes_sent: 7_240_000,
            },
            queues: Queues {
                bytes: 0,
                acks_pending: 0,
                polls: 2,
            },
            times: Times {
                delivery: percentiles,
                processing: percentiles,
                ping: percentiles,
            },
            store: "ok".into(),
            adapter: "ok".into(),
            adapter_state: Some(AdapterState {
                up: true,
                lost: 0,
                gaps: 0,
                gap_ms: 0.0,
                unsent: 0,
                queued: 0,
                queued_bytes: 0,
                lag: Some(0.6),
            }),
            nodes: 3,
            draining: false,
        }
    }
}
