//! Who may come in, and how long they may stay: doors of namespaces, authentication, gates,
//! credentials that end or are renewed.
//!
//! `inbound` asks here for every client that wants into a namespace, and `api` registers what is
//! asked. Nothing in here may know a connection's seats or how packets come in; it decides about
//! one client, which it knows as a [`Connect`](crate::Connect) or as a socket.

mod admission;
mod asking;
mod authenticate;
mod lookup;
pub(crate) mod refreshing;
mod validity;

pub(crate) use admission::{Admission, ConnectGrant, ConnectOutcome};
pub use authenticate::{Authenticate, Authenticates};
pub(crate) use lookup::Lookup;
pub(crate) use validity::Validity;
