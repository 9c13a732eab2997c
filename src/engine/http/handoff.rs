//! The continuation of a connection after HTTP.

use std::{sync::Arc, time::Duration};

use parking_lot::Mutex;
use roomcast_protocol::websocket::deflate::Agreement;

#[cfg(feature = "forwarding")]
use super::tunnel::Tunnel;
use crate::engine::{
    outbox::Attaching,
    primitives::Peer,
    session::{Engine, Opening},
};

/// The data of a request that another server has forwarded.
#[derive(Clone, Copy, Debug)]
pub(super) struct ForwardedRequest {
    /// The client of the request.
    pub(super) client: Peer,
    /// How long it may wait for packets, if the other server limits that.
    pub(super) hold: Option<Duration>,
}

/// The continuation of the connection after a `101`.
pub(super) enum Handoff {
    /// It carries a new session of this engine.
    Open(Arc<Engine>, Opening),
    /// It is a candidate for the upgrade of this session, with the promised compression.
    Attach(Attaching, Option<Agreement>),
    /// It is tunnelled to the server that has the session.
    #[cfg(feature = "forwarding")]
    Tunnel(Box<Tunnel>),
}

/// The cell in which a request stores its [`Handoff`] for the connection's task.
pub(super) type HandoffCell = Mutex<Option<Handoff>>;
