//! Socket.IO: namespaces, sockets, rooms, events, acknowledgements.
//!
//! A packet's way in is [`connection`] → [`handlers`] → [`running`]; an event's way out is
//! [`emit`] → [`namespace`] → [`rooms`] → the outboxes of the engine.

mod ack;
mod ack_table;
mod acks;
mod admission;
mod answer;
mod args;
mod authenticate;
mod builder;
mod client_files;
mod conn;
mod connect;
mod connection;
mod contract;
mod direct;
mod dispatch;
mod emit;
mod entering;
mod errors;
mod event;
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
mod joined;
mod lifecycle;
mod listeners;
mod listening;
mod membership;
mod mount;
mod name;
mod namespace;
mod once;
mod questions;
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
mod watchers;

pub use ack::AckFuture;
pub use acks::Acks;
pub use answer::{Ack, Answer, IntoAck, NoAck, Reply};
pub use authenticate::{Authenticate, Renewal};
pub use builder::{BuildError, Builder};
pub use conn::Conn;
pub use connect::Connect;
pub use contract::Contract;
pub use direct::Direct;
pub use emit::{Broadcast, Emitted};
pub use errors::{AckError, EmitError, JoinError, ListenError, ListenerId};
pub use event::Event;
pub use handler::{Handler, Parameter, State};
pub use handlers::NamespaceBuilder;
pub use id::SocketId;
#[cfg(feature = "server")]
pub(crate) use identity::RefreshOffer;
pub use incoming::{Incoming, Verdict};
pub use io::Io;
pub use lifecycle::Lifecycle;
pub use listeners::Outgoing;
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
pub use watchers::ConnEvent;
