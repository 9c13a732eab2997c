//! Serving: on listeners of the library's own, as a `tower` service inside another server, and with
//! the JavaScript client beside it.
//!
//! Applications reach this module through `api`, and no other module imports it. It joins a server
//! with the engine below it; it must not know sockets, events or namespaces.

mod client_files;
mod mount;
mod serve;

pub use mount::{IoFuture, IoLayer, IoService, Layered, LayeredBody};
pub use serve::{Error, Server};
