//! Entry points for fuzzing and benches: sockets without connections, against naive models.
//!
//! Fuzz targets and benches come in here, and unit tests that need a socket of which nobody reads.
//! It is not part of the interface, so it may know every room, and no other room may import it but
//! in its tests.

mod recovery;
mod rooms;

pub use recovery::recovery_offers;
pub(crate) use rooms::admit;
#[cfg(test)]
pub(crate) use rooms::handshake;
pub use rooms::{Crowd, rooms_ops};
