//! Lanes: queues that store changes in order and pass them to a single emitter.
//!
//! A lane stores one [`Write`] after another. It passes each write that has an event to its queue
//! of [`Commits`], in commit order. The emitter drains the queue, emits the commit first and then
//! acknowledges it with [`Commit::resolve`]. The sender only waits for the acknowledgement. If the
//! sender disconnects after the commit, the message is emitted nevertheless.
//!
//! Commits of other servers are announced through the same lanes, and read in `shared::order`.

use std::fmt;
use std::future::poll_fn;
use std::hash::{BuildHasher, RandomState};
use std::sync::Arc;
use std::task::Poll;

use tokio::sync::{mpsc, oneshot};
use uuid::Uuid;

use super::change::{
    Annotate, Annotated, Change, Committed, Delete, DeleteConversation, DeletedConversation, Edit,
    MarkRead, MemberChange, ReadMark, Removal, Rename,
};
use super::rows::{Conversation, Insert, Message, NewConversation, NewMessage, Origin, Revision};
use super::{Entry, StoreError};

/// The stored changes, in commit order within each conversation. Each store has one instance.
#[derive(Debug)]
pub struct Commits(Vec<mpsc::Receiver<Commit>>);

impl Commits {
    /// Returns the next stored change, or `None` after the store is closed and drained.
    pub async fn next(&mut self) -> Option<Commit> {
        poll_fn(|context| {
            let mut is_open = false;
            // All lanes are polled before this waits, so that each of them has registered the
            // waker.
            for lane in &mut self.0 {
                match lane.poll_recv(context) {
                    Poll::Ready(Some(commit)) => return Poll::Ready(Some(commit)),
                    Poll::Ready(None) => {}
                    Poll::Pending => is_open = true,
                }
            }
            if is_open {
                Poll::Pending
            } else {
                Poll::Ready(None)
            }
        })
        .await
    }

    /// Splits this into its lanes, so that they can be drained in parallel.
    ///
    /// Each conversation belongs to one lane. If a lane is dropped, its conversations accept no
    /// more changes.
    #[must_use]
    pub fn split(self) -> Vec<Self> {
        let one = |lane| Self(vec![lane]);
        self.0.into_iter().map(one).collect()
    }
}

/// A stored change that waits to be emitted and acknowledged.
///
/// If it is dropped without [`resolve`](Self::resolve), the sender gets [`StoreError::Unknown`].
#[must_use = "the sender waits until the commit is resolved"]
pub struct Commit {
    event: Committed,
    revision: Revision,
    origin: Origin,
    notified: Vec<(String, Entry)>,
    is_foreign: bool,
    answer: Box<dyn FnOnce() + Send>,
}

impl Commit {
    /// Returns what was stored.
    #[must_use]
    pub fn event(&self) -> &Committed {
        &self.event
    }

    /// Returns the revision of the conversation after the change.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Creates the announcement of another server's commit, and a receiver that resolves with it.
    ///
    /// The announcement follows everything that this server had committed when it was created. With
    /// `confirm`, the sender wants to know which users receive the event here.
    #[cfg(feature = "postgres")]
    pub(super) fn announced(
        event: Committed,
        revision: Revision,
        confirm: bool,
    ) -> (Self, oneshot::Receiver<()>) {
        let (done, resolved) = oneshot::channel();
        let commit = Self {
            event,
            revision,
            origin: Origin {
                confirm,
                ..Origin::default()
            },
            notified: Vec::new(),
            is_foreign: true,
            answer: Box::new(move || {
                let _ = done.send(());
            }),
        };
        (commit, resolved)
    }

    /// Returns whether another server committed the change.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// Returns the origin of the change.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// Returns the journal entries that were stored with a message of this server to notify
    /// mentioned users.
    #[must_use]
    pub fn notified(&self) -> &[(String, Entry)] {
        &self.notified
    }

    /// Notifies the sender that its change is stored.
    pub fn resolve(self) {
        (self.answer)();
    }
}

impl fmt::Debug for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Commit")
            .field("event", &self.event)
            .field("revision", &self.revision)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// The sending half of an answer.
#[derive(Debug)]
pub(super) struct Reply<T>(oneshot::Sender<Result<T, StoreError>>);

impl<T> Reply<T> {
    /// Sends the answer. Has no effect if the caller no longer waits.
    pub(super) fn send(self, answer: Result<T, StoreError>) {
        let _ = self.0.send(answer);
    }
}

/// The receiving half of an answer.
pub(super) struct PendingAnswer<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> PendingAnswer<T> {
    /// Waits for the answer.
    pub(super) async fn wait(self) -> Result<T, StoreError> {
        // If the reply was dropped, the change may or may not be stored.
        self.0.await.unwrap_or(Err(StoreError::Unknown))
    }
}

/// Returns both halves of an answer.
pub(super) fn request<T>() -> (Reply<T>, PendingAnswer<T>) {
    let (reply, answer) = oneshot::channel();
    (Reply(reply), PendingAnswer(answer))
}

/// A change that waits to be stored, with the reply to its caller.
#[derive(Debug)]
pub(super) enum Write {
    Message {
        message: NewMessage,
        origin: Origin,
        reply: Reply<Insert>,
    },
    Edit {
        edit: Edit,
        /// The conversation that the message belongs to.
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
    /// A reaction or a pin.
    Annotate {
        annotate: Annotate,
        conversation_id: Uuid,
        origin: Origin,
        reply: Reply<Change<Arc<Annotated>>>,
    },
    Conversation {
        conversation: NewConversation,
        reply: Reply<Conversation>,
    },
    Member {
        change: MemberChange,
        /// The hash of the invitation, if the user joins by one.
        invite: Option<String>,
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

/// The outcome of a change in a lane.
#[derive(Debug)]
pub(super) enum Done {
    Message(InsertOutcome),
    Changed(Change<Arc<Message>>),
    Annotated(Change<Arc<Annotated>>),
    Conversation(Conversation),
    /// A change of members or title.
    Member(Change<Conversation>),
    Deletion(Change<Removal>),
    Read(Option<ReadMark>),
}

/// The outcome of a new message in a lane.
#[derive(Debug)]
pub(super) enum InsertOutcome {
    /// The row is stored, by this request or by an earlier one.
    Row {
        message: Arc<Message>,
        repeated: bool,
    },
    /// The conversation does not exist, or the sender is not a member.
    Absent,
    /// The sender used the client id in another conversation.
    Conflict,
    /// The message replies to a message that is not in the conversation.
    NoOriginal,
    /// The message mentions a user who is not a member, at this index of the list.
    NoMember(usize),
}

impl Done {
    /// Returns whether this is a new message.
    pub(super) fn is_new_message(&self) -> bool {
        matches!(
            self,
            Self::Message(InsertOutcome::Row {
                repeated: false,
                ..
            })
        )
    }

    /// Returns whether this is a change, other than a message, that increases the revision of its
    /// conversation.
    pub(super) fn is_change(&self) -> bool {
        matches!(
            self,
            Self::Changed(Change::Done(_))
                | Self::Annotated(Change::Done(_))
                | Self::Member(Change::Done(_))
                | Self::Deletion(Change::Done(_))
        )
    }
}

#[cfg(feature = "postgres")]
impl Done {
    /// Returns the id of the message, if this is a new message.
    pub(super) fn new_message_id(&self) -> Option<Uuid> {
        match self {
            Self::Message(InsertOutcome::Row {
                message,
                repeated: false,
            }) => Some(message.id),
            Self::Message(_)
            | Self::Changed(_)
            | Self::Annotated(_)
            | Self::Conversation(_)
            | Self::Member(_)
            | Self::Deletion(_)
            | Self::Read(_) => None,
        }
    }
}

impl Write {
    /// Returns the conversation that it changes. All changes of a conversation use the same lane.
    pub(super) fn conversation_id(&self) -> Uuid {
        match self {
            Self::Message { message, .. } => message.conversation_id,
            Self::Edit {
                conversation_id, ..
            }
            | Self::Delete {
                conversation_id, ..
            }
            | Self::Annotate {
                conversation_id, ..
            } => *conversation_id,
            Self::Conversation { conversation, .. } => conversation.id,
            Self::Member { change, .. } => change.conversation_id,
            Self::Rename { rename, .. } => rename.conversation_id,
            Self::Deletion { deletion, .. } => deletion.conversation_id,
            Self::Read { read, .. } => read.conversation_id,
        }
    }

    /// Notifies the caller that the change is not stored.
    pub(super) fn refuse(self, error: StoreError) {
        match self {
            Self::Message { reply, .. } => reply.send(Err(error)),
            Self::Edit { reply, .. } | Self::Delete { reply, .. } => reply.send(Err(error)),
            Self::Annotate { reply, .. } => reply.send(Err(error)),
            Self::Conversation { reply, .. } => reply.send(Err(error)),
            Self::Member { reply, .. } | Self::Rename { reply, .. } => reply.send(Err(error)),
            Self::Deletion { reply, .. } => reply.send(Err(error)),
            Self::Read { reply, .. } => reply.send(Err(error)),
        }
    }

    /// Returns the commit to emit, or replies immediately if there is nothing to emit.
    ///
    /// `revision` is the revision of the conversation after the change.
    pub(super) fn settle(self, done: Done, revision: Revision) -> Option<Commit> {
        match (self, done) {
            (
                Self::Message {
                    message: new,
                    origin,
                    reply,
                },
                Done::Message(outcome),
            ) => match outcome {
                InsertOutcome::Row { message, repeated } => {
                    let row = Arc::clone(&message);
                    let notice = new.notice.filter(|_| !repeated);
                    let (event, insert) = if repeated {
                        (Committed::Repeated(row), Insert::Repeated(message))
                    } else {
                        (Committed::Message(row), Insert::Stored(message))
                    };
                    // Only the emitter acknowledges a message, so that no sender receives the
                    // answer before other users get the message.
                    return Some(Commit {
                        notified: notice.map_or_else(Vec::new, |notice| notice.take_stored()),
                        ..commit(event, revision, origin, reply, insert)
                    });
                }
                InsertOutcome::Absent => reply.send(Ok(Insert::Absent)),
                InsertOutcome::Conflict => reply.send(Ok(Insert::Conflict)),
                InsertOutcome::NoOriginal => reply.send(Ok(Insert::NoOriginal)),
                InsertOutcome::NoMember(place) => reply.send(Ok(Insert::NoMember(place))),
            },
            (Self::Annotate { origin, reply, .. }, Done::Annotated(change)) => {
                let event =
                    |annotated: &Arc<Annotated>| Committed::Annotated(Arc::clone(annotated));
                return changed(change, event, revision, origin, reply);
            }
            (Self::Edit { origin, reply, .. }, Done::Changed(change)) => {
                let event = |message: &Arc<Message>| Committed::Edited(Arc::clone(message));
                return changed(change, event, revision, origin, reply);
            }
            (
                Self::Delete {
                    delete,
                    origin,
                    reply,
                    ..
                },
                Done::Changed(change),
            ) => {
                let event = |message: &Arc<Message>| Committed::Deleted {
                    message: Arc::clone(message),
                    by: delete.by.user_id,
                };
                return changed(change, event, revision, origin, reply);
            }
            (
                Self::Member {
                    change: asked,
                    origin,
                    reply,
                    ..
                },
                Done::Member(change),
            ) => {
                let event = |conversation: &Conversation| Committed::Members {
                    conversation: Arc::new(conversation.clone()),
                    user_id: asked.user_id,
                    removed: asked.removes,
                };
                return changed(change, event, revision, origin, reply);
            }
            (Self::Rename { origin, reply, .. }, Done::Member(change)) => {
                let event = |conversation: &Conversation| {
                    Committed::Renamed(Arc::new(conversation.clone()))
                };
                return changed(change, event, revision, origin, reply);
            }
            (Self::Deletion { origin, reply, .. }, Done::Deletion(change)) => match change {
                Change::Done(Removal {
                    deleted,
                    member_ids,
                }) => {
                    let event = Committed::ConversationDeleted {
                        deleted: Arc::new(deleted.clone()),
                        member_ids: member_ids.into(),
                    };
                    return Some(commit(
                        event,
                        revision,
                        origin,
                        reply,
                        Change::Done(deleted),
                    ));
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
            // The kinds do not match, which cannot happen: a lane returns the outcome of the same
            // kind.
            (write, _) => write.refuse(StoreError::Failed),
        }
        None
    }
}

/// Returns the commit of a change that was made. Replies immediately if it was not.
fn changed<T: Send + 'static>(
    change: Change<T>,
    event: impl FnOnce(&T) -> Committed,
    revision: Revision,
    origin: Origin,
    reply: Reply<Change<T>>,
) -> Option<Commit> {
    match change {
        Change::Done(value) => {
            let event = event(&value);
            Some(commit(event, revision, origin, reply, Change::Done(value)))
        }
        refused @ (Change::Unchanged(_) | Change::Absent | Change::Denied | Change::Conflict) => {
            reply.send(Ok(refused));
            None
        }
    }
}

fn commit<T: Send + 'static>(
    event: Committed,
    revision: Revision,
    origin: Origin,
    reply: Reply<T>,
    answer: T,
) -> Commit {
    Commit {
        event,
        revision,
        origin,
        notified: Vec::new(),
        is_foreign: false,
        answer: Box::new(move || reply.send(Ok(answer))),
    }
}

/// Bounded queues. All changes of a conversation use the same queue.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    queues: Box<[mpsc::Sender<T>]>,
    hasher: RandomState,
}

impl<T> Lanes<T> {
    /// Creates `count` queues that hold `capacity` items each.
    pub(super) fn new(count: usize, capacity: usize) -> (Self, Vec<mpsc::Receiver<T>>) {
        let (queues, ends): (Vec<_>, _) = (0..count.max(1))
            .map(|_| mpsc::channel(capacity.max(1)))
            .unzip();
        let lanes = Self {
            queues: queues.into(),
            hasher: RandomState::new(),
        };
        (lanes, ends)
    }

    /// Returns the queue of a conversation.
    pub(super) fn of(&self, conversation: Uuid) -> &mpsc::Sender<T> {
        // A conversation always has the same lane, which keeps its commits in order.
        let index = self.hasher.hash_one(conversation) % self.queues.len() as u64;
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "a remainder is below its divisor, and there is at least one queue"
        )]
        &self.queues[index as usize]
    }

    /// Returns whether the receiver of any queue has been dropped.
    #[cfg(feature = "sqlite")]
    pub(super) fn is_any_closed(&self) -> bool {
        self.queues.iter().any(mpsc::Sender::is_closed)
    }

    /// Returns the queues, for producers that use one queue each.
    #[cfg(feature = "postgres")]
    pub(super) fn into_queues(self) -> Box<[mpsc::Sender<T>]> {
        self.queues
    }
}

/// Creates the commit queues of `lanes` lanes that hold `capacity` commits each.
pub(super) fn commits(lanes: usize, capacity: usize) -> (Lanes<Commit>, Commits) {
    let (lanes, ends) = Lanes::new(lanes, capacity);
    (lanes, Commits(ends))
}

/// The number of emission lanes of a store with a single writer.
// Several tasks share the work of emitting to many sockets.
pub(super) const EMISSION_LANES: usize = 4;
