//! Accepting connections: listeners, TLS, and the PROXY protocol of load balancers.
//!
//! Only code outside of the engine that starts a server imports this module. It is the highest
//! module of the engine: it hands accepted connections to `http`, and no other module of the engine
//! may know it.

#[cfg(feature = "tls")]
mod deferred_ticket;
#[cfg(feature = "tls")]
mod expiry;
mod listener;
mod proxied;
#[cfg(feature = "tls")]
mod suites;
#[cfg(feature = "tls")]
mod tickets;
#[cfg(feature = "tls")]
mod tls;
#[cfg(not(feature = "tls"))]
#[path = "no_tls.rs"]
mod tls;

#[cfg(feature = "tls")]
pub use expiry::validity as certificate_validity;
pub(crate) use listener::{bind, serve};
pub(crate) use tls::Tls as MaybeTls;
#[cfg(feature = "tls")]
pub use tls::{Tls, TlsError};
