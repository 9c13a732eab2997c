//! The receive queue: notifications that have arrived and are not processed yet.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::broker::Target;
use crate::adapter::{common::Limits, operation::NAMESPACE, seal::SealedName};

/// A notification that has arrived.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// A loopback probe of this server, queued after all earlier messages.
    Probe,
    /// A notification that was not sealed.
    Text(String),
    /// The content of a sealed notification.
    Opened(Bytes),
    /// A sealed notification that names a row.
    Row { id: i64, name: SealedName },
}

impl Waiting {
    const fn bytes(&self) -> usize {
        match self {
            Self::Probe => 0,
            Self::Text(text) => text.len(),
            Self::Opened(message) => message.len(),
            Self::Row { name, .. } => name.len(),
        }
    }
}

/// The notifications of one connection that are not processed yet.
#[derive(Default)]
pub(crate) struct Inbound {
    waiting: Mutex<(VecDeque<(Target, Waiting)>, usize)>,
    arrived: Notify,
    /// Whether a notification was taken and is being processed.
    is_reading: AtomicBool,
}

impl Inbound {
    /// Queues a notification. Returns `false` if the queue is full.
    pub(crate) fn push(&self, target: Target, message: Waiting, limits: &Limits) -> bool {
        let mut waiting = self.waiting.lock();
        let (messages, bytes) = &mut *waiting;
        let fits = messages.len() < limits.messages && *bytes + message.bytes() <= limits.bytes;
        if fits {
            *bytes += message.bytes();
            messages.push_back((target, message));
            // `notify_one` stores a permit, so a notification between `take` and `arrived` is not
            // missed.
            self.arrived.notify_one();
        }
        fits
    }

    pub(crate) fn take(&self) -> Option<(Target, Waiting)> {
        let mut waiting = self.waiting.lock();
        let (target, message) = waiting.0.pop_front()?;
        waiting.1 -= message.bytes();
        self.is_reading.store(true, Ordering::Relaxed);
        Some((target, message))
    }

    /// Records that the last notification that was taken has been processed.
    pub(crate) fn has_read(&self) {
        self.is_reading.store(false, Ordering::Relaxed);
    }

    /// Returns whether all notifications have been processed.
    pub(crate) fn is_read(&self) -> bool {
        self.waiting.lock().0.is_empty() && !self.is_reading.load(Ordering::Relaxed)
    }

    /// Returns the number of queued messages whose loss counts: all but loopback probes and
    /// heartbeats.
    pub(crate) fn losses(&self) -> u64 {
        let waiting = self.waiting.lock();
        let counts = |(target, message): &&(Target, Waiting)| {
            !matches!(message, Waiting::Probe)
                && !matches!(target, Target::Namespace(nsp) if *nsp == *NAMESPACE)
        };
        waiting.0.iter().filter(counts).count() as u64
    }

    /// Completes when there may be a notification to take.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}
