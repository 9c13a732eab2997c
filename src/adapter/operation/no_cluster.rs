//! Stubs that replace the cluster when the `cluster` feature is off.

use std::task::{Context, Poll};

use roomcast_protocol::socket::Nsp;

use super::{Item, NodeId, Unanswered};
use crate::names::{Room, SocketId};

/// A cluster without other servers.
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

/// A request to other servers. It has no values because there are no other servers.
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

    pub(crate) fn silent(&self) -> Unanswered {
        match *self {}
    }

    pub(crate) fn count_late(&self, _: usize) {
        match *self {}
    }
}
