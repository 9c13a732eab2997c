//! What waits to be sent to a broker.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// A message on its way out.
pub(in crate::adapter) trait Outgoing {
    /// The bytes that count for the bound of the queue.
    fn bytes(&self) -> usize;

    /// Whether this is a word of a server about itself, for which nothing is waited for.
    fn is_pulse(&self) -> bool {
        false
    }

    /// Whether the message has a queue and a connection apart from those of most, so that it does not wait behind them.
    fn is_apart(&self) -> bool {
        false
    }

    /// Whether no other message is sent together with this one.
    fn is_alone(&self) -> bool {
        false
    }
}

/// What may wait.
#[derive(Clone, Copy, Debug)]
pub(in crate::adapter) struct Limits {
    pub(in crate::adapter) messages: usize,
    pub(in crate::adapter) bytes: usize,
    pub(in crate::adapter) message_bytes: usize,
}

/// Messages in the order in which they are sent.
pub(in crate::adapter) struct Queue<M> {
    messages: VecDeque<(Instant, M)>,
    bytes: usize,
}

impl<M> Default for Queue<M> {
    fn default() -> Self {
        Self {
            messages: VecDeque::new(),
            bytes: 0,
        }
    }
}

impl<M: Outgoing> Queue<M> {
    /// Queues a message if there is room. Returns whether there was, and the messages that have waited for too
    /// long and are not sent any more.
    pub(in crate::adapter) fn push(&mut self, message: M, limits: &Limits) -> (bool, Vec<M>) {
        let now = Instant::now();
        // Stale messages go first, so that they take no room from a fresh one.
        let stale = self.take_stale(now);
        let bytes = self.bytes + message.bytes();
        let fits = bytes <= limits.bytes && self.messages.len() < limits.messages;
        if fits {
            self.bytes = bytes;
            self.messages.push_back((now, message));
        }
        (fits, stale)
    }

    pub(in crate::adapter) fn len(&self) -> usize {
        self.messages.len()
    }

    /// What counts for the bound of bytes.
    pub(in crate::adapter) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes all messages that wait.
    pub(in crate::adapter) fn into_messages(self) -> Vec<M> {
        self.messages
            .into_iter()
            .map(|(_, message)| message)
            .collect()
    }

    /// What is sent next, and what is not sent any more.
    pub(in crate::adapter) fn take(&mut self) -> (Vec<M>, Vec<M>) {
        let stale = self.take_stale(Instant::now());
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Some((_, next)) = self.messages.front()
        {
            let is_alone = next.is_alone();
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

    fn take_stale(&mut self, now: Instant) -> Vec<M> {
        let mut stale = Vec::new();
        // The queue is in the order of time, so the first fresh message ends the search.
        while let Some((since, message)) = self.messages.front()
            && now.duration_since(*since) > STALE
        {
            self.bytes -= message.bytes();
            stale.extend(self.messages.pop_front().map(|(_, message)| message));
        }
        stale
    }
}

/// How long a message waits for a connection.
pub(in crate::adapter) const STALE: Duration = Duration::from_secs(5);
/// How many messages are sent at once, and how many bytes these may have without the last one.
const BATCH: usize = 256;
const BATCH_BYTES: usize = 1 << 20;
