//! Entry points for fuzzing and benches: sockets without connections, compared with simple models.
//!
//! Fuzz targets, benches, and unit tests that need a socket without a reading client import this
//! module. It is not public API, so it may depend on every module. Other modules may import it in
//! tests only.

mod recovery;
mod rooms;

pub use recovery::recovery_offers;
pub(crate) use rooms::admit;
#[cfg(test)]
pub(crate) use rooms::handshake;
pub use rooms::{Crowd, rooms_ops};
