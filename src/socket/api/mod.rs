//! The application's interface: builder, namespaces, broadcasts, socket listeners, and serving.
//!
//! Code outside of `socket`, including fuzz targets, accesses this module through the re-exports of
//! `socket`. No other module of `socket` may import it. It is a thin layer over the modules below,
//! and uses operations if several sockets are involved. It must not know incoming packets or
//! connections.

mod broadcast;
mod builder;
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
pub use cluster::{PartialAnswers, ServerSideError};
pub use conn::EngineConnection;
pub use io::TableSizes;
pub use namespace_builder::NamespaceBuilder;
pub use once::{Idempotent, argument, field, idempotent};
pub use serving::{Error, IoFuture, IoLayer, IoService, Layered, LayeredBody, Server};
