//! Outboxes without sessions, for tests, fuzzing and benches of what fills them.

use std::{sync::Arc, time::Duration};

use roomcast_protocol::{Frame, Sid};
use tokio::net::TcpStream;

use super::{
    handle::Outbox,
    states::Sink,
    waiting::MemoryBudget,
    worker::{Flusher, Heartbeats},
};
use crate::{
    engine::{primitives::now, transport::Stream},
    metrics::Metrics,
};

/// Makes outboxes that nobody empties but [`take`](Self::take).
pub(crate) struct Unattended {
    flusher: Arc<Flusher<Outbox>>,
    stream: Option<Stream>,
    metrics: Arc<Metrics>,
}

/// The interval of the heartbeats of these outboxes, and their timeout.
pub(super) const INTERVAL: Duration = Duration::from_secs(25);
pub(super) const TIMEOUT: Duration = Duration::from_secs(20);

impl Unattended {
    /// Outboxes of polling sessions, between two polls.
    pub(crate) fn polling(metrics: Arc<Metrics>) -> Self {
        Self::limited(usize::MAX, metrics)
    }

    /// The same outboxes with a budget of `total` bytes for slow clients.
    pub(in crate::engine) fn limited(total: usize, metrics: Arc<Metrics>) -> Self {
        let memory = Arc::new(MemoryBudget::new(total, Arc::clone(&metrics)));
        let heartbeats = Heartbeats::new(INTERVAL, TIMEOUT, now());
        Self {
            flusher: Arc::new(Flusher::new(memory, heartbeats, usize::MAX)),
            stream: None,
            metrics,
        }
    }

    /// What waits for slow clients in these outboxes.
    #[cfg(test)]
    pub(in crate::engine) fn memory(&self) -> Arc<MemoryBudget> {
        self.flusher.memory_arc()
    }

    /// What sends the pings of these outboxes as soon as it runs.
    #[cfg(test)]
    pub(in crate::engine) fn flusher(&self) -> Arc<Flusher<Outbox>> {
        Arc::clone(&self.flusher)
    }

    /// Outboxes of WebSocket sessions, all on one stream, in a flusher's list when they are
    /// not empty. The flusher does not run.
    pub(crate) fn websocket(stream: TcpStream, metrics: Arc<Metrics>) -> Self {
        Self {
            stream: Some(Stream::tcp(stream)),
            ..Self::polling(metrics)
        }
    }

    pub(crate) fn outbox(&self, sid: Sid, budget: usize) -> Outbox {
        let sink = match &self.stream {
            Some(stream) => Sink::WebSocket(stream.clone()),
            None => Sink::Poll(None),
        };
        let (flusher, metrics) = (Arc::clone(&self.flusher), Arc::clone(&self.metrics));
        Outbox::new(sid, budget, sink, flusher, metrics)
    }

    /// Takes out what is queued.
    pub(crate) fn take(outbox: &Outbox) -> Vec<Frame> {
        outbox.take_for_poll(usize::MAX)
    }

    /// Whether the driver, if there were one, would have been asked to close the session.
    #[cfg(test)]
    pub(crate) fn is_closing(outbox: &Outbox) -> bool {
        let control = &outbox.lock().control;
        control.iter().any(super::requests::Control::is_close)
    }

    /// Takes those out that the flusher was asked to write.
    #[cfg(test)]
    pub(in crate::engine) fn take_listed(&self) -> Vec<Outbox> {
        self.flusher.take_listed()
    }

    /// Empties the flusher's list.
    pub(crate) fn forget(&self) {
        self.flusher.forget();
    }
}
