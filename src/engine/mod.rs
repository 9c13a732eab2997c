//! Engine.IO: HTTP requests and WebSockets in, messages out, and the other way round.
//!
//! It knows nothing of Socket.IO: messages go up through [`Application`], frames come
//! down through [`Outbox`]. A session is one task, its [`driver`]; everybody else holds
//! its outbox. What outboxes have queued is written by one [`flusher`] per worker.

mod admission;
mod ground;
mod http;
mod listener;
mod outbox;
mod proxied;
mod session;
#[cfg(test)]
mod tests;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;
mod transport;

pub(crate) use self::http::{compression, fuzzing};
pub use admission::EngineRequest;
pub use admission::Forbidden;
pub use admission::Handshake;
pub(crate) use admission::Hooks;
pub use admission::{ConnectionError, ErrorContext};
pub(crate) use ground::Peer;
pub(crate) use ground::random_sid;
pub(crate) use listener::{Endpoints, bind, serve};
pub(crate) use outbox::Batch;
pub(crate) use outbox::Limits;
pub(crate) use outbox::Unattended;
pub(crate) use outbox::Yielding;
pub(crate) use outbox::{Mode, Outbox, Push};
pub(crate) use session::Application;
pub(crate) use session::Engine;
pub use session::{RawEngine, RawSession};
#[cfg(test)]
pub(crate) use tests::sizes;
pub(crate) use tls::Tls as MaybeTls;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};
