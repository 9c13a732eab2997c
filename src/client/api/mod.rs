//! The handles that applications hold: clients, sockets, handlers, event streams.
//!
//! Nothing here owns a connection. A handle encodes what it sends and enqueues it for the task in
//! [`driver`](super::driver), which owns all other state. To answer queries, a handle reads a value
//! that the task updates. So no handle waits for another, and no lock is held while a function of
//! the application runs.
//!
//! `driver` imports this module. This module must not import `driver`.

mod auth;
mod change;
mod client;
mod command;
mod emit;
mod events;
mod handler;
mod incoming;
mod listeners;
mod listening;
mod settings;
mod shared;
mod socket;

pub use auth::Auth;
pub(super) use auth::Kind as AuthKind;
pub use change::{Change, ConnectError};
pub use client::Client;
pub(super) use client::Handle;
pub(super) use command::{Command, Outgoing, Target as ListenerTarget, Watcher};
pub use emit::Emit;
pub use events::Events;
pub use handler::{ContractParameters, Handler, Parameter, Parameters};
pub use incoming::Incoming;
pub(super) use incoming::{Erased, Pending, Sink};
pub(super) use listeners::Listeners;
pub(super) use settings::Settings;
pub(super) use shared::{SharedNamespace, SocketState};
pub use socket::Socket;
