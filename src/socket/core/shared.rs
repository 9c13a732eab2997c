//! What the sockets of one connection share, and others reach while its task runs.

use std::sync::{
    Arc, OnceLock, Weak,
    atomic::{AtomicUsize, Ordering},
};

use parking_lot::Mutex;
use roomcast_protocol::Frame;

use super::watchers::ConnWatchers;
use crate::{
    engine::{Handshake, Mode, Outbox, Push},
    metrics::Metrics,
};

/// What the sockets of one connection share.
pub(crate) struct Shared<S> {
    pub(in crate::socket) outbox: Outbox,
    pub(in crate::socket) handshake: Arc<Handshake>,
    pub(in crate::socket) sockets: Mutex<Vec<Weak<S>>>,
    /// Handlers that have outlived their socket and still wait.
    detached: AtomicUsize,
    /// The watchers of the connection; most connections have none.
    watchers: OnceLock<Box<ConnWatchers>>,
}

impl<S> Shared<S> {
    pub(crate) fn new(outbox: Outbox, handshake: Arc<Handshake>) -> Self {
        Self {
            outbox,
            handshake,
            sockets: Mutex::default(),
            detached: AtomicUsize::new(0),
            watchers: OnceLock::new(),
        }
    }

    /// Queues a frame for the client and tells those who watch the connection.
    #[inline]
    pub(crate) fn push(&self, frame: &Frame, mode: Mode, metrics: &Metrics) -> Push {
        let push = self.outbox.push(frame, mode);
        if push == Push::Queued
            && let Some(watchers) = self.watchers()
        {
            watchers.tell_created(metrics, frame);
        }
        push
    }

    /// The watchers of the connection, if it ever had one.
    #[inline]
    pub(crate) fn watchers(&self) -> Option<&ConnWatchers> {
        let watchers = self.watchers.get().map(|watchers| &**watchers);
        watchers.filter(|watchers| watchers.is_watched())
    }

    /// Everything has left, or the connection is over: who waits for it looks again.
    pub(crate) fn release(&self) {
        if let Some(watchers) = self.watchers.get() {
            watchers.drained().notify_waiters();
        }
    }

    pub(crate) fn make_watchers(&self) -> &ConnWatchers {
        self.watchers.get_or_init(Box::default)
    }

    /// Handlers that have outlived their socket and still wait.
    pub(crate) fn detached(&self) -> usize {
        self.detached.load(Ordering::Relaxed)
    }

    pub(crate) fn count_detached(&self, handlers: usize) {
        self.detached.fetch_add(handlers, Ordering::Relaxed);
    }

    pub(crate) fn count_settled(&self, handlers: usize) {
        self.detached.fetch_sub(handlers, Ordering::Relaxed);
    }

    #[inline]
    pub(crate) fn outbox(&self) -> &Outbox {
        &self.outbox
    }

    #[inline]
    pub(crate) fn handshake(&self) -> &Handshake {
        &self.handshake
    }

    pub(crate) fn forget_gone(&self) {
        let is_there = |known: &Weak<S>| known.strong_count() > 0;
        self.sockets.lock().retain(is_there);
    }
}
