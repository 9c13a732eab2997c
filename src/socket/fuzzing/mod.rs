//! Entry points for fuzzing and benches: sockets without connections, compared with naive models.
//!
//! Fuzz targets and benches import this module, and unit tests that need a socket whose client
//! reads nothing. It is no part of the public interface, so it may know every module, and no other
//! module may import it but in its tests.

mod recovery;
mod rooms;

pub use recovery::recovery_offers;
pub(crate) use rooms::admit;
#[cfg(test)]
pub(crate) use rooms::handshake;
pub use rooms::{Crowd, rooms_ops};
