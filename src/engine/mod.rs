//! Engine.IO: HTTP requests and WebSockets in, messages out, and the other way round.
//!
//! The engine knows nothing of Socket.IO: messages go up through [`SessionHandler`], frames come
//! down through [`Outbox`]. A session is one task, its driver; everybody else holds its outbox. One
//! flusher per worker thread writes what outboxes have queued.
//!
//! The engine has eight modules. Each may import those below it in this list and none above, which
//! a test checks. None of them imports from this file, which is the table of contents for other
//! modules of the library.
//!
//! - [`accept`]: how connections come in.
//! - [`http`](self::http): from the bytes of a connection to answers and WebSockets.
//! - [`session`]: one task per session, and the table of all sessions.
//! - [`forwarding`]: requests of sessions that are open at another server.
//! - [`admission`]: what is known and decided about a client before it has a session.
//! - [`outbox`]: what waits to be sent to a session, and how it is written.
//! - [`transport`]: byte streams, and the WebSockets on them.
//! - [`primitives`]: the clock, random ids, and the address of a peer.
//!
//! Three borders are not where one may look for them first. Transports lie below the outbox,
//! because a queue holds the stream that it is written to. The connection limiter is asked by the
//! listener and by HTTP, so it lies below both, with everything else that is asked before a session
//! exists. The [`Engine`] lies in `session` although HTTP uses most of it, because a driver keeps
//! its engine alive: whoever has an open session reaches the engine through it.

mod accept;
mod admission;
#[cfg(feature = "forwarding")]
mod forwarding;
#[cfg(not(feature = "forwarding"))]
#[path = "forwarding/none.rs"]
mod forwarding;
mod http;
mod outbox;
mod primitives;
mod session;
#[cfg(test)]
mod tests;
mod transport;

pub(crate) use self::http::{BoxError, Fallback, Pieces, compression};
#[cfg(feature = "fuzzing")]
pub(crate) use self::{http::fuzzing, outbox::Unattended, primitives::Peer};
pub(crate) use accept::{Endpoints, MaybeTls, bind, serve};
#[cfg(feature = "tls")]
pub use accept::{Tls, TlsError};
pub(crate) use admission::Hooks;
pub use admission::{ConnectionError, EngineRequest, ErrorContext, Forbidden, Handshake};
pub(crate) use forwarding::Forwarder;
#[cfg(feature = "forwarding")]
pub(crate) use forwarding::{Bounds, Directory, Own, Owner};
pub(crate) use outbox::{Batch, DropPolicy, Limits, Mode, Outbox, Push};
pub(crate) use primitives::random_sid;
pub(crate) use session::{Application, Engine, SessionHandler};
pub use session::{RawEngine, RawSession};
#[cfg(test)]
pub(crate) use tests::sizes;
