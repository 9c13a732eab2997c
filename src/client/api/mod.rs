//! What applications hold: the client, its sockets, handlers, streams of events.
//!
//! Nothing here owns a connection. A handle encodes what it is asked to send and puts it into the
//! queue of the task in [`driver`](super::driver), which owns everything else; what a handle can be
//! asked, it reads from a value that this task keeps up to date. So no handle ever waits for another,
//! and nothing is locked while a function of the application runs.
//!
//! `driver` imports this module, and nothing in it may import `driver`.

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
