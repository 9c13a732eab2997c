//! Engine.IO: turns HTTP requests and WebSockets into messages, and messages into responses and
//! frames.
//!
//! The engine must not know Socket.IO. It passes messages up through [`SessionHandler`] and
//! receives frames through [`Outbox`]. Each session is one task, its driver; other code holds only
//! its outbox. The flusher of each worker thread writes what the outboxes have queued; a driver
//! that runs writes by itself.
//!
//! The engine has eight modules. Each may import only modules below it in this list, which a test
//! checks. Except in tests, none of them imports from this file; it only lists what other modules
//! of the library use.
//!
//! - [`accept`]: accepts connections.
//! - [`http`](self::http): turns the bytes of a connection into responses and WebSockets.
//! - [`session`]: one task per session, and the table of all sessions.
//! - [`forwarding`]: forwards requests to the server that has the session.
//! - [`admission`]: data and decisions about a client before it has a session.
//! - [`outbox`]: queues and writes the frames of a session.
//! - [`transport`]: byte streams, and WebSockets on them.
//! - [`primitives`]: the clock, random ids, the address of a peer, and the gate after stalls.
//!
//! Three placements are not obvious:
//!
//! - Transports are below the outbox, because a queue holds the stream that it writes to.
//! - The connection limiter is in `admission`, below both the listener and HTTP, which use it.
//! - The [`Engine`] is in `session`, although HTTP uses most of it, because each driver keeps its
//!   engine alive.

mod accept;
mod admission;
#[cfg(feature = "forwarding")]
mod forwarding;
#[cfg(not(feature = "forwarding"))]
#[path = "forwarding/no_forwarding.rs"]
mod forwarding;
mod http;
mod outbox;
mod primitives;
mod session;
#[cfg(test)]
mod tests;
mod transport;

pub(crate) use self::http::{BoxError, Fallback, Pieces, Site, compression};
#[cfg(feature = "fuzzing")]
pub(crate) use self::{http::fuzzing, outbox::TestOutboxes, primitives::Peer};
pub(crate) use accept::{MaybeTls, bind, serve};
#[cfg(feature = "tls")]
pub use accept::{Tls, TlsError, certificate_validity};
pub(crate) use admission::Hooks;
pub use admission::{ConnectionError, EngineRequest, ErrorContext, Forbidden, Handshake};
pub(crate) use forwarding::Forwarder;
#[cfg(feature = "forwarding")]
pub(crate) use forwarding::{Bounds, Directory, LocalServer, Owner};
pub(crate) use outbox::{Batch, DropPolicy, Limits, Mode, Outbox, Push};
pub(crate) use primitives::LogSource;
pub(crate) use primitives::random_sid;
pub use primitives::{ConnectionId, LogFields, LogScope, current_log_fields};
pub(crate) use session::{Application, Engine, SessionHandler};
pub use session::{RawEngine, RawSession};
#[cfg(test)]
pub(crate) use tests::sizes;
