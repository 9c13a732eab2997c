//! Serving a server: on listeners of its own, as a `tower` service inside another server, and with
//! the JavaScript client beside it.
//!
//! Applications come in here through `api`, and nobody else does. It joins a server with the engine
//! below it; it must not know sockets, events or namespaces.

mod client_files;
mod mount;
mod serve;

pub use mount::{IoFuture, IoLayer, IoService, Layered, LayeredBody};
pub use serve::{Error, Server};
