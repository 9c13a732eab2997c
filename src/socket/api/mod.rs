//! What applications see: putting a server together, its namespaces and broadcasts, listening on
//! sockets, and serving.
//!
//! The world outside of `socket` comes in here through the table of contents, and fuzz targets do;
//! no other room may import this one. It is thin: it hands on to the rooms below, what reaches other
//! sockets as operations, and must not know packets or connections that come in.

mod broadcast;
mod builder;
mod conn;
mod hooks;
mod io;
mod listening;
mod namespace;
mod namespace_builder;
mod once;
mod options;
mod server_side;
mod serving;

pub use broadcast::{Broadcast, Fetched, RemoteSocket};
pub use builder::Builder;
pub use conn::Conn;
pub use namespace_builder::NamespaceBuilder;
pub use once::{Idempotent, argument, field, idempotent};
pub use server_side::{PartialAnswers, ServerSideError};
pub use serving::{Error, IoFuture, IoLayer, IoService, Layered, LayeredBody, Server};
