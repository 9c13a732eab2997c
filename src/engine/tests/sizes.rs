//! The sizes of the parts of an idle connection, for a test in the layer that knows all parts.

use super::*;
use crate::engine::outbox::OutboxInner;

/// Returns the engine's parts and their sizes in bytes: the allocations of every WebSocket, except
/// the bytes of its handshake.
pub(crate) fn parts() -> Vec<(&'static str, usize)> {
    vec![
        ("outbox", size_of::<OutboxInner>()),
        ("driver", size_of::<Driver>()),
        ("stream", size_of::<TcpStream>()),
        ("handshake", size_of::<Handshake>()),
    ]
}
