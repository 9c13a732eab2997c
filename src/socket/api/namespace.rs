//! A namespace as applications see it.

use super::broadcast::{Broadcast, targets};
use crate::{
    adapter::Node,
    socket::{
        apply::Place,
        core::{Namespace, Socket},
        words::{Room, SocketId},
    },
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

    /// The servers of the cluster, [`Io::nodes`](crate::Io::nodes). Whether the namespace exists on them they
    /// do not tell.
    #[must_use]
    pub fn nodes(&self) -> Vec<Node> {
        self.io().nodes()
    }

    pub(super) fn place(&self) -> Place {
        match self.inner() {
            Some(inner) => Place::Here(inner),
            None => Place::Absent(self.io().clone(), self.nsp().clone()),
        }
    }

    fn all<'a>(&self) -> Broadcast<'a> {
        Broadcast::new(self.place())
    }
}
