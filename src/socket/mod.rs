//! Socket.IO: namespaces, sockets, rooms, events, acknowledgements.
//!
//! A packet's way in is [`connection`] → [`handlers`] → [`running`]; an event's way out is
//! [`emit`] → [`namespace`] → [`rooms`] → the outboxes of the engine.

mod ack;
mod ack_table;
mod acks;
mod admission;
mod admitting;
mod answer;
mod args;
mod authenticate;
mod broadcast;
mod broadcast_api;
mod builder;
mod claiming;
mod client_files;
mod conn;
mod connect;
mod connection;
mod contract;
mod detached;
mod direct;
mod dispatch;
mod door;
mod emit;
mod ending;
mod entering;
mod errors;
mod expiring;
pub(crate) mod fuzzing;
mod handler;
mod handlers;
mod hooks;
mod id;
#[cfg(feature = "jwt")]
mod identity;
mod incoming;
mod io;
mod io_api;
mod joined;
mod listeners;
mod listening;
mod members;
mod membership;
mod mount;
mod name;
mod namespace;
mod namespace_api;
mod namespace_builder;
mod once;
mod options;
mod outgoing;
mod questions;
mod reason;
pub(crate) mod recovery;
mod refreshing;
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
mod watchers;

pub use ack::AckFuture;
pub use acks::Acks;
pub use answer::{Ack, Answer, IntoAck, NoAck, Reply};
pub use authenticate::Authenticate;
pub use broadcast::Broadcast;
pub use builder::Builder;
pub use conn::Conn;
pub use contract::Contract;
pub use direct::Direct;
pub use emit::Emitted;
pub use errors::{AckError, BuildError, EmitError, JoinError, ListenError, ListenerId};
pub use handler::{Handler, Parameter, State};
pub use handlers::{Connect, Event, Failure, Incoming, Lifecycle, Outgoing, Renewal, ServerSide};
pub use id::SocketId;
#[cfg(feature = "server")]
pub(crate) use identity::RefreshOffer;
pub use incoming::Verdict;
pub use io::Io;
pub use mount::{IoFuture, IoLayer, IoService, Layered, LayeredBody};
pub use namespace::Namespace;
pub use namespace_builder::NamespaceBuilder;
pub use once::{Idempotent, argument, field, idempotent};
pub use reason::DisconnectReason;
pub use refusal::Refusal;
pub use room::{IntoRooms, Room, RoomName};
pub use serve::{Error, Server};
pub use server_side::ServerSideError;
pub use socket::Socket;
pub use watchers::ConnEvent;
