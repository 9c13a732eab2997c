//! What stands for other servers where the feature `cluster` is off: there are none.

use std::task::{Context, Poll};

use roomcast_protocol::socket::Nsp;

use super::{Item, Missing, NodeId};
use crate::names::{Room, SocketId};

/// There are no other servers.
#[derive(Clone, Debug, Default)]
pub(crate) enum Cluster {
    #[default]
    Local,
}

impl Cluster {
    #[inline]
    pub(crate) fn room_changed(&self, _: &Nsp, _: &Room, _: impl FnOnce() -> bool) {}

    #[inline]
    pub(crate) fn socket_changed(&self, _: &Nsp, _: SocketId, _: impl FnOnce() -> bool) {}

    pub(crate) fn namespace_changed(&self, _: &Nsp, _: impl FnOnce() -> bool) {}

    #[inline]
    pub(crate) fn follows_rooms(&self) -> bool {
        false
    }

    #[inline]
    pub(crate) fn is_joined(&self) -> bool {
        false
    }

    pub(crate) fn has_journal(&self) -> bool {
        false
    }

    pub(crate) fn has_gap(&self) -> bool {
        false
    }
}

/// A request to other servers, which nobody can make.
#[derive(Debug)]
pub(crate) enum Request {}

impl Request {
    pub(crate) fn poll(&mut self, _: &mut Context<'_>) -> Poll<Option<(NodeId, Item)>> {
        match *self {}
    }

    pub(crate) fn announced(&self) -> usize {
        match *self {}
    }

    pub(crate) fn outstanding(&self) -> usize {
        match *self {}
    }

    pub(crate) fn silent(&self) -> Missing {
        match *self {}
    }

    pub(crate) fn count_late(&self, _: usize) {
        match *self {}
    }
}
