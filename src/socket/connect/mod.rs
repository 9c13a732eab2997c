//! Decides which clients may connect to a namespace and for how long: lookup of namespaces,
//! authentication, middleware, and credentials that expire or are renewed.
//!
//! `inbound` asks this module for every client that wants to connect to a namespace, and `api`
//! registers what is asked. Nothing in this module may know the slots of a connection or how packets
//! arrive. It decides about one client, which it knows as a [`Connect`](crate::Connect) or as a
//! socket.

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
