//! What was committed in conversations, in their order, for servers that share a store.

use std::time::Duration;

use tokio::sync::oneshot;
use uuid::Uuid;

#[cfg(feature = "postgres")]
use super::SharedBackend;
use crate::store::change::Committed;
use crate::store::rows::{Membership, Page, Revision};
use crate::store::{Store, StoreError};

/// What was committed in a conversation after a revision.
#[derive(Debug)]
#[expect(
    clippy::exhaustive_enums,
    reason = "whoever emits must say what each is for the members"
)]
pub enum Missed {
    /// The next steps, in their order, each as it was then; what has been removed since is left out.
    Steps {
        /// What was committed, with the revision that it made.
        steps: Vec<(Revision, Committed)>,
        /// The revision up to which these are all.
        reached: Revision,
    },
    /// Changes among them are not kept any more. The conversation as it is now; none if it is gone.
    Forgotten(Option<Membership>),
}

/// A change of a conversation of which members hear without being in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RecentChange {
    pub(crate) conversation: Uuid,
    /// Its number among the changes of the conversation; 0: the conversation was made.
    pub(crate) number: u64,
    /// The last message before it.
    pub(crate) seq: u64,
}

/// How many of them are told of at most.
pub(crate) const MOST_RECENT: u64 = 1000;

/// How many changes are forgotten at a time.
pub(crate) const FORGOTTEN_AT_ONCE: u64 = 10_000;

impl Store {
    /// How far these conversations have come, whoever has committed in them; those that are unknown are
    /// left out. Empty if the store belongs to one server, which need not ask.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(clippy::unused_async, unused_variables, reason = "nobody else writes")
    )]
    pub async fn revisions(
        &self,
        conversations: &[Uuid],
    ) -> Result<Vec<(Uuid, Revision)>, StoreError> {
        match self.shared() {
            #[cfg(feature = "postgres")]
            Some(SharedBackend::Postgres(postgres)) => {
                self.patiently(postgres.revisions(conversations)).await
            }
            None => Ok(Vec::new()),
        }
    }

    /// Lets who emits know what another server has committed at a revision, or with [`Committed::Announced`] that
    /// it has come so far: it comes out of [`Commits`](crate::store::Commits) behind all that this server had
    /// committed in the conversation when that was seen. With `confirm` that one wants to know who receives it.
    ///
    /// What comes back is resolved with the commit, and ends without that if there was no room for it.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(
            unused_variables,
            clippy::needless_pass_by_value,
            reason = "nobody else writes"
        )
    )]
    #[must_use = "it tells when that is emitted; who need not know drops it"]
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

    /// The name of the database that servers share, which it has from its first migration on; none if the store
    /// belongs to one server.
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
                self.patiently(postgres.id()).await.map(Some)
            }
            None => Ok(None),
        }
    }

    /// What a user was to hear of conversations lately without being in them, at most [`MOST_RECENT`]: that there is one more, a new
    /// title, that the user has become a member or is none any more, the end. Nothing if the store belongs to one server.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(clippy::unused_async, unused_variables, reason = "nobody else writes")
    )]
    pub(crate) async fn recent_changes(
        &self,
        user: &str,
        within: Duration,
    ) -> Result<Vec<RecentChange>, StoreError> {
        match self.shared() {
            #[cfg(feature = "postgres")]
            Some(SharedBackend::Postgres(postgres)) => {
                self.patiently(postgres.recent_changes(user, within)).await
            }
            None => Ok(Vec::new()),
        }
    }

    /// What was committed in a conversation after one revision, up to and with another: about `limit`
    /// steps, or the conversation as it is now if changes among them are not kept any more. A store of
    /// one server keeps messages only.
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
            return self.patiently(missed).await;
        }
        // A store of one server keeps no changes, so the conversation is read as it is now.
        if through.changes > after.changes {
            let now = self.conversation(conversation).await?;
            return Ok(Missed::Forgotten(now));
        }
        let page = Page::Between {
            after: after.seq,
            through: through.seq,
        };
        // The membership is not asked here: who may see a message is decided where it is emitted.
        let Some(read) = self.history(conversation, page, limit).await? else {
            return Ok(Missed::Forgotten(None));
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

    /// Forgets changes of conversations that no other server should need any more; says how many.
    ///
    /// # Errors
    ///
    /// If they could not be removed.
    #[cfg_attr(
        not(feature = "postgres"),
        expect(clippy::unused_async, reason = "only PostgreSQL keeps any")
    )]
    pub async fn forget_changes(&self) -> Result<u64, StoreError> {
        match self.shared() {
            #[cfg(feature = "postgres")]
            Some(SharedBackend::Postgres(postgres)) => postgres.forget_changes().await,
            None => Ok(0),
        }
    }
}
