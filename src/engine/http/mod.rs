//! HTTP requests for an engine, from the bytes of a connection to the response or the WebSocket.
//!
//! Listeners import this module to serve accepted connections, and other servers to mount an
//! engine. It opens sessions and passes data to them, so it depends on `session` and all modules
//! below. It must not know how a connection was accepted, for example over TLS or from a load
//! balancer.

mod accepted;
mod answer;
mod connection;
mod exchange;
#[cfg(feature = "forwarding")]
mod forward;
#[cfg(not(feature = "forwarding"))]
#[path = "no_forward.rs"]
mod forward;
#[cfg(feature = "fuzzing")]
pub(crate) mod fuzzing;
mod handoff;
mod http1;
mod message;
mod mount;
mod site;
#[cfg(feature = "forwarding")]
mod tunnel;

pub(crate) use accepted::Accepted;
pub(crate) use message::{body::Pieces, compression};
pub(crate) use site::{BoxError, Fallback, Site};
