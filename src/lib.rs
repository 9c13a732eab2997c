//! Roomcast: a Socket.IO server.

pub mod auth;
#[cfg(feature = "server")]
pub mod cli;
pub mod config;
mod engine;
#[cfg(feature = "server")]
mod gateway;
pub mod http;
pub mod metrics;
#[cfg(feature = "server")]
mod server;
#[cfg(feature = "server")]
mod service;
mod socket;
pub mod store;

pub use config::{Config, Cors};
pub use engine::{Handshake, RawEngine, RawSession};
pub use roomcast_protocol::{
    engine::Transport,
    socket::{Args, Argument, ArgumentError, Arguments, EncodeError},
};
pub use socket::{
    Ack, AckError, AckFuture, Acks, Answer, Authenticate, Broadcast, BuildError, Builder, Connect,
    Direct, DisconnectReason, EmitError, Emitted, Error, Event, Failure, Handler, IntoAck,
    IntoRooms, Io, JoinError, Namespace, NamespaceBuilder, NoAck, Parameter, Refusal, Reply, Room,
    RoomName, Server, Socket, SocketId, State,
};

/// Entry points of fuzz targets and benches; not part of the API.
#[doc(hidden)]
pub mod fuzzing {
    pub use crate::{
        engine::fuzzing::request,
        socket::fuzzing::{Crowd, rooms_ops},
    };
}
