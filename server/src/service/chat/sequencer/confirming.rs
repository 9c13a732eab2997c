//! Counts the confirmations of a message, on this server and on its peers.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use roomcast_protocol::socket::Args;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use uuid::Uuid;

use crate::metrics::Size;
use crate::metrics::trace::{TraceContext, Traces};
use crate::service::chat::sequencer::traced;
use crate::service::cluster::Confirmed;
use crate::service::rules::emissions::messages::{Delivered, MESSAGE_DELIVERED};
use crate::store::Message;
use roomcast::{AckError, Socket, broadcast::Acks};

/// The confirmations that a message needs from its receivers on this server.
#[derive(Debug)]
pub(super) enum PendingConfirmation {
    /// The receivers are asked to confirm.
    Confirming {
        expected: usize,
        acks: Acks<Args>,
        /// Released when no confirmation is outstanding.
        _permits: OwnedSemaphorePermit,
    },
    /// The receivers are not asked to confirm, because too many confirmations are outstanding or
    /// because they have received the message before.
    Skipped { expected: usize },
}

impl PendingConfirmation {
    /// Waits until all receivers have answered or the timeout expires.
    async fn count(self) -> Confirmed {
        let mut all = Confirmed::default();
        match self {
            Self::Confirming {
                expected, mut acks, ..
            } => {
                all.expected = expected;
                while let Some((_, answer)) = acks.next().await {
                    match answer {
                        Ok(_) => all.delivered += 1,
                        Err(AckError::Timeout) => all.timed_out = true,
                        // A disconnected socket counts as expected and not as delivered.
                        Err(_) => {}
                    }
                }
            }
            Self::Skipped { expected } => {
                all.expected = expected;
                all.timed_out = true;
            }
        }
        all
    }
}

/// Counts the confirmations of a message, and reports the result to its sender when all have
/// arrived or the timeout expires.
///
/// Without `pending` the message has no receivers here, and without `peers` there are no other
/// servers.
pub(super) fn report(
    socket: Socket,
    message: &Message,
    pending: Option<PendingConfirmation>,
    peers: Option<oneshot::Receiver<Confirmed>>,
    timeout: Duration,
    (traces, trace): (Traces, Option<TraceContext>),
) {
    let (conversation_id, message_id) = (message.conversation_id, message.id);
    let traced = traces.is_active().then(|| message.clone());
    let span = traced::start_confirmation(&traces, message, trace);
    // The report waits for clients, so it runs in its own task. The timeout of the acknowledgements
    // ends it.
    tokio::spawn(async move {
        let local = async {
            match pending {
                Some(pending) => pending.count().await,
                None => Confirmed::default(),
            }
        };
        let remote = async {
            let peers = peers?;
            let answer = tokio::time::timeout(peer_timeout(timeout), peers).await;
            // Servers that cannot be queried may have receivers.
            Some(match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => Confirmed {
                    timed_out: true,
                    ..Confirmed::default()
                },
            })
        };
        // Both counts are awaited concurrently. Otherwise their timeouts would add up.
        let (mut all, remote) = tokio::join!(local, remote);
        if let Some(remote) = remote {
            all.add(remote);
        }
        let Confirmed {
            expected,
            delivered,
            timed_out,
        } = all;
        let report = Delivered {
            conversation_id,
            message_id,
            expected,
            delivered,
            timed_out,
        };
        if let Some(message) = traced {
            traced::confirmed(&traces, &message, (delivered, expected, timed_out));
        }
        if let Some(mut span) = span {
            span.set("roomcast.expected", expected);
            span.set("roomcast.delivered", delivered);
            span.end();
        }
        MESSAGE_DELIVERED.emit_to(&socket, &report);
    });
}

/// Confirmations requested for messages of one conversation before their servers announced them.
///
/// The messages were found in the store. At that time it was unknown whether the senders want
/// confirmations, and after a message is emitted they can no longer be requested. A column in each
/// row would be exact, but only few messages need it.
#[derive(Debug, Default)]
pub(super) struct EarlyConfirmations(VecDeque<(Instant, u64, PendingConfirmation)>);

impl EarlyConfirmations {
    /// Returns the number of messages, and their bytes.
    pub(in crate::service::chat::sequencer) fn size(&self) -> Size {
        Size::of::<(Instant, u64, PendingConfirmation)>(self.0.len(), self.0.capacity())
    }

    /// Stores the confirmations of a message for as long as its server may still request them.
    pub(super) fn store(
        &mut self,
        now: Instant,
        timeout: Duration,
        seq: u64,
        pending: PendingConfirmation,
    ) {
        // If the deadline is beyond the range of the clock, the confirmations are dropped.
        if let Some(until) = now.checked_add(peer_timeout(timeout)) {
            // All entries have the same timeout, so the queue is ordered by deadline.
            self.0.push_back((until, seq, pending));
        }
    }

    /// Takes the confirmations of a message for the server that requests them.
    pub(super) fn take(&mut self, seq: u64) -> Option<PendingConfirmation> {
        let at = self.0.iter().position(|(_, stored, _)| *stored == seq)?;
        self.0.remove(at).map(|(_, _, pending)| pending)
    }

    /// Returns when the first entry expires.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.0.front().map(|(until, _, _)| *until)
    }

    /// Removes expired entries.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while self.poll_timeout().is_some_and(|until| until <= now) {
            self.0.pop_front();
        }
    }
}

/// The conversation of a message and its number there.
pub(super) type MessageKey = (Uuid, u64);

/// Confirmation requests of other servers for messages that are about to be emitted here.
#[derive(Debug, Default)]
pub(super) struct ConfirmationRequests(Mutex<HashMap<MessageKey, oneshot::Sender<Confirmed>>>);

impl ConfirmationRequests {
    /// Returns the number of requests, and their bytes.
    pub(in crate::service::chat::sequencer) fn size(&self) -> Size {
        Size::of_map(&self.0.lock())
    }

    /// Registers a request for the confirmations of a message that is about to be emitted.
    pub(super) fn wait_for(
        self: &Arc<Self>,
        message: MessageKey,
        timeout: Duration,
    ) -> PendingAnswer {
        let (answer, answered) = oneshot::channel();
        // The request is stored before the step is announced to the write worker, so that it is
        // found when the message is emitted.
        self.0.lock().insert(message, answer);
        PendingAnswer {
            answered,
            peer_timeout: timeout.saturating_add(MARGIN),
            pending: (Arc::clone(self), message),
        }
    }

    /// Returns whether another server has requested the confirmations of a message.
    pub(super) fn has(&self, message: MessageKey) -> bool {
        self.0.lock().contains_key(&message)
    }

    /// Answers the request for the confirmations of a message that is emitted now.
    pub(super) fn answer(&self, message: MessageKey, pending: Option<PendingConfirmation>) {
        let Some(answer) = self.0.lock().remove(&message) else {
            return;
        };
        tokio::spawn(async move {
            let confirmed = match pending {
                Some(pending) => pending.count().await,
                None => Confirmed::default(),
            };
            let _ = answer.send(confirmed);
        });
    }
}

/// The pending answer to another server.
pub(in crate::service) struct PendingAnswer {
    answered: oneshot::Receiver<Confirmed>,
    peer_timeout: Duration,
    /// The table and the key of the request, which is removed when this value is dropped.
    pending: (Arc<ConfirmationRequests>, MessageKey),
}

impl PendingAnswer {
    /// Waits until the message is emitted and all receivers have confirmed it, or the timeout
    /// expires.
    pub(in crate::service) async fn answer(mut self) -> Confirmed {
        let answered = tokio::time::timeout(self.peer_timeout, &mut self.answered).await;
        match answered {
            Ok(Ok(confirmed)) => confirmed,
            Ok(Err(_)) | Err(_) => Confirmed {
                timed_out: true,
                ..Confirmed::default()
            },
        }
    }
}

impl Drop for PendingAnswer {
    fn drop(&mut self) {
        let (confirmation_requests, message) = &self.pending;
        // An abandoned request must not stay in the table for a message that may never be emitted.
        confirmation_requests.0.lock().remove(message);
    }
}

/// Returns how long the sender's server waits for other servers after a message is stored.
pub(super) fn peer_timeout(timeout: Duration) -> Duration {
    timeout.saturating_add(MARGIN * 2)
}

/// The time from the announcement of a message until another server emits it.
const MARGIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn early_confirmations_are_applied_once_and_expire() {
        let (start, timeout) = (Instant::now(), Duration::from_secs(5));
        let mut ahead = EarlyConfirmations::default();
        for seq in [7, 8] {
            ahead.store(
                start,
                timeout,
                seq,
                PendingConfirmation::Skipped { expected: 1 },
            );
        }
        let end = start + peer_timeout(timeout);
        assert_eq!(ahead.poll_timeout(), Some(end));
        assert!(ahead.take(8).is_some());
        assert!(ahead.take(8).is_none());
        ahead.handle_timeout(end - Duration::from_millis(1));
        assert_eq!(ahead.poll_timeout(), Some(end));
        ahead.handle_timeout(end);
        assert!(ahead.take(7).is_none());
        assert_eq!(ahead.poll_timeout(), None);
    }
}
