//! HTTP requests for an engine, from the bytes of a connection to the answer or to the WebSocket
//! that follows it.
//!
//! Listeners import this module to serve what they have accepted, and other servers to mount an
//! engine. It opens sessions and feeds them, so it knows `session` and all modules below; it must
//! not know how a connection came in, whether over TLS or from a load balancer.

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
pub(in crate::engine) use site::Site;
pub(crate) use site::{BoxError, Fallback};
