//! Where conversations and messages are kept.
//!
//! [`Store`] is one of a closed set of backends with the same behaviour, proven by one test-suite.
//! Its methods are named after what the services need. Writing goes through a lane
//! ([`Commits`]): it stores in order and hands each stored message to whoever emits it. Reading
//! goes past the lane and sees what is committed.
//!
//! Permissions are the services' business, but membership is decided here, in the same transaction
//! as what depends on it: a conversation that is unknown and one that is foreign look alike.

/// Calls one method on whichever backend a store has. The macro stands above the modules, which use it too.
macro_rules! each {
    ($store:expr, $backend:ident => $call:expr) => {
        match &$store.backend {
            Backend::Memory($backend) => $call,
            #[cfg(feature = "postgres")]
            Backend::Postgres($backend) => $call,
            #[cfg(feature = "sqlite")]
            Backend::Sqlite($backend) => $call,
        }
    };
}

mod change;
mod error;
#[cfg(any(feature = "sqlite", feature = "postgres"))]
mod in_progress;
mod lane;
mod memory;
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

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use uuid::Uuid;

use crate::metrics::{Counter, Metrics};

pub use change::{
    Actor, Annotate, Annotated, Annotation, Attempt, Authorship, Begun, Change, Committed, Cursor,
    Delete, DeleteConversation, DeletedConversation, Delivery, Edit, Invite, KeptAnswer, Level,
    List, Listed, Login, MarkRead, MemberChange, NoCursor, Notice, Opening, Pin, Pinned, Quote,
    Reacted, Reaction, ReadMark, Rename, Revocation, Search, TakenDelivery, UNREAD_MAX, Unpinned,
    words,
};
pub use error::{OpenError, StoreError};
pub use lane::{Commit, Commits};
use lane::{Reply, Write};
pub use rows::{
    Conversation, Insert, Membership, Message, MessageKind, Messages, NewConversation, NewMessage,
    Origin, PAGE_BYTES, Page, Revision, Version,
};
pub use shared::{
    Amend, Append, Appended, Audience, Changed, Current, Entry, Feed, FeedMark, FeedPage, Here,
    IfOpen, JournalSweep, JournalView, Leases, Missed, Publication, PublicationFault, Publications,
    Quota, Replace, SharedValues, WITHDRAWAL,
};
pub(crate) use shared::{FORGOTTEN_AT_ONCE, MOST_RECENT, RecentChange};
pub use time::Time;
pub(crate) use time::{TIME_PATTERN, WRITTEN_TIME, is_rfc3339};

pub use self::opening::{ClusterSecrets, Reservation};

/// A store of conversations and messages. Cloning gives another handle to the same store.
#[derive(Clone, Debug)]
pub struct Store {
    backend: Backend,
    /// How long whoever asks waits for an answer.
    patience: Duration,
    /// This server has written something that the feed has.
    fed: Arc<Notify>,
    metrics: Arc<Metrics>,
}

#[derive(Clone, Debug)]
enum Backend {
    Memory(memory::Memory),
    #[cfg(feature = "postgres")]
    Postgres(postgres::Postgres),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::Sqlite),
}

impl Store {
    /// Stores a message and waits until it is emitted.
    ///
    /// The message is on its way when the future is first polled: dropping it later only forgoes the
    /// answer.
    ///
    /// # Errors
    ///
    /// If it could not be stored; then it is not, and will not be, unless the error says that
    /// nobody knows ([`StoreError::Unknown`], [`StoreError::TimedOut`]).
    pub async fn insert_message(
        &self,
        message: NewMessage,
        origin: Origin,
    ) -> Result<Insert, StoreError> {
        let is_told = message.notice.is_some();
        let stored = self.submit(|reply| Write::Message {
            message,
            origin,
            reply,
        });
        if is_told {
            self.feeding(stored).await
        } else {
            stored.await
        }
    }

    /// Gives a message a new text, keeps the old one as a previous version, and waits until that is
    /// emitted. A message that is deleted is absent.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn edit_message(
        &self,
        edit: Edit,
        origin: Origin,
    ) -> Result<Change<Arc<Message>>, StoreError> {
        // The conversation is looked up first because it decides on the lane; that of a message
        // never changes.
        let Some(conversation_id) = self.conversation_of(edit.message_id).await? else {
            return Ok(Change::Absent);
        };
        self.submit(|reply| Write::Edit {
            edit,
            conversation_id,
            origin,
            reply,
        })
        .await
    }

    /// Takes text and metadata out of a message, keeps them as a previous version, and waits until
    /// that is emitted. The row stays, so that `seq` has no gap.
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
        self.submit(|reply| Write::Delete {
            delete,
            conversation_id,
            origin,
            reply,
        })
        .await
    }

    /// Stores a conversation, if there is none of that id, and returns the one that there is.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn insert_conversation(
        &self,
        conversation: NewConversation,
    ) -> Result<Conversation, StoreError> {
        let made = self.submit(|reply| Write::Conversation {
            conversation,
            reply,
        });
        self.feeding(made).await
    }

    /// Adds or removes a member and waits until that is emitted. Only the owner or an admin may;
    /// the owner cannot be removed. An owner that leaves is followed by the member that has been there for longest, and
    /// cannot leave ([`Change::Conflict`]) if there is none.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn change_member(
        &self,
        change: MemberChange,
        origin: Origin,
    ) -> Result<Change<Conversation>, StoreError> {
        self.submit(|reply| Write::Member {
            change,
            invite: None,
            origin,
            reply,
        })
        .await
    }

    /// Gives a conversation a new title and waits until that is emitted. Only the owner or an admin may.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn rename_conversation(
        &self,
        rename: Rename,
        origin: Origin,
    ) -> Result<Change<Conversation>, StoreError> {
        self.submit(|reply| Write::Rename {
            rename,
            origin,
            reply,
        })
        .await
    }

    /// Notes how far a user has read; never further back than before. None if the conversation is
    /// unknown or foreign.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn mark_read(&self, read: MarkRead) -> Result<Option<ReadMark>, StoreError> {
        self.submit(|reply| Write::Read { read, reply }).await
    }

    async fn submit<T>(&self, write: impl FnOnce(Reply<T>) -> Write) -> Result<T, StoreError> {
        let (reply, answer) = lane::request();
        let write = write(reply);
        // The change is handed over before anything is awaited: a caller that goes away from here
        // on gives up the answer and not the change.
        let submitted = each!(self, backend => backend.submit(write));
        let answer = match submitted {
            Ok(()) => self.patiently(answer.wait()).await,
            Err(error) => Err(error),
        };
        // Each refused change counts, however many of them were in one transaction.
        answer.inspect_err(|_| self.metrics.count(Counter::StoreErrors))
    }

    /// An answer, unless it takes longer than anybody should wait: a database that neither works nor
    /// fails has the changes in it, but not their senders.
    async fn patiently<T>(
        &self,
        answer: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        let answer = tokio::time::timeout(self.patience, answer).await;
        // Giving up waiting takes nothing back: the change may still be stored, and is emitted
        // then.
        answer.unwrap_or(Err(StoreError::TimedOut))
    }

    /// A conversation as `user` sees it; none if it is unknown or foreign.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn membership(
        &self,
        conversation: Uuid,
        user: &str,
    ) -> Result<Option<Membership>, StoreError> {
        each!(self, backend => self.patiently(backend.membership(conversation, Some(user))).await)
    }

    /// A conversation, whoever is a member of it; none if it is unknown.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn conversation(&self, conversation: Uuid) -> Result<Option<Membership>, StoreError> {
        each!(self, backend => self.patiently(backend.membership(conversation, None)).await)
    }

    /// Whether `user` is a member of a conversation.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn is_member(&self, conversation: Uuid, user: &str) -> Result<bool, StoreError> {
        each!(self, backend => self.patiently(backend.is_member(conversation, user)).await)
    }

    /// At most `limit` of the conversations that `user` is a member of, with what is unread; those behind
    /// `before`, if that is given.
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
        each!(self, backend => self.patiently(backend.conversations(user, before, limit)).await)
    }

    /// The ids of at most `limit` conversations that `user` is a member of.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn conversation_ids(
        &self,
        user: &str,
        limit: usize,
    ) -> Result<Vec<Uuid>, StoreError> {
        each!(self, backend => self.patiently(backend.conversation_ids(user, limit)).await)
    }

    /// The other members of conversations of a user that have at most so many members, each once and in no order: at
    /// most `limit`.
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
        each!(self, backend => self.patiently(backend.contacts(user, most_members, limit)).await)
    }

    /// A page of at most `limit` messages; none if the conversation is unknown or foreign to `user`.
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
        each!(self, backend => self.patiently(backend.messages(conversation, Some(user), page, limit)).await)
    }

    /// A page of at most `limit` messages, whoever is a member: for exports and for the server
    /// itself. None if the conversation is unknown.
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
        each!(self, backend => self.patiently(backend.messages(conversation, None, page, limit)).await)
    }

    /// At most `limit` messages that have all the words, the newest of them, ascending. Only in
    /// conversations that `user` is a member of; none if one is named that is unknown or foreign.
    /// Without words nothing is found.
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
        each!(self, backend => self.patiently(backend.search(user, search, limit)).await)
    }

    /// What a message was before it was edited or deleted, oldest first. For admins: the member rule
    /// is not applied.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn versions(&self, message: Uuid) -> Result<Vec<Version>, StoreError> {
        each!(self, backend => self.patiently(backend.versions(message)).await)
    }

    /// Whose a message is; none if it is unknown. For admins: the member rule is not applied.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn authorship(&self, message: Uuid) -> Result<Option<Authorship>, StoreError> {
        each!(self, backend => backend.authorship(message).await)
    }

    /// The conversation that a message belongs to; that never changes.
    async fn conversation_of(&self, message: Uuid) -> Result<Option<Uuid>, StoreError> {
        each!(self, backend => self.patiently(backend.conversation_of(message)).await)
    }

    /// Removes messages that were stored before `time`, with their versions: about `limit` of the
    /// oldest, and of each conversation a beginning, so that what is left has no gap. Returns how
    /// many; 0 says that nothing so old is left.
    ///
    /// # Errors
    ///
    /// If they could not be removed.
    pub async fn expire(&self, time: Time, limit: usize) -> Result<u64, StoreError> {
        each!(self, backend => backend.expire(time, limit).await)
    }

    /// Waits until this server has written something that the [feed](Self::feed) has since this was waited for
    /// last. For one who waits.
    pub async fn fed(&self) {
        self.fed.notified().await;
    }

    async fn feeding<T>(
        &self,
        writing: impl Future<Output = Result<T, StoreError>>,
    ) -> Result<T, StoreError> {
        // Whoever reads the feed is woken behind the commit, or would find nothing new there.
        let written = writing.await?;
        self.fed.notify_one();
        Ok(written)
    }

    /// Whether changes are stored: the last one did not fail, and none takes too long.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        each!(self, backend => backend.is_healthy())
    }

    /// Stores what is waiting, takes nothing more, and returns when the store is closed.
    ///
    /// The commits must be drained meanwhile.
    pub async fn close(&self) {
        each!(self, backend => backend.close().await);
    }
}
