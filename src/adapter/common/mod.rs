//! Shared code of the adapters of this library, for any transport: subscribed channels, the send
//! queue, a connection that reconnects, and emitters for programs that are not servers.
//!
//! This module must not depend on a transport.

mod broker_adapter;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod channels;
mod emitter;
mod lifetime;
mod options;
mod outbound;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod probes;
mod queue;
mod shared_address;
#[cfg(any(feature = "nats", feature = "postgres"))]
mod sole_server;
#[cfg(any(feature = "postgres", feature = "redis"))]
mod subscriptions;

use std::panic::{AssertUnwindSafe, catch_unwind};

pub(super) use broker_adapter::{BrokerAdapter, BrokerState, StateCell};
#[cfg(any(feature = "nats", feature = "redis"))]
pub(super) use emitter::UID;
#[cfg(feature = "postgres")]
pub(super) use emitter::is_emitter;
pub use emitter::{Emission, Emitter, LostMessages};
pub(super) use emitter::{Losses, emitter_name, unwritten};
pub(super) use lifetime::ProbeTimer;
pub(super) use options::{Options, option_methods};
pub(super) use outbound::{Broker, InFlightMessages, Outbound};
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) use probes::Probes;
pub(super) use queue::{Limits, Outgoing};
pub use shared_address::LiveUrl;
pub(super) use shared_address::SharedAddress;
#[cfg(any(feature = "nats", feature = "postgres"))]
pub(super) use sole_server::{GREETING, SoleServer};
#[cfg(any(feature = "postgres", feature = "redis"))]
pub(super) use subscriptions::Subscriptions;

/// Processes a received message. This may call functions of the application, and a panic in one of
/// them must not end the connection.
pub(super) fn guarded(act: impl FnOnce()) {
    if catch_unwind(AssertUnwindSafe(act)).is_err() {
        crate::throttled_log!(error, "processing a message of another server panicked");
    }
}

/// Returns the text of an error and its causes, because the broker's message is often only in a
/// cause.
#[cfg(any(feature = "nats", feature = "postgres"))]
#[cfg_attr(
    not(feature = "postgres"),
    expect(unreachable_pub, reason = "the PostgreSQL adapter exports it")
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
