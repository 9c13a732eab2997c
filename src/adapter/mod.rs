//! Clustering: publishes operations to other servers and receives theirs.
//!
//! An `Adapter`, set with `Builder::adapter`, transports envelopes. This module implements their
//! semantics for all adapters: timeouts, deduplication, metrics. See also `docs/adapters.md`.
//!
//! `socket` publishes local operations and registers a `Receiver` for remote operations. This
//! module must not depend on sockets; operations are plain data.

mod cluster;
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
mod common;
mod envelope;
mod interface;
#[cfg(feature = "nats")]
pub mod nats;
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
#[cfg_attr(
    not(all(feature = "postgres", feature = "redis")),
    allow(dead_code, unused_imports, reason = "some parts have only one user")
)]
mod node_js;
mod operation;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
#[cfg_attr(
    not(all(feature = "nats", feature = "postgres", feature = "redis")),
    allow(dead_code, unused_imports, reason = "each adapter uses a part of it")
)]
mod seal;
pub mod values;
mod wire;

#[cfg(feature = "forwarding")]
pub(crate) use cluster::Forwarding;
pub(crate) use cluster::{
    Cluster, HandoverId, HandoverRequest, HandoverState, Joined, MissedEvent, Receiver, Registry,
    Request, Tail, keep as keep_nodes,
};
pub use cluster::{Load, Node, NodeIdConflict, NodeOptions};
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
pub use common::{Emission, Emitter, LiveUrl, LostMessages};
pub use envelope::{Channel, Envelope, Message, Publication, Reply};
pub use interface::journal::{Journal, JournalStart, Missed, Origin, SavedState};
pub use interface::subscriber::{Subscriber, Subscriptions};
pub use interface::{Adapter, Backlog, BoxFuture, Gaps, Health, Inbox, Servers};
pub use operation::{AdapterError, Delivery, Item, Kind, NodeId, Position, Unanswered};
pub(crate) use operation::{Audience, Flags, NAMESPACE, Operation, OperationKind, Target};
#[cfg(all(
    feature = "fuzzing",
    any(feature = "nats", feature = "postgres", feature = "redis")
))]
#[doc(hidden)]
pub use seal::fuzz as fuzz_sealed;
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
pub use seal::{InvalidSecrets, Secrets};
pub use wire::{Unopened, WireError};
