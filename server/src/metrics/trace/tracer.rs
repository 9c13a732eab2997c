//! One tracer: its bounded queue of lines, and the connections that it observes.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::Timestamp;
use parking_lot::Mutex;
use roomcast::{SocketId, connection::EngineConnection, handler::ListenerId};
use serde_json::{Map, Value};
use tokio::sync::{Notify, mpsc};
use tokio::time::Instant;
use uuid::Uuid;

use super::filter::{Filter, Subject};
use crate::metrics::Size;

/// Identifies a tracer on all servers.
pub(crate) type TracerId = Uuid;

/// One line of a trace: a JSON object without a line end.
pub(crate) type Line = String;

/// Whether a tracer's lines contain texts and addresses of users.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Detail {
    Masked,
    Unmasked,
}

/// Who reads the lines of a tracer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reader {
    /// A caller of this server.
    Caller,
    /// Another server, to which the lines of this one are sent.
    Peer,
}

/// A tracer.
#[derive(Debug)]
pub(crate) struct Tracer {
    pub(crate) id: TracerId,
    pub(crate) reader: Reader,
    pub(crate) filter: Filter,
    pub(crate) detail: Detail,
    node: String,
    queue: mpsc::Sender<Line>,
    /// Lines that found no place in the queue and are not reported yet.
    dropped: AtomicU64,
    is_stopped: AtomicBool,
    stopped: Notify,
    /// When the requesting server last asked for the tracer.
    renewed_at: Mutex<Instant>,
    /// The observed connections, by the socket for which they are observed.
    pub(super) observed: Mutex<HashMap<SocketId, (EngineConnection, ListenerId)>>,
}

/// The reading end of a tracer's queue.
pub(crate) type Lines = mpsc::Receiver<Line>;

impl Tracer {
    pub(super) fn new(
        id: TracerId,
        reader: Reader,
        filter: Filter,
        detail: Detail,
        node: &str,
    ) -> (Self, Lines) {
        let (queue, lines) = mpsc::channel(QUEUE);
        let tracer = Self {
            id,
            reader,
            filter,
            detail,
            node: node.to_owned(),
            queue,
            dropped: AtomicU64::new(0),
            is_stopped: AtomicBool::new(false),
            stopped: Notify::new(),
            renewed_at: Mutex::new(Instant::now()),
            observed: Mutex::default(),
        };
        (tracer, lines)
    }

    /// Queues a line about a step.
    pub(crate) fn record(&self, subject: &Subject<'_>, step: &str, fields: Map<String, Value>) {
        if !self.is_stopped() {
            self.queue(self.line(subject, step, fields));
        }
    }

    /// Returns a line about a step.
    pub(crate) fn line(
        &self,
        subject: &Subject<'_>,
        step: &str,
        fields: Map<String, Value>,
    ) -> Line {
        let mut line = Map::new();
        line.insert("at".into(), format!("{:.6}", Timestamp::now()).into());
        line.insert("node".into(), self.node.clone().into());
        line.insert("step".into(), step.into());
        if let Some(user) = subject.user {
            line.insert("user".into(), user.into());
        }
        if let Some(socket) = &subject.socket {
            line.insert("socket".into(), socket.as_str().into());
        }
        if let Some(conversation) = subject.conversation {
            line.insert("conversation".into(), conversation.to_string().into());
        }
        if let Some(channel) = subject.channel {
            line.insert("channel".into(), channel.into());
        }
        line.extend(fields);
        Value::Object(line).to_string()
    }

    /// Queues a line, or counts it if the queue is full.
    pub(crate) fn queue(&self, line: Line) {
        if self.queue.try_send(line).is_err() {
            self.count_dropped(1);
        }
    }

    /// Counts lines that the reader does not get.
    pub(crate) fn count_dropped(&self, lines: u64) {
        self.dropped.fetch_add(lines, Ordering::Relaxed);
    }

    /// Takes the number of lines that were dropped since the last call.
    pub(crate) fn take_dropped(&self) -> u64 {
        self.dropped.swap(0, Ordering::Relaxed)
    }

    /// Notes that the requesting server still needs the tracer.
    pub(crate) fn renew(&self) {
        *self.renewed_at.lock() = Instant::now();
    }

    /// Returns when the tracer was started or last renewed.
    pub(crate) fn renewed_at(&self) -> Instant {
        *self.renewed_at.lock()
    }

    /// Returns whether the tracer has ended.
    pub(crate) fn is_stopped(&self) -> bool {
        self.is_stopped.load(Ordering::Relaxed)
    }

    /// Waits until the tracer has ended.
    pub(crate) async fn stopped(&self) {
        let stopped = self.stopped.notified();
        tokio::pin!(stopped);
        // The waiter is registered first, so that it misses no end.
        stopped.as_mut().enable();
        if !self.is_stopped() {
            stopped.await;
        }
    }

    /// Ends the tracer and removes its observers.
    pub(super) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Relaxed);
        self.stopped.notify_waiters();
        let observed = std::mem::take(&mut *self.observed.lock());
        for (connection, listener) in observed.into_values() {
            connection.off(listener);
        }
    }

    /// Returns the number of queued lines.
    pub(super) fn queued(&self) -> usize {
        self.queue.max_capacity() - self.queue.capacity()
    }

    /// Returns the size of the table of observed connections.
    pub(super) fn connections(&self) -> Size {
        Size::of_map(&self.observed.lock())
    }
}

/// Maximum number of queued lines of a tracer. Further lines are dropped and counted.
pub(crate) const QUEUE: usize = 1024;
