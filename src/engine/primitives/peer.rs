//! The other end of a connection.

use std::net::SocketAddr;

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Peer {
    /// The address that the connection comes from.
    pub(crate) address: SocketAddr,
    /// Whether the connection is encrypted, so that nobody in between can read it.
    pub(crate) secure: bool,
}
