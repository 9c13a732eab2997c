//! Serving: on own listeners, or as a `tower` service inside another server, with the JavaScript
//! client.
//!
//! Applications access this module through `api`, and no other module imports it. It connects a
//! server with its engine. It must not know sockets, events or namespaces.

mod client_files;
mod mount;
mod serve;

pub use mount::{IoFuture, IoLayer, IoService, Layered, LayeredBody};
pub use serve::{Error, Server};
