//! Engine.IO: HTTP requests and WebSockets in, messages out, and the other way round.
//!
//! It knows nothing of Socket.IO: messages go up through [`Application`], frames come
//! down through [`Outbox`]. A session is one task, its [`driver`]; everybody else holds
//! its outbox. What outboxes have queued is written by one [`flusher`] per worker.

mod accepted;
mod alarm;
mod application;
mod batch;
mod closing;
pub(crate) mod compression;
mod connection;
mod control;
pub(crate) mod cors;
mod door;
mod driver;
mod ending;
mod engine;
mod error;
mod exchange;
mod flusher;
mod frames;
pub(crate) mod fuzzing;
mod ground;
mod handoff;
mod handshake;
mod head;
mod heartbeats;
mod hooks;
mod http;
mod line;
mod listener;
mod lossy;
mod mount;
mod opening;
mod outbox;
mod outgoing;
mod parked;
mod pings;
mod polling;
mod polls;
mod pressure;
mod proxied;
mod queue;
mod raw;
mod recent;
mod refusal;
mod relief;
mod replay;
mod reply;
mod request;
mod requests;
mod response;
mod sessions;
mod site;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod transport;
mod unattended;
mod upgrade;
mod view;
mod wheel;

pub(crate) use application::Application;
pub(crate) use batch::Batch;
pub(crate) use engine::Engine;
pub use error::{ConnectionError, ErrorContext};
pub(crate) use ground::Peer;
pub(crate) use ground::random_sid;
pub use handshake::Handshake;
pub use hooks::Forbidden;
pub(crate) use hooks::Hooks;
pub(crate) use listener::{Endpoints, bind, serve};
pub(crate) use lossy::Yielding;
pub(crate) use outbox::{Mode, Outbox, Push};
pub use raw::{RawEngine, RawSession};
pub(crate) use recent::Limits;
#[cfg(test)]
pub(crate) use tests::sizes;
pub(crate) use tls::Tls as MaybeTls;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};
pub(crate) use unattended::Unattended;
pub use view::EngineRequest;
