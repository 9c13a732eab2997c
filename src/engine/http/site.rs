//! What is served on a connection.

use std::sync::Arc;

use crate::engine::session::Engine;

/// What the requests of a connection may be for.
pub(in crate::engine) struct Site {
    /// Socket.IO.
    pub(in crate::engine) engine: Arc<Engine>,
    /// Plain Engine.IO under another path.
    pub(in crate::engine) raw: Option<Arc<Engine>>,
    /// Everything else.
    pub(in crate::engine) router: axum::Router,
}

impl Site {
    /// The engine that a path belongs to.
    pub(super) fn owner(&self, path: &str) -> Option<&Arc<Engine>> {
        let mut engines = [Some(&self.engine), self.raw.as_ref()]
            .into_iter()
            .flatten();
        engines.find(|engine| engine.owns(path))
    }
}
