//! The life of a socket: admission, rooms, recovery after a broken connection, and end.
//!
//! `connect` and `inbound` begin and end sockets through this module, and `api` forwards calls of
//! applications. It starts the handlers of a socket's end through `dispatch`. It must not know
//! incoming packets, or decide which client may connect.

mod admitting;
mod claiming;
mod ending;
mod handover;
mod membership;
mod recoverable;
mod restoring;

pub(crate) use admitting::NotAdmitted;
pub(crate) use claiming::{Claim, Claimant};
pub(crate) use restoring::Restored;
