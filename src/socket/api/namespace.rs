//! A namespace as applications see it.

#[cfg(feature = "server")]
use std::sync::Arc;

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

    /// Somebody who is connected now and is meant.
    #[cfg(feature = "server")]
    pub(crate) fn find_principal(
        &self,
        is_meant: impl Fn(&crate::auth::Principal) -> bool,
    ) -> Option<Arc<crate::auth::Principal>> {
        let sockets = self.inner()?.all_sockets();
        let mut principals = sockets.iter().map(Socket::principal);
        principals.find(|principal| is_meant(principal))
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
