//! What has arrived and waits to be read.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
};

use bytes::Bytes;
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::link::Target;
use crate::adapter::{common::Limits, seal::SealedName};

/// A notification that has arrived.
#[derive(Debug)]
pub(crate) enum Waiting {
    /// This server has sent it to itself, behind all that has come before.
    Probe,
    /// It was not sealed.
    Text(String),
    /// It was sealed.
    Opened(Bytes),
    /// It was sealed and names a row.
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

/// What has arrived on one connection and is not read yet.
#[derive(Default)]
pub(crate) struct Inbound {
    waiting: Mutex<(VecDeque<(Target, Waiting)>, usize)>,
    arrived: Notify,
    /// Whether a message was taken that is being read.
    is_reading: AtomicBool,
}

impl Inbound {
    /// Queues a message. Returns `false` if there is no room for it.
    pub(crate) fn push(&self, target: Target, message: Waiting, limits: &Limits) -> bool {
        let mut waiting = self.waiting.lock();
        let (messages, bytes) = &mut *waiting;
        let fits = messages.len() < limits.messages && *bytes + message.bytes() <= limits.bytes;
        if fits {
            *bytes += message.bytes();
            messages.push_back((target, message));
            // `notify_one` leaves a permit behind: a message that comes between `take` and `arrived` is not slept through.
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

    /// Notes that what was taken last is read.
    pub(crate) fn has_read(&self) {
        self.is_reading.store(false, Ordering::Relaxed);
    }

    /// Whether everything is read that has come.
    pub(crate) fn is_read(&self) -> bool {
        self.waiting.lock().0.is_empty() && !self.is_reading.load(Ordering::Relaxed)
    }

    /// How many messages of others wait. What this server sends to itself is none.
    pub(crate) fn len(&self) -> usize {
        let waiting = self.waiting.lock();
        let messages = waiting.0.iter();
        messages
            .filter(|(_, message)| !matches!(message, Waiting::Probe))
            .count()
    }

    /// Resolves when there may be something to take.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}
