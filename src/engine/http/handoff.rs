//! What becomes of a connection that is no longer HTTP.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;

#[cfg(feature = "forwarding")]
use super::tunnel::Tunnel;
use crate::engine::{
    outbox::Attaching,
    primitives::Peer,
    session::{Engine, Opening},
};

/// A request that another server has handed on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Received {
    /// The client of the request.
    pub(super) client: Peer,
    /// How long it may wait for packets, if the other server wants its place back.
    pub(super) hold: Option<Duration>,
}

/// What becomes of the connection after a `101`.
#[derive(Debug)]
pub(super) enum Handoff {
    /// The connection carries a new session of this engine.
    Open(Arc<Engine>, Opening),
    /// The connection is to take this session over.
    Attach(Attaching),
    /// The session is at another server, and the connection goes on to it.
    #[cfg(feature = "forwarding")]
    Tunnel(Box<Tunnel>),
}

/// Where a request leaves its [`Handoff`] for the connection's task.
pub(super) type HandoffCell = Mutex<Option<Handoff>>;
