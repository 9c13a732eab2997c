//! What is served on a connection.

use std::sync::Arc;

use crate::engine::session::{Application, Engine, Raw};

/// What the requests of a connection may be for.
pub(in crate::engine) struct Site<A: Application> {
    /// Socket.IO.
    pub(in crate::engine) engine: Arc<Engine<A>>,
    /// Plain Engine.IO under another path.
    pub(in crate::engine) raw: Option<Arc<Engine<Raw>>>,
    /// Everything else.
    pub(in crate::engine) router: axum::Router,
}

impl<A: Application> Site<A> {
    /// Whether a path belongs to an engine.
    pub(super) fn owns(&self, path: &str) -> bool {
        self.engine.owns(path) || self.raw.as_ref().is_some_and(|raw| raw.owns(path))
    }
}
