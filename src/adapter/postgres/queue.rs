//! What waits to be sent, and what waits to be read.

use std::{collections::VecDeque, time::Duration};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::Instant};

use super::{
    line::{Body, Message},
    link::Target,
};

/// What may wait to be sent, and as much again to be read.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) messages: usize,
    pub(crate) bytes: usize,
    pub(crate) message_bytes: usize,
}

/// What waits to be sent.
#[derive(Default)]
pub(crate) struct Queue {
    messages: VecDeque<(Instant, Message)>,
    bytes: usize,
}

/// What has arrived on one connection and is not read yet.
#[derive(Default)]
pub(crate) struct Inbound {
    waiting: Mutex<(VecDeque<(Target, String)>, usize)>,
    arrived: Notify,
}

impl Queue {
    /// Forgets what has waited for too long; returns how much that is.
    fn drop_stale(&mut self, now: Instant) -> u64 {
        let mut stale = 0;
        while let Some((since, message)) = self.messages.front()
            && now.duration_since(*since) > STALE
        {
            self.bytes -= message.bytes();
            self.messages.pop_front();
            stale += 1;
        }
        stale
    }

    /// `true`: there is room. And how much is not sent any more.
    pub(crate) fn push(&mut self, message: Message, limits: &Limits) -> (bool, u64) {
        let now = Instant::now();
        let stale = self.drop_stale(now);
        let bytes = self.bytes + message.bytes();
        let fits = bytes <= limits.bytes && self.messages.len() < limits.messages;
        if fits {
            self.bytes = bytes;
            self.messages.push_back((now, message));
        }
        (fits, stale)
    }

    pub(crate) fn len(&self) -> usize {
        self.messages.len()
    }

    /// What is sent next, either texts or one attachment, and how much is not sent any more.
    pub(crate) fn take(&mut self) -> (Vec<Message>, u64) {
        let stale = self.drop_stale(Instant::now());
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Some((_, next)) = self.messages.front()
        {
            let is_alone = matches!(next.body, Body::Attached { .. });
            if is_alone && !batch.is_empty() {
                break;
            }
            bytes += next.bytes();
            batch.extend(self.messages.pop_front().map(|(_, message)| message));
            if is_alone {
                break;
            }
        }
        self.bytes -= bytes;
        (batch, stale)
    }
}

impl Inbound {
    /// `false`: there is no room.
    pub(crate) fn push(&self, target: Target, text: &str, limits: &Limits) -> bool {
        let mut waiting = self.waiting.lock();
        let (messages, bytes) = &mut *waiting;
        let fits = messages.len() < limits.messages && *bytes + text.len() <= limits.bytes;
        if fits {
            *bytes += text.len();
            messages.push_back((target, text.to_owned()));
            self.arrived.notify_one();
        }
        fits
    }

    pub(crate) fn take(&self) -> Option<(Target, String)> {
        let mut waiting = self.waiting.lock();
        let (target, text) = waiting.0.pop_front()?;
        waiting.1 -= text.len();
        Some((target, text))
    }

    pub(crate) fn len(&self) -> usize {
        self.waiting.lock().0.len()
    }

    /// Comes when there may be something to take.
    pub(crate) async fn arrived(&self) {
        self.arrived.notified().await;
    }
}

/// How long a message waits for a connection.
pub(crate) const STALE: Duration = Duration::from_secs(5);
/// Notifications that are sent at once, and their bytes, without the last one.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
