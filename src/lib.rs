#![doc = include_str!("../docs/guide.md")]
// On docs.rs, the documentation of each item shows the feature that it requires.
#![cfg_attr(docsrs, feature(doc_cfg))]
#![cfg_attr(
    not(feature = "client"),
    doc = "\n[`testing`]: https://docs.rs/roomcast/latest/roomcast/testing/"
)]

pub mod adapter;
#[cfg(feature = "client")]
pub mod client;
mod config;
mod engine;
mod identity;
pub mod limit;
pub mod metrics;
mod names;
pub mod network;
mod socket;
mod tasks;
#[cfg(feature = "client")]
pub mod testing;
mod time;

pub use config::Config;
pub use identity::Principal;
pub use names::{Contract, Request, Room, SocketId};
pub use roomcast_protocol::socket::{Args, Binary, Parser, Value};
pub use socket::{
    Ack, AckError, Authenticate, Broadcast, BuildError, Builder, Connect, Data, DisconnectReason,
    Error, Event, Extension, Incoming, Io, Lifecycle, Namespace, NamespaceBuilder, NoAck, Refusal,
    Server, Socket, State,
};

/// What emissions return, and what they take: selections of sockets, and acknowledgements.
pub mod broadcast {
    pub use crate::names::{IntoRooms, RoomName};
    pub use crate::socket::PartialAnswers;
    pub use crate::socket::{AckFuture, Acks, Direct, Emitted, Fetched, RemoteSocket};
}

/// Connections and their requests: hooks that check requests, and Engine.IO without Socket.IO.
pub mod connection {
    pub use crate::{
        engine::{
            ConnectionError, ConnectionId, EngineRequest, ErrorContext, Forbidden, Handshake,
            RawEngine, RawSession,
        },
        identity::Credentials,
        socket::{EngineConnection, EngineConnectionEvent},
    };
}

/// Errors of single methods. [`Error`], [`BuildError`] and [`AckError`] are in the root.
pub mod errors {
    pub use crate::socket::ServerSideError;
    pub use crate::socket::{DrainError, EmitError, JoinError, ListenError};
    pub use roomcast_protocol::socket::{ArgumentError, EncodeError};
}

/// What handlers, middleware and observers are, take and return.
pub mod handler {
    pub use crate::socket::ServerSide;
    pub use crate::socket::{
        Answer, ContractParameters, Failure, Handler, HandlerFuture, Idempotent, IntoAck,
        IntoAuthenticator, IntoIncoming, ListenerId, Middleware, Outgoing, Parameter, Parameters,
        Renewal, Replies, Reply, Requirement, WatcherCounts, argument, field, idempotent,
    };
    pub use roomcast_protocol::socket::{Argument, Arguments};
}

/// Option types: the groups of [`Config`], and options that have fields of their own.
pub mod options {
    pub use crate::config::{
        AddressLimits, Admission, Cookie, Cors, Http, HttpCompression, Outbox, PerMessageDeflate,
        Priority, Recovery, SameSite, Session, Sockets,
    };
    pub use roomcast_protocol::engine::Transport;
}

/// Serving: the tower service and layer, TLS, and client files.
pub mod service {
    #[cfg(feature = "tls")]
    pub use crate::engine::{Tls, TlsError};
    pub use crate::{
        socket::{ClientFiles, IoFuture, IoLayer, IoService, Layered, LayeredBody},
        tasks::EndedTask,
    };
}

/// Packet formats that the application provides; see [`Parser::custom`].
pub mod parser {
    pub use roomcast_protocol::socket::{
        Custom, CustomMessage, CustomPacket, CustomParser, CustomParserError,
        encode::MAX_ATTACHMENTS,
    };
}

/// Types of other crates that appear in the API, in the versions that the API uses.
///
/// `serde_json::Value` is not reexported: its variants would lengthen the names in compiler errors
/// about handlers.
pub mod types {
    pub use bytes::Bytes;
    pub use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response};
    pub use hyper::body::Incoming;
    pub use uuid::Uuid;
}

/// Compiles the code blocks of the migration guide for users of the official server.
#[cfg(doctest)]
#[doc = include_str!("../docs/migrating-from-node.md")]
pub struct MigratingFromNode;

/// Compiles the code block of the page about Rust clients.
#[cfg(all(doctest, feature = "client"))]
#[doc = include_str!("../docs/rust-client.md")]
pub struct RustClient;

/// Compiles the code blocks of the page of the repository.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
pub struct Readme;

/// Compiles the code blocks of the page about the guarantees of delivery.
#[cfg(doctest)]
#[doc = include_str!("../docs/delivery.md")]
pub struct Delivery;

/// Compiles the code block of the page for authors of adapters.
#[cfg(doctest)]
#[doc = include_str!("../docs/adapters.md")]
pub struct Adapters;

/// Compiles the code blocks of the page about Redis.
#[cfg(all(doctest, feature = "redis"))]
#[doc = include_str!("../docs/cluster.md")]
pub struct ClusterRedis;

/// Compiles the code blocks of the page about PostgreSQL.
#[cfg(all(doctest, feature = "postgres"))]
#[doc = include_str!("../docs/cluster/postgres.md")]
pub struct ClusterPostgres;

/// Compiles the code blocks of the page about NATS.
#[cfg(all(doctest, feature = "nats"))]
#[doc = include_str!("../docs/cluster/nats.md")]
pub struct ClusterNats;

/// Rate-limits the lines of `throttled_log!`.
#[doc(hidden)]
pub use limit::LogThrottle;

/// Items that `roomcast-server` of the same version shares with the library; not part of the API.
#[doc(hidden)]
pub mod internal {
    #[cfg(feature = "postgres")]
    pub use crate::adapter::postgres::{
        Address as PostgresAddress, Fault as PostgresFault, MakeTls as MakePostgresTls, chain,
    };
    #[cfg(feature = "tls")]
    pub use crate::engine::certificate_validity;
    pub use crate::{
        engine::{LogFields, LogScope, current_log_fields},
        limit::{
            ByHash, Debts, Full, LogThrottle, MAX_EVICTABLE_DEBT, PrehashedHasher, RetryAfter,
            SHARDS, Shards, SharedTokenBucket, TokenBucket, WaitingLine,
            bench::{Connection as LimitedConnection, Guarded},
        },
        socket::TableSizes,
        tasks::{TaskEnded, Tasks},
        time::while_awake,
    };

    /// Waits until another server of the cluster has the id of this server, and this one must stop.
    pub async fn until_node_taken(io: &crate::Io) {
        io.until_node_taken().await;
    }

    static LOG_NODE: std::sync::OnceLock<String> = std::sync::OnceLock::new();

    /// Sets the id of this server in log lines, once for the process.
    pub fn set_log_node(id: &str) {
        let _ = LOG_NODE.set(id.to_owned());
    }

    /// Returns the id of this server in log lines, after it was set.
    #[must_use]
    pub fn log_node() -> Option<&'static str> {
        LOG_NODE.get().map(String::as_str)
    }
}

/// Entry points of fuzz targets and benches; not part of the API.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing {
    #[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
    pub use crate::adapter::fuzz_sealed as sealed;
    #[cfg(feature = "redis")]
    pub use crate::adapter::redis::fuzz as node_messages;
    pub use crate::{
        engine::fuzzing::{PlainHead, head, request},
        socket::fuzzing::{Crowd, recovery_offers, rooms_ops},
    };
}
