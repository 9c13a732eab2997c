//! What applications see: building a server, its namespaces and broadcasts, listening on sockets,
//! and serving.
//!
//! Everything outside of `socket` reaches this module through the table of contents of `socket`, as
//! do fuzz targets; no other module of `socket` may import it. It is thin: it passes on to the
//! modules below, as operations if more than one socket is concerned, and must not know incoming
//! packets or connections.

mod broadcast;
mod builder;
#[cfg(feature = "cluster")]
mod cluster;
mod conn;
mod hooks;
mod io;
mod listening;
mod namespace;
mod namespace_builder;
mod namespaces;
mod once;
mod options;
mod serving;

pub use broadcast::{Broadcast, Fetched, RemoteSocket};
pub use builder::Builder;
#[cfg(feature = "cluster")]
pub use cluster::{PartialAnswers, ServerSideError};
pub use conn::Conn;
pub use namespace_builder::NamespaceBuilder;
pub use once::{Idempotent, argument, field, idempotent};
pub use serving::{Error, IoFuture, IoLayer, IoService, Layered, LayeredBody, Server};
