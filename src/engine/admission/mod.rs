//! Data and decisions about a client before it has a session: connection limits, application hooks,
//! and the stored record of the request.
//!
//! `session` imports this module because sessions are opened with that record. `http` and the
//! listener use its limits. This module must not know sessions, outboxes or how requests are
//! answered.

mod connection_limiter;
mod error;
mod handshake;
mod hooks;
mod view;

pub(in crate::engine) use connection_limiter::{
    ConnectionLimiter, PendingConnection, reject_full, retry_later,
};
pub use error::{ConnectionError, ErrorContext};
pub use handshake::Handshake;
pub(in crate::engine) use handshake::{CredentialsFault, check_credentials, merge_cookie_headers};
pub use hooks::Forbidden;
pub(crate) use hooks::{Hooks, IsAllowed};
pub use view::EngineRequest;
pub(in crate::engine) use view::original_uri;
