//! Who has confirmed a message, on this server and on the others.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use roomcast_protocol::socket::Args;
use tokio::sync::{OwnedSemaphorePermit, oneshot};
use uuid::Uuid;

use crate::service::cluster::Confirmed;
use crate::service::rules::emissions::messages::{Delivered, MESSAGE_DELIVERED};
use crate::store::Message;
use roomcast::{AckError, Acks, Socket};

/// A message whose receivers here are to confirm it.
pub(super) enum Asked {
    /// They are asked.
    Confirming {
        expected: usize,
        acks: Acks<Args>,
        /// Given back when nothing is waited for any more.
        _places: OwnedSemaphorePermit,
    },
    /// They are not, since too many confirmations are outstanding, or since they have seen it before.
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
                        // Gone: expected, not delivered.
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
/// Without `asked` nobody was there to confirm it, and without `elsewhere` there are no other servers.
pub(super) fn report(
    socket: Socket,
    message: &Message,
    asked: Option<Asked>,
    elsewhere: Option<oneshot::Receiver<Confirmed>>,
    timeout: Duration,
) {
    let (conversation_id, message_id) = (message.conversation_id, message.id);
    tokio::spawn(async move {
        let here = async {
            match asked {
                Some(asked) => asked.count().await,
                None => Confirmed::default(),
            }
        };
        let there = async {
            let elsewhere = elsewhere?;
            let answer = tokio::time::timeout(timeout.saturating_add(MARGIN * 2), elsewhere).await;
            // Who cannot be asked may be there.
            Some(match answer {
                Ok(Ok(answer)) => answer,
                Ok(Err(_)) | Err(_) => Confirmed {
                    timed_out: true,
                    ..Confirmed::default()
                },
            })
        };
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

/// Messages of other servers that are about to be shown here, and who wants to know who has confirmed them.
#[derive(Debug, Default)]
pub(super) struct Questions(Mutex<HashMap<Uuid, oneshot::Sender<Confirmed>>>);

impl Questions {
    /// A message that is about to be shown.
    pub(super) fn wait_for(self: &Arc<Self>, message: Uuid, timeout: Duration) -> Waiting {
        let (answer, answered) = oneshot::channel();
        self.0.lock().insert(message, answer);
        Waiting {
            answered,
            patience: timeout.saturating_add(MARGIN),
            asked: Some((Arc::clone(self), message)),
        }
    }

    /// Answers who has asked about a message that is shown now.
    pub(super) fn answer(&self, message: Uuid, asked: Option<Asked>) {
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
    /// Forgotten with this.
    asked: Option<(Arc<Questions>, Uuid)>,
}

impl Waiting {
    /// So many have a message without having been asked.
    pub(in crate::service) fn unasked(expected: usize) -> Self {
        let (answer, answered) = oneshot::channel();
        let confirmed = Confirmed {
            expected,
            delivered: 0,
            timed_out: expected > 0,
        };
        let _ = answer.send(confirmed);
        Self {
            answered,
            patience: Duration::ZERO,
            asked: None,
        }
    }

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
        if let Some((questions, message)) = self.asked.take() {
            questions.0.lock().remove(&message);
        }
    }
}

/// From when a message is told until it is shown at another server.
const MARGIN: Duration = Duration::from_secs(1);
