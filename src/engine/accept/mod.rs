//! How connections come in: listeners, TLS, and what a load balancer says of its clients.
//!
//! Only what starts a server imports it, from outside of the engine. It is the highest room: it
//! knows HTTP as far as handing an accepted connection over, and nobody in the engine may know it.

mod listener;
mod proxied;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;

pub(crate) use listener::{Endpoints, bind, serve};
pub(crate) use tls::Tls as MaybeTls;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};
