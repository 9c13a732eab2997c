//! Items that all modules of the engine import: the clock, unguessable ids, and the peer of a
//! connection.
//!
//! This module contains only plain values and short functions. It must not depend on any other
//! module: not on connections, sessions or their contents.

mod clock;
mod peer;
mod random;

pub(in crate::engine) use clock::now;
pub(crate) use peer::Peer;
pub(crate) use random::random_sid;
