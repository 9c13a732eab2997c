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

#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
pub use adapter::Emitter;
pub use config::Config;
pub use engine::{
    ConnectionError, EngineRequest, ErrorContext, Forbidden, Handshake, RawEngine, RawSession,
};
#[cfg(feature = "tls")]
pub use engine::{Tls, TlsError};
pub use identity::{Credentials, Principal};
pub use names::{Contract, IntoRooms, Request, Room, RoomName, SocketId};
pub use roomcast_protocol::{
    engine::Transport,
    socket::{Args, Argument, ArgumentError, Arguments, Binary, EncodeError, Parser, Value},
};
pub use socket::{
    Ack, AckError, AckFuture, Acks, Answer, Authenticate, Broadcast, BuildError, Builder,
    ClientFiles, Connect, ContractParameters, Data, Direct, DisconnectReason, DrainError,
    EmitError, Emitted, EngineConnection, EngineConnectionEvent, Error, Event, Extension, Failure,
    Fetched, Handler, HandlerFuture, Idempotent, Incoming, IntoAck, IntoAuthenticator,
    IntoIncoming, Io, IoFuture, IoLayer, IoService, JoinError, Layered, LayeredBody, Lifecycle,
    ListenError, ListenerId, Middleware, Namespace, NamespaceBuilder, NoAck, Outgoing, Parameter,
    Parameters, PartialAnswers, Refusal, RemoteSocket, Renewal, Replies, Reply, Requirement,
    Server, ServerSide, ServerSideError, Socket, State, WatcherCounts, argument, field, idempotent,
};
pub use tasks::EndedTask;

/// Option types: the groups of [`Config`], and options that have fields of their own.
pub mod options {
    pub use crate::config::{
        AddressLimits, Admission, Cookie, Cors, Http, HttpCompression, Outbox, Priority, Recovery,
        SameSite, Session, Sockets,
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
    pub use crate::{
        limit::{
            ByHash, Debts, Full, LogThrottle, MAX_EVICTABLE_DEBT, PrehashedHasher, SHARDS, Shards,
            SharedTokenBucket, TokenBucket,
            bench::{Connection as LimitedConnection, Guarded},
        },
        tasks::{TaskEnded, Tasks},
    };
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
