//! How connections come in: listeners, TLS, and the PROXY protocol of load balancers.
//!
//! Only what starts a server imports this module, from outside of the engine. It is the highest
//! module of the engine: it knows HTTP as far as handing over an accepted connection, and no other
//! module of the engine may know it.

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
