//! The watchers of one connection, and the events they are told.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use parking_lot::Mutex;
use roomcast_protocol::{Frame, engine::Transport};
use tokio::sync::Notify;

use crate::{
    metrics::{Counter, Metrics},
    socket::types::{DisconnectReason, ListenError, ListenerId},
};

/// Something that has happened on a connection.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ConnEvent<'a> {
    /// A message has come in: the text or the bytes of one Engine.IO packet of type 4.
    Packet {
        /// What it carries, without the packet type.
        data: &'a [u8],
    },
    /// A message was queued for the client.
    PacketCreate {
        /// The packet as it stands in a polling payload: the packet type first, attachments behind
        /// record separators.
        data: &'a [u8],
    },
    /// The client has answered a ping.
    Heartbeat,
    /// The connection went over to another transport.
    Upgrade {
        /// The transport that the connection uses from now on.
        transport: Transport,
    },
    /// Everything that was queued has been handed to the transport.
    Drain,
    /// The connection is over. Its sockets are told after this.
    Close {
        /// Why.
        reason: DisconnectReason,
        /// More about it, if there is more to say.
        description: Option<&'a str>,
    },
}

/// The watchers of one connection.
#[derive(Default)]
pub(crate) struct ConnWatchers {
    table: Mutex<Table>,
    /// Whether somebody has ever watched; spares all other connections the lock.
    watched: AtomicBool,
    /// Notified when everything has left, and when the connection is over.
    drained: Notify,
}

#[derive(Default)]
struct Table {
    last: u64,
    watchers: Vec<(ListenerId, Watcher)>,
    closed: bool,
}

type Watcher = Arc<dyn Fn(&ConnEvent<'_>) + Send + Sync>;

impl ConnWatchers {
    pub(crate) fn add(&self, watcher: Watcher, limit: usize) -> Result<ListenerId, ListenError> {
        let mut table = self.table.lock();
        if table.closed {
            return Err(ListenError::Disconnected);
        }
        if table.watchers.len() >= limit {
            return Err(ListenError::TooMany);
        }
        table.last += 1;
        let id = ListenerId::new(table.last);
        table.watchers.push((id, watcher));
        // The flag rises last, so that whoever sees it finds the watcher.
        self.watched.store(true, Ordering::Release);
        Ok(id)
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Acquire)
    }

    /// Notified when everything has left, and when the connection is over.
    pub(crate) fn drained(&self) -> &Notify {
        &self.drained
    }

    pub(crate) fn remove(&self, id: ListenerId) -> bool {
        let mut table = self.table.lock();
        let position = table.watchers.iter().position(|(known, _)| *known == id);
        let gone = position.map(|position| table.watchers.remove(position));
        drop(table);
        gone.is_some()
    }

    pub(crate) fn tell(&self, metrics: &Metrics, event: &ConnEvent<'_>) {
        // Watchers are called without the lock, since they may add and remove others.
        let watchers: Vec<_> = {
            let table = self.table.lock();
            table
                .watchers
                .iter()
                .map(|(_, watcher)| Arc::clone(watcher))
                .collect()
        };
        for watcher in watchers {
            // A watcher that panics must not take along the connection.
            if catch_unwind(AssertUnwindSafe(|| watcher(event))).is_err() {
                metrics.count(Counter::HandlerPanics);
                crate::throttled_log!(error, "a watcher of a connection has panicked");
            }
        }
    }

    pub(crate) fn tell_created(&self, metrics: &Metrics, frame: &Frame) {
        let data = &frame.polling();
        self.tell(metrics, &ConnEvent::PacketCreate { data });
    }

    /// Forgets all: a watcher may hold the connection itself.
    pub(crate) fn close(&self) {
        let mut table = self.table.lock();
        table.closed = true;
        let gone = std::mem::take(&mut table.watchers);
        drop(table);
        drop(gone);
    }
}
