//! What is served on a connection.

use std::sync::Arc;

use super::session::{Application, Engine, Raw};

/// What the requests of a connection may be for.
pub(super) struct Site<A: Application> {
    /// Socket.IO.
    pub(super) engine: Arc<Engine<A>>,
    /// Plain Engine.IO under another path.
    pub(super) raw: Option<Arc<Engine<Raw>>>,
    /// Everything else.
    pub(super) router: axum::Router,
}

impl<A: Application> Site<A> {
    /// Whether a path belongs to an engine.
    pub(super) fn owns(&self, path: &str) -> bool {
        self.engine.owns(path) || self.raw.as_ref().is_some_and(|raw| raw.owns(path))
    }
}
