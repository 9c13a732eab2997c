//! What all modules of the engine import: the clock, ids that nobody can guess, and who
//! is at the other end of a connection.
//!
//! Every module of the engine may import this one, which is made of plain values and of functions
//! of a few lines. It must not know any other module: neither connections nor sessions nor what
//! they carry.

mod clock;
mod peer;
mod random;

pub(in crate::engine) use clock::now;
pub(crate) use peer::Peer;
pub(crate) use random::random_sid;
