//! Socket.IO: namespaces, sockets, rooms, events, acknowledgements.
//!
//! A packet's way in is [`connection`] → [`handlers`] → [`running`]; an event's way out is
//! [`emit`] → [`namespace`] → [`rooms`] → the outboxes of the engine.

mod ack;
mod acks;
mod admission;
mod authenticate;
mod builder;
mod client_builds;
mod client_files;
mod conn;
mod connect;
mod connection;
mod contract;
mod direct;
mod dispatch;
mod emit;
mod entering;
mod event;
mod expiring;
pub(crate) mod fuzzing;
mod handler;
mod handlers;
mod hooks;
mod id;
mod incoming;
mod io;
mod lifecycle;
mod listeners;
mod listening;
mod membership;
mod mount;
mod namespace;
mod once;
mod reason;
pub(crate) mod recovery;
mod refusal;
mod room;
mod rooms;
mod running;
mod serve;
mod server_side;
mod shared;
#[cfg(test)]
mod sizes;
#[expect(clippy::module_inception, reason = "the two words of the protocol")]
mod socket;
mod state;
mod targets;
mod validity;

pub use ack::{AckError, AckFuture};
pub use acks::Acks;
pub use authenticate::{Authenticate, Renewal};
pub use builder::{BuildError, Builder};
pub use client_builds::ClientFiles;
pub use conn::{Conn, ConnEvent};
pub use connect::Connect;
pub use contract::Contract;
pub use direct::Direct;
pub use emit::{Broadcast, EmitError, Emitted};
pub use event::Event;
pub use handler::{Ack, Answer, Handler, IntoAck, NoAck, Parameter, Reply, State};
pub use handlers::NamespaceBuilder;
pub use id::SocketId;
pub use incoming::{Incoming, Verdict};
pub use io::Io;
pub use lifecycle::Lifecycle;
pub use listeners::{ListenError, ListenerId, Outgoing};
pub use membership::JoinError;
pub use mount::{IoFuture, IoLayer, IoService, Layered, LayeredBody};
pub use namespace::Namespace;
pub use once::{Idempotent, argument, field, idempotent};
pub use reason::DisconnectReason;
pub use refusal::Refusal;
pub use room::{IntoRooms, Room, RoomName};
pub use running::Failure;
pub use serve::{Error, Server};
pub use server_side::{ServerSide, ServerSideError};
pub use socket::Socket;
