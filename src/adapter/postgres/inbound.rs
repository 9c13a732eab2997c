//! What has arrived and waits to be read.

use std::{
    collections::VecDeque,
    sync::atomic::{AtomicBool, Ordering},
};

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::link::Target;
use crate::adapter::common::Limits;

/// What has arrived on one connection and is not read yet.
#[derive(Default)]
pub(crate) struct Inbound {
    waiting: Mutex<(VecDeque<(Target, String)>, usize)>,
    arrived: Notify,
    /// Whether a message was taken that is being read.
    is_reading: AtomicBool,
}

impl Inbound {
    /// Queues a message. Returns `false` if there is no room for it.
    pub(crate) fn push(&self, target: Target, text: &str, limits: &Limits) -> bool {
        let mut waiting = self.waiting.lock();
        let (messages, bytes) = &mut *waiting;
        let fits = messages.len() < limits.messages && *bytes + text.len() <= limits.bytes;
        if fits {
            *bytes += text.len();
            messages.push_back((target, text.to_owned()));
            // `notify_one` leaves a permit behind: a message that comes between `take` and `arrived` is not slept through.
            self.arrived.notify_one();
        }
        fits
    }

    pub(crate) fn take(&self) -> Option<(Target, String)> {
        let mut waiting = self.waiting.lock();
        let (target, text) = waiting.0.pop_front()?;
        waiting.1 -= text.len();
        self.is_reading.store(true, Ordering::Relaxed);
        Some((target, text))
    }

    /// Notes that what was taken last is read.
    pub(crate) fn has_read(&self) {
        self.is_reading.store(false, Ordering::Relaxed);
    }

    /// Whether everything is read that has come.
    pub(crate) fn is_read(&self) -> bool {
        self.waiting.lock().0.is_empty() && !self.is_reading.load(Ordering::Relaxed)
    }

    /// How many messages of others wait. What this server says to itself is empty, and is none.
    pub(crate) fn len(&self) -> usize {
        let waiting = self.waiting.lock();
        let messages = waiting.0.iter();
        messages.filter(|(_, text)| !text.is_empty()).count()
    }

    /// Resolves when there may be something to take.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}
