//! A namespace as applications see it.

use super::targets::targets;
use crate::socket::{
    core::{Namespace, Socket},
    sending::Broadcast,
    words::{Room, SocketId},
};

impl Namespace {
    targets!("the namespace");

    /// The socket with this id, if it is connected.
    #[must_use]
    pub fn socket(&self, id: SocketId) -> Option<Socket> {
        self.inner()?.socket(id)
    }

    /// The rooms and how many members each has, in no order; without the sockets' own rooms.
    #[must_use]
    pub fn rooms(&self) -> Vec<(Room, usize)> {
        self.inner()
            .map_or_else(Vec::new, |inner| inner.rooms.sizes())
    }

    fn all<'a>(&self) -> Broadcast<'a> {
        Broadcast::new(self.inner())
    }
}
