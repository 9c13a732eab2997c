//! The state of servers, namespaces and sockets, and of what is registered with them.
//!
//! Every room above comes in here, to read and change state and to add what it does as further
//! blocks of these types. A server holds namespaces, they hold handlers, those take events, and
//! events hold sockets with their namespace and server: so `handlers`, `io`, `namespace` and
//! `socket` import one another, and nobody else may join that circle. Nothing in here may start a
//! handler, decide who comes in, or know how a server is built.

pub(crate) mod handlers;
pub(crate) mod io;
mod listeners;
pub(crate) mod namespace;
mod shared;
#[cfg(test)]
mod sizes;
pub(crate) mod socket;
mod watchers;

pub(crate) use handlers::{
    Asking, Authenticator, BoxHandler, Erased, Handlers, Listeners, OutgoingHook, PacketMiddleware,
    Registered, ServerSideHandler, SharedHandler, Watchers,
};
pub use handlers::{Connect, Event, Failure, Incoming, Lifecycle, Outgoing, Renewal, ServerSide};
pub use io::Io;
pub(crate) use io::{Built, OnDemand, Predicate, WeakIo};
pub(crate) use listeners::Position;
pub use namespace::Namespace;
pub use socket::Socket;
pub(crate) use socket::{Sessions, Shared};
pub use watchers::ConnEvent;
