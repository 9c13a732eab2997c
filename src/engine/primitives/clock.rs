//! The clock of the engine.

use std::time::Instant;

/// Returns the time of tokio's clock, which tests can pause.
pub(in crate::engine) fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
