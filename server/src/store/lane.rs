//! The lane: from a message that is to be stored to the one place that emits it.
//!
//! A lane stores one [`Write`] after another and hands each that others must hear of, in the order
//! of the commits, to [`Commits`]. Whoever drains that emits it first and acknowledges it
//! afterwards with [`Commit::resolve`]. The sender only waits for the acknowledgement: if it goes
//! away after the commit, the message is emitted all the same.

use std::fmt;
use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::StoreError;
use super::change::{
    Change, Committed, Delete, DeleteConversation, DeletedConversation, Edit, MarkRead,
    MemberChange, ReadMark, Removal, Rename,
};
use super::rows::{Conversation, Insert, Message, NewConversation, NewMessage, Origin};

/// What was stored, in the order of the commits. There is one per store.
#[derive(Debug)]
pub struct Commits(mpsc::Receiver<Commit>);

impl Commits {
    /// The next change that was stored; none after the store was closed and everything was drained.
    pub async fn next(&mut self) -> Option<Commit> {
        self.0.recv().await
    }
}

/// A change that is stored and waits to be emitted and acknowledged.
///
/// Dropping it acknowledges nothing; the sender is then told that nobody knows.
#[must_use = "the sender waits until the commit is resolved"]
pub struct Commit {
    event: Committed,
    origin: Origin,
    answer: Box<dyn FnOnce() + Send>,
}

impl Commit {
    /// What was stored.
    #[must_use]
    pub fn event(&self) -> &Committed {
        &self.event
    }

    /// Where the change came from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Tells the sender that its change is stored.
    pub fn resolve(self) {
        (self.answer)();
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit")
            .field("event", &self.event)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
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
        self.0.await.unwrap_or(Err(StoreError::Unknown))
    }
}

/// Both halves of a request.
pub(super) fn request<T>() -> (Reply<T>, Answer<T>) {
    let (reply, answer) = oneshot::channel();
    (Reply(reply), Answer(answer))
}

/// One change that waits to be stored, and whoever waits for the answer.
#[derive(Debug)]
pub(super) enum Write {
    Message {
        message: NewMessage,
        origin: Origin,
        reply: Reply<Insert>,
    },
    Edit {
        edit: Edit,
        /// The conversation that the message belongs to, as it was looked up.
        conversation_id: Uuid,
        origin: Origin,
        reply: Reply<Change<Arc<Message>>>,
    },
    Delete {
        delete: Delete,
        conversation_id: Uuid,
        origin: Origin,
        reply: Reply<Change<Arc<Message>>>,
    },
    Conversation {
        conversation: NewConversation,
        reply: Reply<Conversation>,
    },
    Member {
        change: MemberChange,
        origin: Origin,
        reply: Reply<Change<Conversation>>,
    },
    Rename {
        rename: Rename,
        origin: Origin,
        reply: Reply<Change<Conversation>>,
    },
    Deletion {
        deletion: DeleteConversation,
        origin: Origin,
        reply: Reply<Change<DeletedConversation>>,
    },
    Read {
        read: MarkRead,
        reply: Reply<Option<ReadMark>>,
    },
}

/// What a lane found out about a change.
#[derive(Debug)]
pub(super) enum Done {
    Message(Outcome),
    Changed(Change<Arc<Message>>),
    Conversation(Conversation),
    /// The members or the title of a conversation.
    Member(Change<Conversation>),
    Deletion(Change<Removal>),
    Read(Option<ReadMark>),
}

/// What a lane found out about a new message.
#[derive(Debug)]
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

impl Done {
    /// Whether it is a new message.
    pub(super) fn is_new_message(&self) -> bool {
        matches!(
            self,
            Self::Message(Outcome::Row {
                repeated: false,
                ..
            })
        )
    }
}

#[cfg(feature = "postgres")]
impl Done {
    /// The id of the new message, if it is one.
    pub(super) fn new_message_id(&self) -> Option<Uuid> {
        match self {
            Self::Message(Outcome::Row {
                message,
                repeated: false,
            }) => Some(message.id),
            Self::Message(_)
            | Self::Changed(_)
            | Self::Conversation(_)
            | Self::Member(_)
            | Self::Deletion(_)
            | Self::Read(_) => None,
        }
    }
}

impl Write {
    /// The conversation that it changes: changes of one go through one lane.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(dead_code, reason = "other stores have one lane")
    )]
    pub(super) fn conversation_id(&self) -> Uuid {
        match self {
            Self::Message { message, .. } => message.conversation_id,
            Self::Edit {
                conversation_id, ..
            }
            | Self::Delete {
                conversation_id, ..
            } => *conversation_id,
            Self::Conversation { conversation, .. } => conversation.id,
            Self::Member { change, .. } => change.conversation_id,
            Self::Rename { rename, .. } => rename.conversation_id,
            Self::Deletion { deletion, .. } => deletion.conversation_id,
            Self::Read { read, .. } => read.conversation_id,
        }
    }

    /// Tells whoever waits that it is not stored.
    pub(super) fn refuse(self, error: StoreError) {
        match self {
            Self::Message { reply, .. } => reply.send(Err(error)),
            Self::Edit { reply, .. } | Self::Delete { reply, .. } => reply.send(Err(error)),
            Self::Conversation { reply, .. } => reply.send(Err(error)),
            Self::Member { reply, .. } | Self::Rename { reply, .. } => reply.send(Err(error)),
            Self::Deletion { reply, .. } => reply.send(Err(error)),
            Self::Read { reply, .. } => reply.send(Err(error)),
        }
    }

    /// The commit to emit, or an answer at once where there is nothing to emit.
    pub(super) fn settle(self, done: Done) -> Option<Commit> {
        match (self, done) {
            (Self::Message { origin, reply, .. }, Done::Message(outcome)) => match outcome {
                Outcome::Row { message, repeated } => {
                    let row = Arc::clone(&message);
                    let (event, insert) = if repeated {
                        (Committed::Repeated(row), Insert::Repeated(message))
                    } else {
                        (Committed::Message(row), Insert::Stored(message))
                    };
                    return Some(commit(event, origin, reply, insert));
                }
                Outcome::Absent => reply.send(Ok(Insert::Absent)),
                Outcome::Conflict => reply.send(Ok(Insert::Conflict)),
            },
            (Self::Edit { origin, reply, .. }, Done::Changed(change)) => match change {
                Change::Done(message) => {
                    let event = Committed::Edited(Arc::clone(&message));
                    return Some(commit(event, origin, reply, Change::Done(message)));
                }
                refused @ (Change::Unchanged(_)
                | Change::Absent
                | Change::Denied
                | Change::Conflict) => reply.send(Ok(refused)),
            },
            (
                Self::Delete {
                    delete,
                    origin,
                    reply,
                    ..
                },
                Done::Changed(change),
            ) => match change {
                Change::Done(message) => {
                    let event = Committed::Deleted {
                        message: Arc::clone(&message),
                        by: delete.by.user_id,
                    };
                    return Some(commit(event, origin, reply, Change::Done(message)));
                }
                refused @ (Change::Unchanged(_)
                | Change::Absent
                | Change::Denied
                | Change::Conflict) => reply.send(Ok(refused)),
            },
            (
                Self::Member {
                    change: asked,
                    origin,
                    reply,
                },
                Done::Member(change),
            ) => match change {
                Change::Done(conversation) => {
                    let event = Committed::Members {
                        conversation: Arc::new(conversation.clone()),
                        user_id: asked.user_id,
                        removed: asked.removes,
                    };
                    return Some(commit(event, origin, reply, Change::Done(conversation)));
                }
                refused @ (Change::Unchanged(_)
                | Change::Absent
                | Change::Denied
                | Change::Conflict) => reply.send(Ok(refused)),
            },
            (Self::Rename { origin, reply, .. }, Done::Member(change)) => match change {
                Change::Done(conversation) => {
                    let event = Committed::Renamed(Arc::new(conversation.clone()));
                    return Some(commit(event, origin, reply, Change::Done(conversation)));
                }
                refused @ (Change::Unchanged(_)
                | Change::Absent
                | Change::Denied
                | Change::Conflict) => reply.send(Ok(refused)),
            },
            (Self::Deletion { origin, reply, .. }, Done::Deletion(change)) => match change {
                Change::Done(Removal {
                    deleted,
                    member_ids,
                }) => {
                    let event = Committed::ConversationDeleted {
                        deleted: Arc::new(deleted.clone()),
                        member_ids: member_ids.into(),
                    };
                    return Some(commit(event, origin, reply, Change::Done(deleted)));
                }
                Change::Unchanged(Removal { deleted, .. }) => {
                    reply.send(Ok(Change::Unchanged(deleted)));
                }
                Change::Absent => reply.send(Ok(Change::Absent)),
                Change::Denied => reply.send(Ok(Change::Denied)),
                Change::Conflict => reply.send(Ok(Change::Conflict)),
            },
            (Self::Conversation { reply, .. }, Done::Conversation(conversation)) => {
                reply.send(Ok(conversation));
            }
            (Self::Read { reply, .. }, Done::Read(mark)) => reply.send(Ok(mark)),
            // A lane answers each kind with its own.
            (write, _) => write.refuse(StoreError::Failed),
        }
        None
    }
}

fn commit<T: Send + 'static>(
    event: Committed,
    origin: Origin,
    reply: Reply<T>,
    answer: T,
) -> Commit {
    Commit {
        event,
        origin,
        answer: Box::new(move || reply.send(Ok(answer))),
    }
}

/// A lane's end of [`Commits`].
pub(super) fn commits(capacity: usize) -> (mpsc::Sender<Commit>, Commits) {
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    (sender, Commits(receiver))
}
