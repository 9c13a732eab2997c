//! The lane: from a message that is to be stored to the one place that emits it.
//!
//! A lane stores one change after another and hands each stored message, in the order of the
//! commits, to [`Commits`]. Whoever drains that emits the message first and acknowledges it
//! afterwards with [`Commit::resolve`]. The sender only waits for the acknowledgement: if it goes
//! away after the commit, the message is emitted all the same.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::StoreError;
use super::rows::{Insert, Message, Origin};

/// The stored messages in the order of their commits. There is one per store.
#[derive(Debug)]
pub struct Commits(mpsc::Receiver<Commit>);

impl Commits {
    /// The next stored message; none after the store was closed and everything was drained.
    pub async fn next(&mut self) -> Option<Commit> {
        self.0.recv().await
    }
}

/// A message that is stored and waits to be emitted and acknowledged.
///
/// Dropping it acknowledges nothing; the sender is then told that the store failed.
#[derive(Debug)]
#[must_use = "the sender waits until the commit is resolved"]
pub struct Commit {
    message: Arc<Message>,
    repeated: bool,
    origin: Origin,
    reply: Reply<Insert>,
}

impl Commit {
    /// The row.
    #[must_use]
    pub fn message(&self) -> &Arc<Message> {
        &self.message
    }

    /// Whether this row was stored, and emitted, by an earlier request.
    #[must_use]
    pub fn is_repeated(&self) -> bool {
        self.repeated
    }

    /// Where the message came from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Tells the sender that its message is stored.
    pub fn resolve(self) {
        let insert = if self.repeated {
            Insert::Repeated(self.message)
        } else {
            Insert::Stored(self.message)
        };
        self.reply.send(Ok(insert));
    }
}

/// The answering half of a request.
#[derive(Debug)]
pub(super) struct Reply<T>(oneshot::Sender<Result<T, StoreError>>);

impl<T> Reply<T> {
    /// Answers; nobody minds if the asker has gone.
    pub(super) fn send(self, answer: Result<T, StoreError>) {
        let _ = self.0.send(answer);
    }
}

/// The asking half of a request.
pub(super) struct Answer<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> Answer<T> {
    /// Waits for the answer.
    pub(super) async fn wait(self) -> Result<T, StoreError> {
        self.0.await.unwrap_or(Err(StoreError::Failed))
    }
}

/// Both halves of a request.
pub(super) fn request<T>() -> (Reply<T>, Answer<T>) {
    let (reply, answer) = oneshot::channel();
    (Reply(reply), Answer(answer))
}

/// What a lane found out about a message.
pub(super) enum Outcome {
    /// The row is stored, by this request or by an earlier one.
    Row {
        message: Arc<Message>,
        repeated: bool,
    },
    /// No such conversation for this sender.
    Absent,
    /// The client's id is taken in another conversation.
    Conflict,
}

impl Outcome {
    /// The commit to emit, or an answer at once where there is nothing to emit.
    pub(super) fn commit(self, origin: Origin, reply: Reply<Insert>) -> Option<Commit> {
        match self {
            Self::Row { message, repeated } => Some(Commit {
                message,
                repeated,
                origin,
                reply,
            }),
            Self::Absent => {
                reply.send(Ok(Insert::Absent));
                None
            }
            Self::Conflict => {
                reply.send(Ok(Insert::Conflict));
                None
            }
        }
    }
}

/// A lane's end of [`Commits`].
pub(super) fn commits(capacity: usize) -> (mpsc::Sender<Commit>, Commits) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    (sender, Commits(receiver))
}
