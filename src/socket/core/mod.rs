//! The state of servers, namespaces and sockets, and their registered handlers.
//!
//! All modules above import this one. They read and change the state, and add behaviour in further
//! `impl` blocks of these types.
//!
//! A server holds namespaces, a namespace holds handlers, a handler takes events, an event holds
//! its socket, and a socket holds its namespace and server. Therefore `handlers`, `io`, `namespace`
//! and `socket` import each other. No other file may join this cycle.
//!
//! This module must not start handlers, decide which client may connect, or know how a server is
//! built.

pub(crate) mod handlers;
pub(crate) mod io;
mod listeners;
pub(crate) mod namespace;
mod paced;
mod pattern;
mod shared;
#[cfg(test)]
mod sizes;
pub(crate) mod socket;
mod watchers;

pub(crate) use handlers::{
    Authenticator, BoxHandler, ConnectRequest, EarlyAck, Erased, Handlers, Listeners, OutgoingHook,
    PacketMiddleware, Registered, ServerSideHandler, SharedHandler, Watchers,
};
pub use handlers::{Connect, Event, Failure, Incoming, Lifecycle, Outgoing, Renewal, ServerSide};
pub use io::Io;
pub(crate) use io::{Built, Handover, LogKind, OnDemand, Predicate, WeakIo};
pub(crate) use listeners::Position;
pub use listeners::WatcherCounts;
pub use namespace::Namespace;
pub(crate) use paced::{After, HeldEvent, Next, Offered, Paced, SendPermit};
pub(crate) use pattern::Pattern;
pub use socket::Socket;
pub(crate) use socket::{ConnInner, RecoveryTable};
pub use watchers::EngineConnectionEvent;
