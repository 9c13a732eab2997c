//! What the parts of an idle connection cost, for a test of the layer that knows all of them.

use super::*;
use crate::engine::outbox::OutboxInner;

/// The engine's parts and their sizes in bytes: what is allocated once for every WebSocket, but for
/// the bytes of its handshake.
pub(crate) fn parts() -> Vec<(&'static str, usize)> {
    vec![
        ("outbox", size_of::<OutboxInner>()),
        ("driver", size_of::<Driver>()),
        ("stream", size_of::<TcpStream>()),
        ("handshake", size_of::<Handshake>()),
    ]
}
