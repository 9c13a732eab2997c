//! What is known and said of a client before it has a session: how many may come in and how fast,
//! what functions of the application are asked and told, and the record of the request that is
//! kept.
//!
//! Sessions import it because they are opened with that record, HTTP because it asks, and the
//! listener because it knocks. It must not know sessions or outboxes, nor how a request is
//! answered.

mod door;
mod error;
mod handshake;
mod hooks;
mod view;

pub(in crate::engine) use door::{Door, Knock, hang_up};
pub use error::{ConnectionError, ErrorContext};
pub use handshake::Handshake;
pub(in crate::engine) use handshake::{CredentialsFault, check_credentials, join_cookies};
pub use hooks::Forbidden;
pub(crate) use hooks::{Hooks, IsAllowed};
pub use view::EngineRequest;
pub(in crate::engine) use view::original_uri;
