//! The send queue of a broker connection.

use std::{collections::VecDeque, time::Duration};

use tokio::time::Instant;

/// An outgoing message.
pub(in crate::adapter) trait Outgoing {
    /// Returns the size in bytes that counts for the limit of the queue.
    fn bytes(&self) -> usize;

    /// Returns whether this is a heartbeat, which is not held after a reconnect.
    fn is_pulse(&self) -> bool {
        false
    }

    /// Returns whether the message uses a separate queue and connection, so that it does not wait
    /// for other messages.
    fn is_apart(&self) -> bool {
        false
    }

    /// Returns whether the message must be the only one in its batch.
    fn is_sent_alone(&self) -> bool {
        false
    }
}

/// The limits of a queue.
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
    /// Queues a message if there is room. Returns whether there was, and the expired messages,
    /// which will not be sent.
    pub(in crate::adapter) fn push(&mut self, message: M, limits: &Limits) -> (bool, Vec<M>) {
        let now = Instant::now();
        // Expired messages are removed first, so that they do not take the room of a new message.
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

    /// Returns the size in bytes that counts for the limit.
    pub(in crate::adapter) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// Takes all queued messages.
    pub(in crate::adapter) fn into_messages(self) -> Vec<M> {
        self.messages
            .into_iter()
            .map(|(_, message)| message)
            .collect()
    }

    /// Returns the next batch to send, and the expired messages, which will not be sent.
    pub(in crate::adapter) fn take(&mut self) -> (Vec<M>, Vec<M>) {
        let stale = self.take_stale(Instant::now());
        let mut batch = Vec::new();
        let mut bytes = 0;
        while batch.len() < BATCH
            && bytes < BATCH_BYTES
            && let Some((_, next)) = self.messages.front()
        {
            let is_sent_alone = next.is_sent_alone();
            if is_sent_alone && !batch.is_empty() {
                break;
            }
            bytes += next.bytes();
            batch.extend(self.messages.pop_front().map(|(_, message)| message));
            if is_sent_alone {
                break;
            }
        }
        self.bytes -= bytes;
        (batch, stale)
    }

    fn take_stale(&mut self, now: Instant) -> Vec<M> {
        let mut stale = Vec::new();
        // The queue is ordered by time, so the first fresh message ends the search.
        while let Some((since, message)) = self.messages.front()
            && now.duration_since(*since) > MESSAGE_TIMEOUT
        {
            self.bytes -= message.bytes();
            stale.extend(self.messages.pop_front().map(|(_, message)| message));
        }
        stale
    }
}

/// Maximum time that a message waits for a connection.
pub(in crate::adapter) const MESSAGE_TIMEOUT: Duration = Duration::from_secs(5);
/// The maximum number of messages in a batch.
const BATCH: usize = 256;
/// The maximum size of a batch in bytes, without its last message.
const BATCH_BYTES: usize = 1 << 20;
