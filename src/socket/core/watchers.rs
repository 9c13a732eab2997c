//! The observers of one connection, and the events that they receive.

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
    engine::Push,
    metrics::{Counter, Metrics},
    socket::types::{DisconnectReason, ListenError, ListenerId},
};

/// An event on a connection.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum EngineConnectionEvent<'a> {
    /// A message arrived: the text or bytes of one Engine.IO packet of type 4.
    Packet {
        /// The payload, without the packet type.
        data: &'a [u8],
    },
    /// A message was queued for the client.
    PacketCreate {
        /// The packet in polling format: the packet type, then attachments after record separators.
        data: &'a [u8],
    },
    /// A message for the client was not queued, because the client is too slow.
    PacketDrop {
        /// The packet, as in [`PacketCreate`](Self::PacketCreate).
        data: &'a [u8],
        /// Whether the message was reliable. The connection is then being closed.
        is_overflow: bool,
    },
    /// The client answered a ping.
    Heartbeat,
    /// The connection switched to another transport.
    Upgrade {
        /// The new transport.
        transport: Transport,
    },
    /// All queued data was passed to the transport.
    Drain,
    /// The connection closed. Its sockets are notified afterwards.
    Close {
        /// The reason.
        reason: DisconnectReason,
        /// A description, if available.
        description: Option<&'a str>,
    },
}

/// The observers of one connection.
#[derive(Default)]
pub(crate) struct ConnWatchers {
    table: Mutex<Table>,
    /// Whether an observer was ever added. Saves the lock on other connections.
    watched: AtomicBool,
    /// Notified when all data is sent, and when the connection closes.
    drained: Notify,
}

#[derive(Default)]
struct Table {
    last: u64,
    watchers: Vec<(ListenerId, Watcher)>,
    closed: bool,
}

type Watcher = Arc<dyn Fn(&EngineConnectionEvent<'_>) + Send + Sync>;

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
        // The flag is set last, so that readers of the flag find the observer.
        self.watched.store(true, Ordering::Release);
        Ok(id)
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.watched.load(Ordering::Acquire)
    }

    /// Returns the notification for drained data and closed connections.
    pub(crate) fn drained(&self) -> &Notify {
        &self.drained
    }

    pub(crate) fn remove(&self, id: ListenerId) -> bool {
        let mut table = self.table.lock();
        let position = table.watchers.iter().position(|(known, _)| *known == id);
        let removed = position.map(|position| table.watchers.remove(position));
        drop(table);
        removed.is_some()
    }

    pub(crate) fn notify(&self, metrics: &Metrics, event: &EngineConnectionEvent<'_>) {
        // Observers are called without the lock, because they may add and remove observers.
        let watchers: Vec<_> = {
            let table = self.table.lock();
            table
                .watchers
                .iter()
                .map(|(_, watcher)| Arc::clone(watcher))
                .collect()
        };
        for watcher in watchers {
            // A panic of an observer must not end the connection.
            if catch_unwind(AssertUnwindSafe(|| watcher(event))).is_err() {
                metrics.count(Counter::HandlerPanics);
                crate::throttled_log!(error, "a connection observer panicked");
            }
        }
    }

    /// Reports a message that was pushed for the client.
    pub(crate) fn notify_push(&self, metrics: &Metrics, frame: &Frame, push: Push) {
        let data = &frame.polling();
        let event = match push {
            Push::Queued => EngineConnectionEvent::PacketCreate { data },
            Push::Dropped | Push::Overflow => EngineConnectionEvent::PacketDrop {
                data,
                is_overflow: push == Push::Overflow,
            },
            Push::Closed => return,
        };
        self.notify(metrics, &event);
    }

    /// Returns whether observers remain.
    pub(crate) fn has_watchers(&self) -> bool {
        !self.table.lock().watchers.is_empty()
    }

    /// Removes all observers, because they may hold the connection itself.
    pub(crate) fn close(&self) {
        let mut table = self.table.lock();
        table.closed = true;
        let removed = std::mem::take(&mut table.watchers);
        drop(table);
        drop(removed);
    }
}
