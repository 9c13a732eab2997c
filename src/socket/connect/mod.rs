//! Decides which clients may connect to a namespace and for how long.
//!
//! It covers the lookup of namespaces, authentication, middleware, and credentials that expire or
//! are renewed. `inbound` calls this module for every `CONNECT`, and `api` registers the
//! authenticators and middleware.
//!
//! This module decides about one client, as a [`Connect`](crate::Connect) or a socket. It must not
//! know the slots of a connection or how packets arrive.

mod admission;
mod authenticate;
mod connect_request;
mod lookup;
pub(crate) mod refreshing;
mod validity;

pub(crate) use admission::{Admission, ConnectGrant, ConnectOutcome};
pub use authenticate::{Authenticate, IntoAuthenticator};
pub(crate) use lookup::Lookup;
pub(crate) use validity::Validity;
