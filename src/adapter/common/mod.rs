//! What the adapters of this library have in common, whatever they connect to: the channels that are
//! listened on, what waits to be sent, a connection that is made again whenever it breaks, and sending from programs that are no
//! server.
//!
//! Nothing in here knows a transport.

#[cfg(any(feature = "nats", feature = "postgres"))]
mod alone;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod channels;
mod emitter;
mod lifetime;
mod outbound;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod probes;
mod queue;

use std::panic::{AssertUnwindSafe, catch_unwind};

#[cfg(any(feature = "nats", feature = "postgres"))]
pub(super) use alone::{Alone, GREETING};
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) use channels::Channels;
#[cfg(any(feature = "nats", feature = "redis"))]
pub(super) use emitter::UID;
#[cfg(feature = "postgres")]
pub(super) use emitter::is_emitter;
pub use emitter::{Emission, Emitter, Lost};
pub(super) use emitter::{Losses, emitter_name, unwritten};
pub(super) use lifetime::Turns;
pub(super) use outbound::{Broker, Doubtful, Outbound};
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) use probes::Probes;
pub(super) use queue::{Limits, Outgoing};

/// Does something with what has arrived. That may call functions of the application, and a panic of one of them
/// is not the end of a connection.
pub(super) fn guarded(act: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(act)).is_err() {
        crate::throttled_log!(error, "a message of another server has caused a panic");
    }
}

/// An error with its causes: a broker's own words are often only in the cause.
#[cfg(any(feature = "nats", feature = "postgres"))]
#[cfg_attr(
    not(feature = "postgres"),
    expect(unreachable_pub, reason = "the adapter for PostgreSQL shows it")
)]
pub fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        let more = source.to_string();
        if !text.ends_with(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        next = source.source();
    }
    text
}
