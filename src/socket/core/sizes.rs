//! Memory limits of an idle connection.

use super::shared::LAST_PACKET_BYTES;
use super::socket::{self, ConnInner};
use crate::engine::{Handshake, sizes};

/// Maximum size of these parts of a connection, in bytes.
///
/// A connection joined to `/` uses at most 4 KiB of resident memory. The rest is the driver's task
/// with its timer, table entries, handshake data, and allocator overhead.
const LIMIT: usize = 2048;

#[test]
fn an_idle_connection_is_made_of_small_parts() {
    let mut parts = sizes::parts();
    parts.push(("connection", size_of::<ConnInner>()));
    parts.push(("socket", size_of::<socket::SocketInner>()));
    let all: usize = parts.iter().map(|(_, size)| size).sum();
    assert!(all <= LIMIT, "{all} bytes: {parts:?}");
}

#[test]
fn connection_times_take_at_most_sixteen_bytes() {
    const { assert!(Handshake::TIME_BYTES + LAST_PACKET_BYTES <= 16) };
}
