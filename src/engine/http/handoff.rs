//! What becomes of a connection that is no longer HTTP.

use std::sync::Arc;

use parking_lot::Mutex;

use crate::engine::{
    outbox::Attaching,
    session::{Engine, Opening},
};

/// What becomes of the connection after a `101`.
#[derive(Debug)]
pub(super) enum Handoff {
    /// The connection carries a new session of this engine.
    Open(Arc<Engine>, Opening),
    /// The connection is to take this session over.
    Attach(Attaching),
}

/// Where a request leaves its [`Handoff`] for the connection's task.
pub(super) type HandoffCell = Mutex<Option<Handoff>>;
