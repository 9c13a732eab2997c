//! What an idle connection costs.

use super::socket::{self, ConnInner};
use crate::engine::sizes;

/// A connection that is joined to `/` costs at most 4 KiB resident; of that these parts may be so
/// much. The rest is the task around the driver with its timer, the entries of tables, the record of
/// the handshake, and what allocators need.
const LIMIT: usize = 2048;

#[test]
fn an_idle_connection_is_made_of_small_parts() {
    let mut parts = sizes::parts();
    parts.push(("connection", size_of::<ConnInner>()));
    parts.push(("socket", size_of::<socket::SocketInner>()));
    let all: usize = parts.iter().map(|(_, size)| size).sum();
    assert!(all <= LIMIT, "{all} bytes: {parts:?}");
}
