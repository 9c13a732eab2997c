//! Changes that wait to be stored, and what follows their commit.
//!
//! Each kind of change is an [`Operation`] with the type of its outcome. A backend applies the
//! operation of a [`Write`] and passes the outcome to the [`Request`] of the same variant. That
//! gives a [`Done`], which has the typed reply of its caller: nothing has to be matched after the
//! commit.

use std::fmt;
use std::sync::Arc;
use std::time::Instant;

use parking_lot::Mutex;
use roomcast_protocol::Sid;
use tokio::sync::oneshot;
use uuid::Uuid;

use super::StoreError;
use super::change::{
    Annotate, Annotated, Change, Committed, Conversation, Delete, DeleteConversation, ERASED_USER,
    Edit, EraseAuthor, Finish, Insert, MarkRead, MemberChange, Message, NewConversation,
    NewMessage, Notice, ReadMark, Removal, Rename, Revision,
};
use super::lane::Commit;
use crate::metrics::Timing;
use crate::metrics::trace::TraceContext;

/// The origin of a message, which the store passes to the emitter unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    /// The socket that sent it and that does not receive it.
    pub socket: Option<Sid>,
    /// Whether that socket asks which users received it.
    pub confirm: bool,
    /// When the server began to process it.
    pub received: Option<Instant>,
    /// The trace of the event that caused it.
    pub(crate) trace: Option<TraceContext>,
}

/// A kind of change.
pub(super) trait Operation {
    /// What the transaction returns, which is also the answer to the caller.
    type Outcome: Send + Sync + 'static;

    /// Returns the event to emit after the commit, or `None` if nothing is emitted.
    fn event(&self, outcome: &Self::Outcome) -> Option<Committed>;

    /// Returns the notice whose entries are stored with the change.
    fn notice(&self) -> Option<Notice> {
        None
    }
}

impl Operation for NewMessage {
    type Outcome = Insert;

    fn event(&self, outcome: &Insert) -> Option<Committed> {
        match outcome {
            Insert::Stored(message) => Some(Committed::Message(Arc::clone(message))),
            Insert::Repeated(message) => Some(Committed::Repeated(Arc::clone(message))),
            Insert::Absent | Insert::Conflict | Insert::NoOriginal | Insert::NoMember(_) => None,
        }
    }

    fn notice(&self) -> Option<Notice> {
        self.notice.clone()
    }
}

impl Operation for Edit {
    type Outcome = Change<Arc<Message>>;

    fn event(&self, outcome: &Self::Outcome) -> Option<Committed> {
        let message = outcome.done()?;
        Some(Committed::Edited(Arc::clone(message)))
    }
}

impl Operation for Finish {
    type Outcome = Change<Arc<Message>>;

    fn event(&self, outcome: &Self::Outcome) -> Option<Committed> {
        let message = outcome.done()?;
        Some(Committed::Edited(Arc::clone(message)))
    }

    fn notice(&self) -> Option<Notice> {
        self.notice.clone()
    }
}

impl Operation for Delete {
    type Outcome = Change<Arc<Message>>;

    fn event(&self, outcome: &Self::Outcome) -> Option<Committed> {
        let message = Arc::clone(outcome.done()?);
        let by = self.by.user_id.clone();
        Some(Committed::Deleted { message, by })
    }
}

impl Operation for EraseAuthor {
    type Outcome = Change<Arc<Message>>;

    fn event(&self, outcome: &Self::Outcome) -> Option<Committed> {
        let message = Arc::clone(outcome.done()?);
        Some(match message.deleted_at {
            Some(_) => Committed::Deleted {
                message,
                by: ERASED_USER.to_owned(),
            },
            None => Committed::Edited(message),
        })
    }
}

impl Operation for Annotate {
    type Outcome = Change<Arc<Annotated>>;

    fn event(&self, outcome: &Self::Outcome) -> Option<Committed> {
        let annotated = outcome.done()?;
        Some(Committed::Annotated(Arc::clone(annotated)))
    }
}

impl Operation for NewConversation {
    type Outcome = Conversation;

    fn event(&self, _: &Conversation) -> Option<Committed> {
        None
    }
}

/// A change of members, and the hash of the invitation if the user joins by one.
#[derive(Debug)]
pub(super) struct MemberOperation {
    pub(super) change: MemberChange,
    pub(super) invite: Option<String>,
}

impl Operation for MemberOperation {
    type Outcome = Change<Conversation>;

    fn event(&self, outcome: &Self::Outcome) -> Option<Committed> {
        Some(Committed::Members {
            conversation: Arc::new(outcome.done()?.clone()),
            user_id: self.change.user_id.clone(),
            removed: self.change.removes,
        })
    }
}

impl Operation for Rename {
    type Outcome = Change<Conversation>;

    fn event(&self, outcome: &Self::Outcome) -> Option<Committed> {
        let conversation = outcome.done()?;
        Some(Committed::Renamed(Arc::new(conversation.clone())))
    }
}

/// A deletion of a conversation, and its only member if it must have no other.
#[derive(Debug)]
pub(super) struct DeletionOperation {
    pub(super) deletion: DeleteConversation,
    pub(super) sole_member: Option<String>,
}

impl DeletionOperation {
    /// Returns whether one of these members prevents the deletion.
    pub(super) fn is_prevented_by(&self, members: &[String]) -> bool {
        let sole = self.sole_member.as_ref();
        sole.is_some_and(|sole| members.iter().any(|member| member != sole))
    }
}

impl Operation for DeletionOperation {
    type Outcome = Change<Removal>;

    fn event(&self, outcome: &Self::Outcome) -> Option<Committed> {
        let removal = outcome.done()?;
        Some(Committed::ConversationDeleted {
            deleted: Arc::new(removal.deleted.clone()),
            member_ids: removal.member_ids.clone().into(),
        })
    }
}

impl Operation for MarkRead {
    type Outcome = Option<ReadMark>;

    fn event(&self, _: &Option<ReadMark>) -> Option<Committed> {
        None
    }
}

/// An operation with the reply to its caller.
#[derive(Debug)]
pub(super) struct Request<O: Operation> {
    pub(super) operation: O,
    conversation_id: Uuid,
    origin: Origin,
    reply: Reply<O::Outcome>,
}

impl<O: Operation> Request<O> {
    /// Returns a request, and the answer that its caller waits for.
    pub(super) fn new(
        operation: O,
        conversation_id: Uuid,
        origin: Origin,
    ) -> (Self, PendingAnswer<O::Outcome>) {
        let (reply, answer) = request();
        let request = Self {
            operation,
            conversation_id,
            origin,
            reply,
        };
        (request, answer)
    }

    /// Returns what follows if the transaction with this outcome is committed.
    pub(super) fn done(&self, outcome: O::Outcome) -> Done {
        let event = self.operation.event(&outcome);
        let reply = self.reply.clone();
        Done {
            event,
            origin: self.origin,
            notice: self.operation.notice(),
            answer: Box::new(move || reply.send(Ok(outcome))),
        }
    }
}

/// A change that waits to be stored.
#[derive(Debug)]
pub(super) enum Write {
    Message(Request<NewMessage>),
    Edit(Request<Edit>),
    /// A message that was being written ends.
    Finish(Request<Finish>),
    Delete(Request<Delete>),
    /// The author of a message is erased.
    Erase(Request<EraseAuthor>),
    /// A reaction or a pin.
    Annotate(Request<Annotate>),
    Conversation(Request<NewConversation>),
    Member(Request<MemberOperation>),
    Rename(Request<Rename>),
    Deletion(Request<DeletionOperation>),
    Read(Request<MarkRead>),
}

/// Evaluates an expression with the request of a write.
macro_rules! with_request {
    ($write:expr, $request:ident => $value:expr) => {
        match $write {
            Self::Message($request) => $value,
            Self::Edit($request) => $value,
            Self::Finish($request) => $value,
            Self::Delete($request) => $value,
            Self::Erase($request) => $value,
            Self::Annotate($request) => $value,
            Self::Conversation($request) => $value,
            Self::Member($request) => $value,
            Self::Rename($request) => $value,
            Self::Deletion($request) => $value,
            Self::Read($request) => $value,
        }
    };
}

impl Write {
    /// Returns the conversation that it changes. All changes of a conversation use the same lane.
    pub(super) fn conversation_id(&self) -> Uuid {
        with_request!(self, request => request.conversation_id)
    }

    /// Returns the metric of the time that the change takes.
    pub(super) fn timing(&self) -> Timing {
        match self {
            Self::Message(_) => Timing::StoreMessage,
            Self::Edit(_) | Self::Finish(_) => Timing::StoreEdit,
            Self::Delete(_) | Self::Erase(_) => Timing::StoreDelete,
            Self::Annotate(_) => Timing::StoreAnnotation,
            Self::Conversation(_) => Timing::StoreConversation,
            Self::Member(_) => Timing::StoreMember,
            Self::Rename(_) => Timing::StoreRename,
            Self::Deletion(_) => Timing::StoreDeletion,
            Self::Read(_) => Timing::StoreReadMark,
        }
    }

    /// Notifies the caller that the change is not stored.
    pub(super) fn refuse(self, error: StoreError) {
        with_request!(self, request => request.reply.send(Err(error)));
    }
}

/// The event and the answer of a change, which are valid once its transaction is committed.
///
/// If the transaction is rolled back, it is dropped and has no effect.
pub(super) struct Done {
    event: Option<Committed>,
    origin: Origin,
    notice: Option<Notice>,
    answer: Box<dyn FnOnce() + Send + Sync>,
}

impl Done {
    /// Returns the event to emit.
    #[cfg(feature = "postgres")]
    pub(super) fn event(&self) -> Option<&Committed> {
        self.event.as_ref()
    }

    /// Returns whether this is a new message.
    pub(super) fn is_new_message(&self) -> bool {
        matches!(self.event, Some(Committed::Message(_)))
    }

    /// Returns whether this is a change, other than a message, that increases the revision of its
    /// conversation.
    pub(super) fn is_change(&self) -> bool {
        match &self.event {
            Some(
                Committed::Edited(_)
                | Committed::Deleted { .. }
                | Committed::Annotated(_)
                | Committed::Renamed(_)
                | Committed::Members { .. }
                | Committed::ConversationDeleted { .. },
            ) => true,
            Some(Committed::Message(_) | Committed::Repeated(_) | Committed::Announced(_))
            | None => false,
        }
    }

    /// Returns the commit to emit, or replies immediately if there is nothing to emit.
    ///
    /// `revision` is the revision of the conversation after the change. Only the emitter
    /// acknowledges an event, so that no sender receives the answer before other users get the
    /// event.
    pub(super) fn settle(self, revision: Revision) -> Option<Commit> {
        // A repeated message notifies nobody.
        let notifies = matches!(
            self.event,
            Some(Committed::Message(_) | Committed::Edited(_))
        );
        let Some(event) = self.event else {
            (self.answer)();
            return None;
        };
        let notice = self.notice.filter(|_| notifies);
        let notified = notice.map_or_else(Vec::new, |notice| notice.take_stored());
        Some(Commit::new(
            event,
            revision,
            self.origin,
            notified,
            self.answer,
        ))
    }
}

impl fmt::Debug for Done {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Done")
            .field("event", &self.event)
            .finish_non_exhaustive()
    }
}

/// The sending half of an answer. Its clones send one answer in total.
#[derive(Debug)]
pub(super) struct Reply<T>(Arc<Mutex<Option<Answer<T>>>>);

type Answer<T> = oneshot::Sender<Result<T, StoreError>>;

impl<T> Reply<T> {
    /// Sends the answer. Has no effect if the caller no longer waits.
    pub(super) fn send(&self, answer: Result<T, StoreError>) {
        if let Some(sender) = self.0.lock().take() {
            let _ = sender.send(answer);
        }
    }
}

impl<T> Clone for Reply<T> {
    fn clone(&self) -> Self {
        Self(Arc::clone(&self.0))
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
    let (sender, answer) = oneshot::channel();
    (
        Reply(Arc::new(Mutex::new(Some(sender)))),
        PendingAnswer(answer),
    )
}
