//! Engine.IO: HTTP requests and WebSockets in, messages out, and the other way round.
//!
//! It knows nothing of Socket.IO: messages go up through [`SessionHandler`], frames
//! come down through [`Outbox`]. A session is one task, its driver; everybody else holds
//! its outbox. What outboxes have queued is written by one flusher per worker.
//!
//! The house has seven rooms, and each may import those below it and none above; a test holds them
//! to that. Nobody in them imports from this file: it is the table of contents for others.
//!
//! - [`accept`]: how connections come in.
//! - [`http`](self::http): from the bytes of a connection to answers and WebSockets.
//! - [`session`]: one task per session, and the table of all of them.
//! - [`admission`]: what is known and said of a client before it has a session.
//! - [`outbox`]: what waits to be sent to a session, and how it leaves.
//! - [`transport`]: byte streams, and the WebSockets on them.
//! - [`primitives`]: the clock, random ids, and who a peer is.
//!
//! Three borders are not where one may look for them first. Transports lie below the outbox, as a
//! queue holds the stream it is written to. The limiter is asked by the listener and by HTTP, so it
//! lies below both, with all else that is asked before there is a session. The [`Engine`] lies with
//! sessions, although HTTP uses most of it: a driver keeps its engine alive, so that whoever
//! looks for the engine of open sessions finds it, and it is one struct because of that.

mod accept;
mod admission;
mod http;
mod outbox;
mod primitives;
mod session;
#[cfg(test)]
mod tests;
mod transport;

pub(crate) use self::http::compression;
#[cfg(feature = "fuzzing")]
pub(crate) use self::{http::fuzzing, outbox::Unattended, primitives::Peer};
pub(crate) use accept::{Endpoints, MaybeTls, bind, serve};
#[cfg(feature = "tls")]
pub use accept::{Tls, TlsError};
pub(crate) use admission::Hooks;
pub use admission::{ConnectionError, EngineRequest, ErrorContext, Forbidden, Handshake};
pub(crate) use outbox::{Batch, DropPolicy, Limits, Mode, Outbox, Push};
pub(crate) use primitives::random_sid;
pub(crate) use session::{Application, Engine, SessionHandler};
pub use session::{RawEngine, RawSession};
#[cfg(test)]
pub(crate) use tests::sizes;
