//! Stores conversations and messages.
//!
//! [`Store`] is one of a closed set of backends with the same behaviour; one test suite verifies
//! them all. Its methods are named after what the services need. Writes go through a lane, which
//! stores them in order and passes each stored message to the emitter through [`Commits`]. Reads
//! bypass the lane and see committed data.
//!
//! Services check permissions, but this module decides on membership, in the same transaction as
//! the change that depends on it. An unknown conversation and one of other users look alike.

#![cfg_attr(
    not(any(feature = "postgres", feature = "sqlite")),
    allow(
        clippy::unused_async,
        dead_code,
        unreachable_code,
        unused_imports,
        unused_variables,
        reason = "a build without a database stores nothing"
    )
)]

/// Calls a method on the backend of a store. Defined before the modules, because they use it too.
macro_rules! each {
    ($store:expr, $backend:ident => $call:expr) => {
        match $store.backend {
            #[cfg(feature = "postgres")]
            Backend::Postgres(ref $backend) => $call,
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(ref $backend) => $call,
        }
    };
}

mod change;
mod error;
mod in_progress;
mod lane;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod migrate;
mod opening;
#[cfg(feature = "postgres")]
mod postgres;
mod rows;
mod shared;
#[cfg(feature = "sqlite")]
mod sqlite;
mod time;
mod write;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use crate::metrics::{Counter, Metrics};

pub use change::{
    Actor, Annotate, Annotated, Annotation, Attempt, Authorship, Change, Committed, Cursor, Delete,
    DeleteConversation, DeletedConversation, Delivery, Edit, InvalidCursor, Invite, KeyState,
    Level, List, ListedConversation, Login, MAX_UNREAD_COUNT, MarkRead, MemberChange, Notice,
    Opening, Pin, Pinned, Quote, Reaction, ReactionChange, ReadMark, Rename, Revocation, Search,
    StoredResponse, TakenDelivery, Unpinned, words,
};
pub use error::{OpenError, StoreError};
pub use lane::{Commit, Commits};
pub use rows::{
    Conversation, Insert, Membership, Message, MessageKind, Messages, NewConversation, NewMessage,
    Origin, PAGE_BYTES, Page, Revision, Version,
};
pub use shared::{
    Amend, Append, Appended, Audience, Changed, Current, Entry, Feed, FeedMark, FeedPage, IfOpen,
    JournalSweep, JournalView, Leases, Missed, PresenceEntry, Publication, PublicationFault,
    Publications, Quota, Replace, SharedValues, WITHDRAWAL,
};
pub(crate) use shared::{MAX_RECENT_CHANGES, MAX_REMOVED_CHANGES, RecentChange};
pub use time::Time;
pub(crate) use time::{TIME_PATTERN, WRITTEN_TIME, is_rfc3339};

#[cfg(feature = "sqlite")]
use self::opening::TemporaryFolder;
pub use self::opening::{ClusterSecrets, Reservation};
use self::write::{MemberOperation, Operation, Request, Write};

/// A store of conversations and messages. Cloning gives another handle to the same store.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
    /// The time that a caller waits for an answer.
    patience: Duration,
    /// Notified when this server has written something that appears in the feed.
    fed: Arc<Notify>,
    metrics: Arc<Metrics>,
    /// The folder of the database, if it ends with this store.
    #[cfg(feature = "sqlite")]
    temporary: Option<Arc<TemporaryFolder>>,
}

#[derive(Clone, Debug)]
enum Backend {
    #[cfg(feature = "postgres")]
    Postgres(postgres::Postgres),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::Sqlite),
}

impl Store {
    /// Stores a message and waits until it is emitted.
    ///
    /// The message is submitted when the future is first polled. Dropping the future later only
    /// discards the answer.
    ///
    /// # Errors
    ///
    /// If it could not be stored. Then it is not and never will be stored, unless the outcome is
    /// unknown ([`StoreError::Unknown`], [`StoreError::TimedOut`]).
    pub async fn insert_message(
        &self,
        message: NewMessage,
        origin: Origin,
    ) -> Result<Insert, StoreError> {
        let is_told = message.notice.is_some();
        let conversation_id = message.conversation_id;
        let stored = self.submit(message, conversation_id, origin, Write::Message);
        if is_told {
            self.then_notify_feed(stored).await
        } else {
            stored.await
        }
    }

    /// Changes the text of a message, retains the old text as a version, and waits until that is
    /// emitted.
    ///
    /// The result for a deleted message is [`Change::Absent`].
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn edit_message(
        &self,
        edit: Edit,
        origin: Origin,
    ) -> Result<Change<Arc<Message>>, StoreError> {
        // The conversation is looked up first because it determines the lane. The conversation of a
        // message never changes.
        let Some(conversation_id) = self.conversation_of(edit.message_id).await? else {
            return Ok(Change::Absent);
        };
        self.submit(edit, conversation_id, origin, Write::Edit)
            .await
    }

    /// Removes text and metadata of a message, retains them as a version, and waits until that is
    /// emitted.
    ///
    /// The row stays, so that `seq` has no gap.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn delete_message(
        &self,
        delete: Delete,
        origin: Origin,
    ) -> Result<Change<Arc<Message>>, StoreError> {
        let Some(conversation_id) = self.conversation_of(delete.message_id).await? else {
            return Ok(Change::Absent);
        };
        self.submit(delete, conversation_id, origin, Write::Delete)
            .await
    }

    /// Stores a conversation unless its id exists, and returns the stored conversation.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn insert_conversation(
        &self,
        conversation: NewConversation,
    ) -> Result<Conversation, StoreError> {
        let (id, origin) = (conversation.id, Origin::default());
        let made = self.submit(conversation, id, origin, Write::Conversation);
        self.then_notify_feed(made).await
    }

    /// Adds or removes a member and waits until that is emitted. Only the owner or an admin may do
    /// so.
    ///
    /// The owner cannot be removed. If the owner leaves, the longest-standing member becomes the
    /// owner. If there is none, the owner cannot leave ([`Change::Conflict`]).
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn change_member(
        &self,
        change: MemberChange,
        origin: Origin,
    ) -> Result<Change<Conversation>, StoreError> {
        let conversation_id = change.conversation_id;
        let invite = None;
        let operation = MemberOperation { change, invite };
        self.submit(operation, conversation_id, origin, Write::Member)
            .await
    }

    /// Changes the title of a conversation and waits until that is emitted. Only the owner or an
    /// admin may do so.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn rename_conversation(
        &self,
        rename: Rename,
        origin: Origin,
    ) -> Result<Change<Conversation>, StoreError> {
        let conversation_id = rename.conversation_id;
        self.submit(rename, conversation_id, origin, Write::Rename)
            .await
    }

    /// Records how far a user has read; the mark never moves back.
    ///
    /// Returns `None` if the conversation is unknown or the user is not a member.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn mark_read(&self, read: MarkRead) -> Result<Option<ReadMark>, StoreError> {
        let (id, origin) = (read.conversation_id, Origin::default());
        self.submit(read, id, origin, Write::Read).await
    }

    async fn submit<O: Operation>(
        &self,
        operation: O,
        conversation_id: Uuid,
        origin: Origin,
        write: fn(Request<O>) -> Write,
    ) -> Result<O::Outcome, StoreError> {
        let (request, answer) = Request::new(operation, conversation_id, origin);
        let write = write(request);
        // The change is submitted before the first await: a caller that is dropped from here on
        // loses the answer, but the change is stored.
        let submitted = each!(self, backend => backend.submit(write));
        let answer = match submitted {
            Ok(()) => self.with_answer_timeout(answer.wait()).await,
            Err(error) => Err(error),
        };
        // Each refused change counts, even if several were in one transaction.
        answer.inspect_err(|_| self.metrics.count(Counter::StoreErrors))
    }

    /// Returns an answer, or an error after the maximum time.
    ///
    /// A stuck database then still holds the changes, but their senders no longer wait.
    async fn with_answer_timeout<T>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let answer = tokio::time::timeout(self.patience, answer).await;
        // A timeout undoes nothing: the change may still be stored, and is emitted then.
        answer.unwrap_or(Err(StoreError::TimedOut))
    }

    /// Returns a conversation as `user` sees it, or `None` if it is unknown or `user` is not a
    /// member.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn membership(
        &self,
        conversation: Uuid,
        user: &str,
    ) -> Result<Option<Membership>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.membership(conversation, Some(user))).await)
    }

    /// Returns a conversation regardless of membership, or `None` if it is unknown.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn conversation(&self, conversation: Uuid) -> Result<Option<Membership>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.membership(conversation, None)).await)
    }

    /// Returns whether `user` is a member of a conversation.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn is_member(&self, conversation: Uuid, user: &str) -> Result<bool, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.is_member(conversation, user)).await)
    }

    /// Returns at most `limit` of the conversations that `user` is a member of, with unread counts.
    ///
    /// Starts after `before`, if given.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn conversations(
        &self,
        user: &str,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<List, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.conversations(user, before, limit)).await)
    }

    /// Returns the ids of at most `limit` conversations that `user` is a member of.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn conversation_ids(
        &self,
        user: &str,
        limit: usize,
    ) -> Result<Vec<Uuid>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.conversation_ids(user, limit)).await)
    }

    /// Returns at most `limit` users who share a conversation of at most `most_members` members
    /// with `user`.
    ///
    /// Each appears once, in no particular order.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn contacts(
        &self,
        user: &str,
        most_members: usize,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.contacts(user, most_members, limit)).await)
    }

    /// Returns a page of at most `limit` messages, or `None` if the conversation is unknown or
    /// `user` is not a member.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn messages(
        &self,
        conversation: Uuid,
        user: &str,
        page: Page,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.messages(conversation, Some(user), page, limit)).await)
    }

    /// Returns a page of at most `limit` messages regardless of membership, or `None` if the
    /// conversation is unknown.
    ///
    /// This is for exports and for the server itself.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn history(
        &self,
        conversation: Uuid,
        page: Page,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.messages(conversation, None, page, limit)).await)
    }

    /// Returns at most `limit` of the newest messages that contain all the words, ascending.
    ///
    /// Searches only conversations that `user` is a member of. Returns `None` if the search names a
    /// conversation that is unknown or has other members. Without words, nothing is found.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn search(
        &self,
        user: &str,
        search: Search,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.search(user, search, limit)).await)
    }

    /// Returns the former texts of a message from before its edits or deletion, oldest first.
    ///
    /// This is for admins: membership is not checked.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn versions(&self, message: Uuid) -> Result<Vec<Version>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.versions(message)).await)
    }

    /// Returns the author of a message, or `None` if it is unknown. This is for admins: membership
    /// is not checked.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn authorship(&self, message: Uuid) -> Result<Option<Authorship>, StoreError> {
        each!(self, backend => backend.authorship(message).await)
    }

    /// Returns the conversation that a message belongs to, which never changes.
    async fn conversation_of(&self, message: Uuid) -> Result<Option<Uuid>, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.conversation_of(message)).await)
    }

    /// Removes about `limit` of the oldest messages that were stored before `time`, with their
    /// versions.
    ///
    /// Each conversation loses its oldest messages only, so that the rest has no gap. Returns how
    /// many; 0 means that no such message is left.
    ///
    /// # Errors
    ///
    /// If they could not be removed.
    pub async fn expire(&self, time: Time, limit: usize) -> Result<u64, StoreError> {
        each!(self, backend => backend.expire(time, limit).await)
    }

    /// Waits until this server writes something that appears in the [feed](Self::feed), since the
    /// last call. Supports a single waiter.
    pub async fn fed(&self) {
        self.fed.notified().await;
    }

    async fn then_notify_feed<T>(
        &self,
        writing: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        // The reader of the feed is woken after the commit; before it, there would be nothing new
        // to read.
        let written = writing.await?;
        self.fed.notify_one();
        Ok(written)
    }

    /// Returns whether changes are stored: the last change did not fail, and none takes too long.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        each!(self, backend => backend.is_healthy())
    }

    /// Stores the queued changes, accepts no more, and returns when the store is closed.
    ///
    /// The caller must keep draining the commits while this runs.
    pub async fn close(&self) {
        each!(self, backend => backend.close().await);
        #[cfg(feature = "sqlite")]
        if let Some(folder) = &self.temporary {
            folder.remove();
        }
    }
}
