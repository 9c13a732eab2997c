//! The life of a socket: it is admitted to its namespace, joins and leaves rooms, is kept when its
//! connection breaks, is recovered, and ends.
//!
//! `connect` and `inbound` let sockets begin and end through this module, and `api` passes on what
//! applications ask for. It starts the handlers of a socket's end through `dispatch`. Nothing in
//! this module may know incoming packets, or decide which client may connect.

mod admitting;
mod away;
mod claiming;
mod ending;
mod membership;
#[cfg(feature = "cluster")]
mod moving;
#[cfg(not(feature = "cluster"))]
#[path = "alone.rs"]
mod restoring;
#[cfg(feature = "cluster")]
mod restoring;

pub(crate) use admitting::NotAdmitted;
pub(crate) use claiming::{Asker, Claim};
pub(crate) use restoring::Restored;
