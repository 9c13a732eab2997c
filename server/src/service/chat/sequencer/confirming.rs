//! Who has confirmed a message, on this server and on the others.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use roomcast_protocol::socket::Args;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use uuid::Uuid;

use crate::service::cluster::Confirmed;
use crate::service::rules::emissions::messages::{Delivered, MESSAGE_DELIVERED};
use crate::store::Message;
use roomcast::{AckError, Acks, Socket};

/// A message whose receivers here are to confirm it.
#[derive(Debug)]
pub(super) enum Asked {
    /// The receivers are asked.
    Confirming {
        expected: usize,
        acks: Acks<Args>,
        /// Given back when nothing is waited for any more.
        _places: OwnedSemaphorePermit,
    },
    /// The receivers are not asked, since too many confirmations are outstanding, or since they have
    /// seen the message before.
    Skipped { expected: usize },
}

impl Asked {
    /// Waits until all have answered, or the time is over.
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
                        // A socket that has gone counts as expected and not as delivered.
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

/// Counts who confirms a message, and tells its sender when all have or the time is over.
///
/// Without `asked` nobody was there to confirm it, and without `others` there are no other servers.
pub(super) fn report(
    socket: Socket,
    message: &Message,
    asked: Option<Asked>,
    others: Option<oneshot::Receiver<Confirmed>>,
    timeout: Duration,
) {
    let (conversation_id, message_id) = (message.conversation_id, message.id);
    // The report waits for clients, so it runs in a task of its own; its end is the timeout of the
    // acknowledgements.
    tokio::spawn(async move {
        let here = async {
            match asked {
                Some(asked) => asked.count().await,
                None => Confirmed::default(),
            }
        };
        let there = async {
            let others = others?;
            let answer = tokio::time::timeout(patience(timeout), others).await;
            // Receivers may be at servers that cannot be asked.
            Some(match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => Confirmed {
                    timed_out: true,
                    ..Confirmed::default()
                },
            })
        };
        // Both are waited for at the same time, or the timeout of one would come on top of that of
        // the other.
        let (mut all, there) = tokio::join!(here, there);
        if let Some(there) = there {
            all.add(there);
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
        MESSAGE_DELIVERED.emit_to(&socket, &report);
    });
}

/// Messages of one conversation that were found in the store before the server that has stored them has told of them. Their
/// receivers were asked to confirm them, since it was not known yet whether the senders want that.
#[derive(Debug, Default)]
pub(super) struct AskedAhead(VecDeque<(Instant, u64, Asked)>);

impl AskedAhead {
    /// Keeps the confirmations of a message with this number for as long as its server may still ask for them.
    pub(super) fn keep(&mut self, now: Instant, timeout: Duration, seq: u64, asked: Asked) {
        // A timeout beyond the range of the clock is not kept.
        if let Some(until) = now.checked_add(patience(timeout)) {
            // All have the same patience, so the queue is in the order of its ends.
            self.0.push_back((until, seq, asked));
        }
    }

    /// The confirmations of a message, for who asks for them now.
    pub(super) fn take(&mut self, seq: u64) -> Option<Asked> {
        let at = self.0.iter().position(|(_, kept, _)| *kept == seq)?;
        self.0.remove(at).map(|(_, _, asked)| asked)
    }

    /// When the first is forgotten.
    pub(super) fn poll_timeout(&self) -> Option<Instant> {
        self.0.front().map(|(until, _, _)| *until)
    }

    /// Forgets those for which nobody asks any more.
    pub(super) fn handle_timeout(&mut self, now: Instant) {
        while self.poll_timeout().is_some_and(|until| until <= now) {
            self.0.pop_front();
        }
    }
}

/// A message by its conversation and its number there.
pub(super) type MessageKey = (Uuid, u64);

/// Messages of other servers that are about to be shown here, and who wants to know who has confirmed them.
#[derive(Debug, Default)]
pub(super) struct Questions(Mutex<HashMap<MessageKey, oneshot::Sender<Confirmed>>>);

impl Questions {
    /// A message that is about to be shown.
    pub(super) fn wait_for(self: &Arc<Self>, message: MessageKey, timeout: Duration) -> Waiting {
        let (answer, answered) = oneshot::channel();
        // The question is filed before the step is announced to the lane, so that it is there when
        // the message is shown.
        self.0.lock().insert(message, answer);
        Waiting {
            answered,
            patience: timeout.saturating_add(MARGIN),
            asked: (Arc::clone(self), message),
        }
    }

    /// Whether another server has asked who confirms a message.
    pub(super) fn has(&self, message: MessageKey) -> bool {
        self.0.lock().contains_key(&message)
    }

    /// Answers who has asked about a message that is shown now.
    pub(super) fn answer(&self, message: MessageKey, asked: Option<Asked>) {
        let Some(answer) = self.0.lock().remove(&message) else {
            return;
        };
        tokio::spawn(async move {
            let confirmed = match asked {
                Some(asked) => asked.count().await,
                None => Confirmed::default(),
            };
            let _ = answer.send(confirmed);
        });
    }
}

/// The answer to another server.
pub(in crate::service) struct Waiting {
    answered: oneshot::Receiver<Confirmed>,
    patience: Duration,
    /// The table and the key of the question, which is forgotten with this value.
    asked: (Arc<Questions>, MessageKey),
}

impl Waiting {
    /// Waits until the message is shown and all have confirmed it, or the time is over.
    pub(in crate::service) async fn answer(mut self) -> Confirmed {
        let answered = tokio::time::timeout(self.patience, &mut self.answered).await;
        match answered {
            Ok(Ok(confirmed)) => confirmed,
            Ok(Err(_)) | Err(_) => Confirmed {
                timed_out: true,
                ..Confirmed::default()
            },
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let (questions, message) = &self.asked;
        // A question that was given up must not wait in the table for a message that may never be
        // shown.
        questions.0.lock().remove(message);
    }
}

/// How long the sender's server waits for the others, from when a message is stored.
pub(super) fn patience(timeout: Duration) -> Duration {
    timeout.saturating_add(MARGIN * 2)
}

/// The time from when a message is told until it is shown at another server.
const MARGIN: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_asked_ahead_is_taken_once_and_forgotten_when_nobody_asks_any_more() {
        let (start, timeout) = (Instant::now(), Duration::from_secs(5));
        let mut ahead = AskedAhead::default();
        for seq in [7, 8] {
            ahead.keep(start, timeout, seq, Asked::Skipped { expected: 1 });
        }
        let end = start + patience(timeout);
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
