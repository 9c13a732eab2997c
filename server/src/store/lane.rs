//! The lane: from a message that is to be stored to the one place that emits it.
//!
//! A lane stores one [`Write`] after another and hands each that others must hear of, in the order
//! of the commits, to its lane of [`Commits`]. Whoever drains that emits it first and acknowledges it
//! afterwards with [`Commit::resolve`]. The sender only waits for the acknowledgement: if it goes
//! away after the commit, the message is emitted all the same. What other servers have committed is
//! announced through the same lanes, and read in `shared::order`.

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

/// What was stored, in the order of the commits of each conversation. There is one per store.
#[derive(Debug)]
pub struct Commits(Vec<mpsc::Receiver<Commit>>);

impl Commits {
    /// The next change that was stored; none after the store was closed and everything was drained.
    pub async fn next(&mut self) -> Option<Commit> {
        poll_fn(|context| {
            let mut is_open = false;
            // All lanes are polled before this waits, so that each of them has left its waker.
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

    /// The lanes, to be drained at the same time: all that is stored in one conversation comes out of one of
    /// them. When one is dropped, the conversations of that lane take nothing more.
    #[must_use]
    pub fn split(self) -> Vec<Self> {
        let one = |lane| Self(vec![lane]);
        self.0.into_iter().map(one).collect()
    }
}

/// A change that is stored and waits to be emitted and acknowledged.
///
/// Dropping it acknowledges nothing; the sender is then told that nobody knows.
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
    /// What was stored.
    #[must_use]
    pub fn event(&self) -> &Committed {
        &self.event
    }

    /// How far the conversation has come with it.
    #[must_use]
    pub fn revision(&self) -> Revision {
        self.revision
    }

    /// Another server has committed something: to be handed on behind all that this one has committed
    /// before it knew. With `confirm` that one wants to know who receives it here. What comes back is resolved
    /// with the commit.
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

    /// Whether another server has committed it.
    #[must_use]
    pub fn is_foreign(&self) -> bool {
        self.is_foreign
    }

    /// Where the change came from.
    #[must_use]
    pub fn origin(&self) -> Origin {
        self.origin
    }

    /// The journals and entries that were stored with a message of this server for those whom it mentions.
    #[must_use]
    pub fn notified(&self) -> &[(String, Entry)] {
        &self.notified
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
            .field("revision", &self.revision)
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
pub(super) struct PendingAnswer<T>(oneshot::Receiver<Result<T, StoreError>>);

impl<T> PendingAnswer<T> {
    /// Waits for the answer.
    pub(super) async fn wait(self) -> Result<T, StoreError> {
        // A reply that is dropped says nothing: what it was for may be stored.
        self.0.await.unwrap_or(Err(StoreError::Unknown))
    }
}

/// Both halves of a request.
pub(super) fn request<T>() -> (Reply<T>, PendingAnswer<T>) {
    let (reply, answer) = oneshot::channel();
    (Reply(reply), PendingAnswer(answer))
}

/// A change that waits to be stored, and the caller that waits for the answer.
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
        /// The hash of the invitation by which somebody is added who asks for it himself.
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

/// What a lane found out about a change.
#[derive(Debug)]
pub(super) enum Done {
    Message(InsertOutcome),
    Changed(Change<Arc<Message>>),
    Annotated(Change<Arc<Annotated>>),
    Conversation(Conversation),
    /// The members or the title of a conversation.
    Member(Change<Conversation>),
    Deletion(Change<Removal>),
    Read(Option<ReadMark>),
}

/// What a lane found out about a new message.
#[derive(Debug)]
pub(super) enum InsertOutcome {
    /// The row is stored, by this request or by an earlier one.
    Row {
        message: Arc<Message>,
        repeated: bool,
    },
    /// There is no such conversation for this sender.
    Absent,
    /// The client's id is taken in another conversation.
    Conflict,
    /// The message answers none of the conversation.
    NoOriginal,
    /// The message mentions somebody who is not a member, at this place in the list.
    NoMember(usize),
}

impl Done {
    /// Whether it is a new message.
    pub(super) fn is_new_message(&self) -> bool {
        matches!(
            self,
            Self::Message(InsertOutcome::Row {
                repeated: false,
                ..
            })
        )
    }

    /// Whether it is a change beside messages that takes a step in the order of its conversation.
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
    /// The id of the new message, if it is one.
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
    /// The conversation that it changes: changes of one go through one lane.
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

    /// Tells whoever waits that it is not stored.
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

    /// The commit to emit, or an answer at once where there is nothing to emit. `revision` is how far the
    /// conversation had come then.
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
                    // A message is answered only by whoever emits it, so that no sender hears of it
                    // before the others.
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
            // A lane answers each kind with its own.
            (write, _) => write.refuse(StoreError::Failed),
        }
        None
    }
}

/// The commit of a change that was made; one that was not is answered at once.
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

/// Bounded queues, of which each conversation has one for all that happens in it.
#[derive(Debug)]
pub(super) struct Lanes<T> {
    queues: Box<[mpsc::Sender<T>]>,
    hasher: RandomState,
}

impl<T> Lanes<T> {
    /// So many queues, and how many may wait in each.
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

    /// The queue of a conversation.
    pub(super) fn of(&self, conversation: Uuid) -> &mpsc::Sender<T> {
        // One conversation always has the same lane, which is what keeps its commits in order.
        let index = self.hasher.hash_one(conversation) % self.queues.len() as u64;
        #[expect(
            clippy::indexing_slicing,
            clippy::cast_possible_truncation,
            reason = "a remainder is below its divisor, and there is at least one queue"
        )]
        &self.queues[index as usize]
    }

    /// Whether somebody who took from one of the queues is gone.
    #[cfg(feature = "sqlite")]
    pub(super) fn is_any_closed(&self) -> bool {
        self.queues.iter().any(mpsc::Sender::is_closed)
    }

    /// The queues, for those who put into one each.
    #[cfg(feature = "postgres")]
    pub(super) fn into_queues(self) -> Box<[mpsc::Sender<T>]> {
        self.queues
    }
}

/// The ends of so many lanes of [`Commits`], in each of which so many may wait.
pub(super) fn commits(lanes: usize, capacity: usize) -> (Lanes<Commit>, Commits) {
    let (lanes, ends) = Lanes::new(lanes, capacity);
    (lanes, Commits(ends))
}

/// From how many lanes a store emits that writes in one.
// Emitting to many sockets is work of its own, so several tasks share it although one writes.
pub(super) const EMISSION_LANES: usize = 4;
