//! Outboxes without sessions, for tests, fuzzing and benches.

use std::{sync::Arc, time::Duration};

use roomcast_protocol::{Frame, Sid, engine::Revision, websocket::deflate::Settings};
use tokio::net::TcpStream;

use super::{
    handle::Outbox,
    queue::Sink,
    waiting::MemoryBudget,
    worker::{Flusher, Heartbeats},
};
use crate::{
    engine::{primitives::now, transport::Stream},
    metrics::Metrics,
};

/// A factory of outboxes that are emptied only by [`take`](Self::take).
pub(crate) struct TestOutboxes {
    flusher: Arc<Flusher<Outbox>>,
    stream: Option<Stream>,
    metrics: Arc<Metrics>,
}

/// The interval of the heartbeats of these outboxes, and their timeout.
pub(super) const INTERVAL: Duration = Duration::from_secs(25);
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

impl TestOutboxes {
    /// Creates outboxes of polling sessions between two polls.
    pub(crate) fn polling(metrics: Arc<Metrics>) -> Self {
        Self::limited(usize::MAX, metrics)
    }

    /// Creates the same outboxes with a budget of `total` bytes for slow clients.
    pub(in crate::engine) fn limited(total: usize, metrics: Arc<Metrics>) -> Self {
        let memory = Arc::new(MemoryBudget::new(total, Arc::clone(&metrics)));
        let heartbeats = Heartbeats::new(INTERVAL, TIMEOUT, now());
        Self {
            flusher: Arc::new(Flusher::new(
                memory,
                Arc::default(),
                heartbeats,
                usize::MAX,
                Settings::default(),
            )),
            stream: None,
            metrics,
        }
    }

    /// Returns the memory account of these outboxes.
    #[cfg(test)]
    pub(in crate::engine) fn memory(&self) -> Arc<MemoryBudget> {
        self.flusher.memory_arc()
    }

    /// Returns the flusher, which sends the pings of these outboxes once it runs.
    #[cfg(test)]
    pub(in crate::engine) fn flusher(&self) -> Arc<Flusher<Outbox>> {
        Arc::clone(&self.flusher)
    }

    /// Creates outboxes of WebSocket sessions on one shared stream. Filled outboxes are in the
    /// flusher's list, but the flusher does not run.
    pub(crate) fn websocket(stream: TcpStream, metrics: Arc<Metrics>) -> Self {
        Self {
            stream: Some(Stream::tcp(stream)),
            ..Self::polling(metrics)
        }
    }

    pub(crate) fn outbox(&self, sid: Sid, budget: usize) -> Outbox {
        self.outbox_for(Revision::V4, sid, budget)
    }

    /// Creates the outbox of a session that uses this revision.
    pub(in crate::engine) fn outbox_for(
        &self,
        revision: Revision,
        sid: Sid,
        budget: usize,
    ) -> Outbox {
        let sink = match &self.stream {
            Some(stream) => Sink::websocket(stream.clone()),
            None => Sink::polling(),
        };
        let (flusher, metrics) = (Arc::clone(&self.flusher), Arc::clone(&self.metrics));
        Outbox::new(sid, revision, budget, sink, flusher, metrics)
    }

    /// Takes out all queued frames.
    pub(crate) fn take(outbox: &Outbox) -> Vec<Frame> {
        outbox.take_for_poll(usize::MAX)
    }

    /// Returns whether the driver was requested to close the session.
    #[cfg(test)]
    pub(crate) fn is_closing(outbox: &Outbox) -> bool {
        let queue = outbox.lock();
        let is_close = super::queue::requests::Control::is_close;
        queue.control().iter().any(is_close)
    }

    /// Takes out the outboxes in the flusher's list.
    #[cfg(test)]
    pub(in crate::engine) fn take_listed(&self) -> Vec<Outbox> {
        self.flusher.take_listed()
    }

    /// Empties the flusher's list.
    pub(crate) fn forget(&self) {
        self.flusher.forget();
    }
}
