//! A stub for `restoring` without the feature `cluster`: no state is saved elsewhere.

use std::sync::Arc;

use roomcast_protocol::socket::Nsp;
use tokio::time::Duration;

use super::{Claim, Claimant};
use crate::{
    Principal,
    socket::{
        core::{Io, RecoveryTable, Socket, namespace},
        recovery::{Offer, Pid, Recoverable},
        types::SocketId,
    },
};

/// The state of a client of another server. Never exists.
#[derive(Debug)]
pub(crate) enum Restored {}

impl RecoveryTable {
    pub(crate) async fn claim_anywhere(
        self: &Arc<Self>,
        offer: Offer,
        nsp: &Nsp,
        _: &Io,
        _: Claimant,
    ) -> Option<Claim> {
        self.claim(offer, nsp).await
    }
}

impl Restored {
    pub(crate) const fn pid(&self) -> Pid {
        match *self {}
    }

    pub(crate) fn principal(&self) -> Option<Arc<Principal>> {
        match *self {}
    }

    pub(crate) fn give_back(&self, _: Duration) {
        match *self {}
    }

    pub(crate) fn resume(
        self,
        _: &Arc<namespace::NamespaceInner>,
        _: impl FnOnce(SocketId, Recoverable) -> Socket,
    ) -> Option<Socket> {
        match self {}
    }
}

impl Socket {
    pub(crate) fn save_state(&self, _: bool) {}

    pub(crate) fn forget_saved_state(&self) {}
}
