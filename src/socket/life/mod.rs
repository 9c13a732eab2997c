//! The life of a socket: it is admitted to its namespace, joins and leaves rooms, is parked when
//! its connection breaks, goes on with its session, and ends.
//!
//! `connect` and `inbound` let sockets begin and end here, and `api` hands on what applications ask
//! for. It starts the handlers of a socket's end through `dispatch`. Nothing in here may know
//! packets that come in, or decide who may come in.

mod admitting;
mod claiming;
mod ending;
mod membership;
mod parked;

pub(crate) use admitting::NotAdmitted;
pub(crate) use claiming::Claim;
