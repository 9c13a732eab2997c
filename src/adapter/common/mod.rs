//! What the adapters of this library have in common, whatever they connect to: the channels that are
//! listened on, what waits to be sent, how long a connection is kept, and sending from programs that are no
//! server.
//!
//! Nothing in here knows a transport.

#[cfg(any(feature = "postgres", feature = "redis"))]
mod channels;
mod emitter;
mod lifetime;
mod queue;

use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) use channels::Channels;
pub use emitter::{Emission, Emitter};
pub(super) use emitter::{Outlet, UID, unwritten};
pub(super) use lifetime::{Lifetime, Pauses};
pub(super) use queue::{Limits, Outgoing, Queue};

/// Does something with what has arrived. Functions of the application are among it, and a panic of one of them
/// is not the end of a connection.
pub(super) fn guarded(act: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(act)).is_err() {
        tracing::error!("a message of another server has caused a panic");
    }
}
