//! The state of one thread: its clients and its figures.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    sync::Arc,
    task::{Context, Poll},
    time::{Duration, Instant},
};

use roomcast::client::{ClientError, Connection};
use roomcast_protocol::{engine::CloseReason, socket::Packet};
use tokio::sync::watch;

use super::shared::RunState;
use crate::{
    account::{SenderTotal, Stats, Track},
    load::Plan,
};

/// The state of one thread. No borrow of its cells is held across an await, so the tasks of the
/// thread never conflict.
pub(super) struct Worker {
    pub(super) index: usize,
    pub(super) plan: Arc<Plan>,
    pub(super) shared: Arc<RunState>,
    pub(super) stats: RefCell<Stats>,
    pub(super) start: Cell<Option<Instant>>,
    /// Client `i` of the run belongs to thread `i % threads` and has the index `i / threads` there.
    pub(super) members: RefCell<Vec<Option<Rc<Member>>>>,
    /// Whether slow clients stop reading.
    pub(super) pause: watch::Sender<bool>,
    /// Whether this side closes the connections.
    pub(super) is_closing: Cell<bool>,
}

/// A client.
pub(super) struct Member {
    pub(super) id: usize,
    pub(super) room: usize,
    pub(super) room_name: String,
    pub(super) is_slow: bool,
    /// The connection, which is removed when it has ended.
    pub(super) connection: RefCell<Option<Connection>>,
    pub(super) state: RefCell<ClientRecord>,
}

/// The state of a client.
#[derive(Debug, Default)]
pub(super) struct ClientRecord {
    /// One track for each sender of the room.
    pub(super) tracks: Vec<Track>,
    /// Messages without an acknowledgement yet, by its id.
    pub(super) pending: HashMap<u64, u64>,
    /// The `seq` of the last message in a conversation.
    pub(super) last_seq: u64,
    pub(super) total: SenderTotal,
}

impl Worker {
    /// Returns the time since a message was due, if it counts because the warm-up is over.
    pub(super) fn time_since(&self, due: Duration, now: Instant) -> Option<Duration> {
        let start = self.start.get()?;
        (due >= self.plan.warmup).then(|| now.saturating_duration_since(start + due))
    }

    /// Returns the client of this number, if it belongs to this thread and has connected.
    pub(super) fn member(&self, id: usize) -> Option<Rc<Member>> {
        let members = self.members.borrow();
        members.get(id / self.plan.threads)?.clone()
    }

    /// Returns the clients that have connected.
    pub(super) fn members(&self) -> impl Iterator<Item = Rc<Member>> {
        let members: Vec<_> = self.members.borrow().iter().flatten().cloned().collect();
        members.into_iter()
    }
}

impl Member {
    pub(super) fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Packet, ClientError>> {
        match self.connection.borrow_mut().as_mut() {
            Some(connection) => connection.poll_packet(cx),
            None => Poll::Ready(Err(ClientError::Closed(CloseReason::ForcedClose))),
        }
    }

    pub(super) fn is_upgrading(&self) -> bool {
        let connection = self.connection.borrow();
        connection.as_ref().is_some_and(Connection::is_upgrading)
    }
}
