#![doc = include_str!("../docs/guide.md")]

pub mod auth;
#[cfg(feature = "server")]
mod bench;
#[cfg(feature = "postgres")]
mod breaker;
#[cfg(feature = "server")]
pub mod cli;
#[cfg(feature = "client")]
pub mod client;
pub mod config;
mod engine;
#[cfg(feature = "server")]
mod gateway;
pub mod http;
pub mod limit;
pub mod metrics;
pub mod network;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod service;
mod socket;
pub mod store;
#[cfg(feature = "client")]
pub mod testing;

pub use config::{Config, Cookie, Cors, HttpCompression, Priority, Recovery, SameSite};
pub use engine::{
    ConnectionError, EngineRequest, ErrorContext, Forbidden, Handshake, RawEngine, RawSession,
};
#[cfg(feature = "tls")]
pub use engine::{Tls, TlsError};
pub use roomcast_protocol::{
    engine::Transport,
    socket::{Args, Argument, ArgumentError, Arguments, EncodeError, Parser},
};
pub use socket::{
    Ack, AckError, AckFuture, Acks, Answer, Authenticate, Broadcast, BuildError, Builder, Conn,
    ConnEvent, Connect, Contract, Direct, DisconnectReason, EmitError, Emitted, Error, Event,
    Failure, Handler, Idempotent, Incoming, IntoAck, IntoRooms, Io, IoFuture, IoLayer, IoService,
    JoinError, Layered, LayeredBody, Lifecycle, ListenError, ListenerId, Namespace,
    NamespaceBuilder, NoAck, Outgoing, Parameter, Refusal, Renewal, Reply, Room, RoomName, Server,
    ServerSide, ServerSideError, Socket, SocketId, State, Verdict, argument, field, idempotent,
};

/// Compiles the blocks of the page for users of the official server.
#[cfg(doctest)]
#[doc = include_str!("../docs/migrating-from-node.md")]
pub struct MigratingFromNode;

/// Entry points of fuzz targets and benches; not part of the API.
#[doc(hidden)]
pub mod fuzzing {
    #[cfg(feature = "server")]
    pub use crate::limit::bench::{Connection as LimitedConnection, Limited};
    pub use crate::{
        engine::fuzzing::{PlainHead, head, request},
        socket::fuzzing::{Crowd, recovery_offers, rooms_ops},
    };
}
