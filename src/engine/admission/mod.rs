//! What is known and said of a client before it has a session: how many may come in and how fast,
//! what functions of the application are asked and told, and the record of the request that is
//! kept.
//!
//! `session` imports this module because sessions are opened with that record, `http` because it
//! asks, and the listener because it counts connections. This module must not know sessions or
//! outboxes, nor how a request is answered.

mod connection_limiter;
mod error;
mod handshake;
mod hooks;
mod view;

pub(in crate::engine) use connection_limiter::{ConnectionLimiter, PendingConnection, hang_up};
pub use error::{ConnectionError, ErrorContext};
pub use handshake::Handshake;
pub(in crate::engine) use handshake::{CredentialsFault, check_credentials, join_cookies};
pub use hooks::Forbidden;
pub(crate) use hooks::{Hooks, IsAllowed};
pub use view::EngineRequest;
pub(in crate::engine) use view::original_uri;
