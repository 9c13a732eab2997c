//! The application's interface to a namespace.

use std::borrow::Borrow;

use super::broadcast::{Broadcast, targets};
use crate::socket::{
    apply::TargetNamespace,
    core::{Namespace, Socket},
    types::{Room, SocketId},
};

impl Namespace {
    targets!("the namespace");

    /// Returns the socket with this id, if it is connected.
    #[must_use]
    pub fn socket(&self, id: impl Borrow<SocketId>) -> Option<Socket> {
        self.inner()?.socket(id.borrow())
    }

    /// Returns the rooms on this server with their number of members, unordered, without the
    /// sockets' own rooms.
    ///
    /// For the rooms of all servers, call
    /// [`fetch_sockets`](Self::fetch_sockets)`().await.`[`rooms`](super::Fetched::rooms)`()`.
    #[must_use]
    pub fn rooms(&self) -> Vec<(Room, usize)> {
        self.inner()
            .map_or_else(Vec::new, |inner| inner.rooms.sizes())
    }

    pub(super) fn target_namespace(&self) -> TargetNamespace {
        match self.inner() {
            Some(inner) => TargetNamespace::Local(inner),
            None => TargetNamespace::Absent(self.io().clone(), self.nsp().clone()),
        }
    }

    fn all<'a>(&self) -> Broadcast<'a> {
        Broadcast::new(self.target_namespace())
    }
}
