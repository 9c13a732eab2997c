//! Reads what was committed in conversations, in revision order, for servers that share a store.

use std::time::Duration;

use tokio::sync::oneshot;
use uuid::Uuid;

#[cfg(feature = "postgres")]
use super::SharedBackend;
use crate::store::change::{Committed, Membership, Revision};
use crate::store::page::Page;
use crate::store::{Store, StoreError};

/// Changes that were committed in a conversation after a revision.
#[derive(Debug)]
#[expect(
    clippy::exhaustive_enums,
    reason = "emitters must handle every variant"
)]
pub enum Missed {
    /// The next steps in revision order, each as it was at that step. Messages that have been
    /// removed since are left out.
    Steps {
        /// The committed changes, each with the revision that it made.
        steps: Vec<(Revision, Committed)>,
        /// The revision up to which `steps` is complete.
        reached: Revision,
    },
    /// Some of the changes are no longer stored. Contains the current conversation, or `None` if it
    /// was deleted.
    Truncated(Option<Membership>),
}

/// A conversation change that also concerns members who have not joined the conversation's room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecentChange {
    pub(crate) conversation: Uuid,
    /// The number of the change in its conversation; 0 for the creation of the conversation.
    pub(crate) number: u64,
    /// The `seq` of the last message before the change.
    pub(crate) seq: u64,
}

/// The maximum number of recent changes that are returned for one user.
pub(crate) const MAX_RECENT_CHANGES: u64 = 1000;

/// The maximum number of changes that one statement removes.
pub(crate) const MAX_REMOVED_CHANGES: u64 = 10_000;

impl Store {
    /// Returns the current revisions of these conversations, including commits of other servers.
    ///
    /// Unknown conversations are left out. The result is empty if the store belongs to a single
    /// server, which need not ask.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(
            clippy::unused_async,
            unused_variables,
            reason = "there is no other writer"
        )
    )]
    pub async fn revisions(
        &self,
        conversations: &[Uuid],
    ) -> Result<Vec<(Uuid, Revision)>, StoreError> {
        match self.shared() {
            #[cfg(feature = "postgres")]
            Some(SharedBackend::Postgres(postgres)) => {
                self.with_answer_timeout(postgres.revisions(conversations))
                    .await
            }
            None => Ok(Vec::new()),
        }
    }

    /// Queues what another server has committed at a revision, so that this server emits it.
    ///
    /// [`Committed::Announced`] only states that the conversation has reached the revision. The
    /// announcement comes out of [`Commits`](crate::store::Commits) after everything that this
    /// server had committed in the conversation when the call was made. With `confirm`, the sender
    /// wants to know which users receive the event.
    ///
    /// The returned receiver resolves with the commit. It closes without a value if the queue was
    /// full.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(
            unused_variables,
            clippy::needless_pass_by_value,
            reason = "there is no other writer"
        )
    )]
    #[must_use = "it resolves when the change is emitted: drop it to ignore that"]
    pub fn announce(
        &self,
        event: Committed,
        revision: Revision,
        confirm: bool,
    ) -> oneshot::Receiver<()> {
        match self.shared() {
            #[cfg(feature = "postgres")]
            Some(SharedBackend::Postgres(postgres)) => postgres.announce(event, revision, confirm),
            None => oneshot::channel().1,
        }
    }

    /// Returns the unique id of the database that the servers share, or `None` if the store belongs
    /// to a single server.
    ///
    /// The first migration creates the id.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(clippy::unused_async, reason = "no other store is shared")
    )]
    pub async fn shared_id(&self) -> Result<Option<Uuid>, StoreError> {
        match self.shared() {
            #[cfg(feature = "postgres")]
            Some(SharedBackend::Postgres(postgres)) => {
                self.with_answer_timeout(postgres.id()).await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// Returns recent conversation changes that a user should be notified of without having joined,
    /// at most [`MAX_RECENT_CHANGES`].
    ///
    /// These are new conversations, new titles, membership changes of the user, and deletions. The
    /// result is empty if the store belongs to a single server.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(
            clippy::unused_async,
            unused_variables,
            reason = "there is no other writer"
        )
    )]
    pub(crate) async fn recent_changes(
        &self,
        user: &str,
        within: Duration,
    ) -> Result<Vec<RecentChange>, StoreError> {
        match self.shared() {
            #[cfg(feature = "postgres")]
            Some(SharedBackend::Postgres(postgres)) => {
                self.with_answer_timeout(postgres.recent_changes(user, within))
                    .await
            }
            None => Ok(Vec::new()),
        }
    }

    /// Returns what was committed in a conversation after one revision, up to and including
    /// another.
    ///
    /// Returns about `limit` steps, or the current conversation if some of the changes are no
    /// longer stored. A store of a single server retains messages only.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn missed(
        &self,
        conversation: Uuid,
        after: Revision,
        through: Revision,
        limit: usize,
    ) -> Result<Missed, StoreError> {
        #[cfg(feature = "postgres")]
        if let Some(SharedBackend::Postgres(postgres)) = self.shared() {
            let missed = postgres.missed(conversation, after, through, limit);
            return self.with_answer_timeout(missed).await;
        }
        // A store of a single server records no changes, so the conversation is read as it is now.
        if through.changes > after.changes {
            let now = self.conversation(conversation).await?;
            return Ok(Missed::Truncated(now));
        }
        let page = Page::Between {
            after: after.seq,
            through: through.seq,
        };
        // Membership is not checked here: the emitter decides which users may see a message.
        let Some(read) = self.history(conversation, page, limit).await? else {
            return Ok(Missed::Truncated(None));
        };
        let at = |seq| Revision { seq, ..after };
        let last = read.messages.last().filter(|_| read.has_more);
        Ok(Missed::Steps {
            reached: at(last.map_or(through.seq, |message| message.seq)),
            steps: read
                .messages
                .into_iter()
                .map(|message| (at(message.seq), Committed::Message(message)))
                .collect(),
        })
    }

    /// Removes conversation changes that no other server should still need. Returns how many.
    ///
    /// # Errors
    ///
    /// If they could not be removed.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(clippy::unused_async, reason = "only PostgreSQL stores them")
    )]
    pub async fn forget_changes(&self) -> Result<u64, StoreError> {
        match self.shared() {
            #[cfg(feature = "postgres")]
            Some(SharedBackend::Postgres(postgres)) => postgres.forget_changes().await,
            None => Ok(0),
        }
    }
}
