//! Several servers as one: what goes from one to another, and what carries it there.
//!
//! An [`Adapter`] carries envelopes, and is given to [`Builder::adapter`](crate::Builder::adapter). What
//! they mean is done by the library, once for all adapters: who must answer and until when, what came
//! twice, what is counted. How one is written is told in `docs/adapters.md`.
//!
//! In the library `socket` comes in here, to publish what it has applied to its own sockets, and with a
//! receiver for what others publish. Nothing in here may know sockets: an operation is plain data.

mod cluster;
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
mod common;
mod envelope;
mod interface;
mod journal;
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
#[cfg_attr(
    not(all(feature = "postgres", feature = "redis")),
    allow(
        dead_code,
        unused_imports,
        reason = "some parts are for one of them alone"
    )
)]
mod message;
#[cfg(feature = "nats")]
pub mod nats;
mod nodes;
mod operation;
#[cfg(feature = "postgres")]
pub mod postgres;
#[cfg(feature = "redis")]
pub mod redis;
pub mod values;
mod wire;

pub use cluster::Missing;
pub(crate) use cluster::{Cluster, Joined, Receiver, Request, Tail};
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
pub use common::{Emission, Emitter};
pub use envelope::{Channel, Envelope, Item, Message, NodeId, Publication, Reply};
pub use interface::{Adapter, AdapterError, BoxFuture, Health, Inbox, Servers};
pub use journal::{Journal, Missed, Origin, Position, Session};
pub use nodes::{Load, Node, NodeOptions, NodeTaken};
pub(crate) use nodes::{NAMESPACE, Registry, keep as keep_nodes};
pub(crate) use operation::{Audience, Flags, Operation, Target};
pub use operation::{Delivery, Kind};
pub use wire::WireError;
