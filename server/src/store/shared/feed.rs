//! What has changed that all servers of one store must know and that is not part of a conversation.
//!
//! The feed says which entry of which table has changed; the table says what it is now. So it bears being
//! read again, and two changes of one entry need no order.

#![cfg_attr(
    not(feature = "postgres"),
    allow(
        unused_variables,
        dead_code,
        clippy::unused_async,
        reason = "without PostgreSQL no store is shared"
    )
)]

use uuid::Uuid;

use super::SharedBackend;
use crate::store::{Revocation, StoreError};
use roomcast::network::Block;

/// The changes that the servers of one store tell one another. Cloning gives another handle.
#[derive(Clone, Debug)]
pub struct Feed(pub(super) SharedBackend);

/// How far somebody has read the feed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedMark {
    /// The transactions whose changes are known, as the database writes it.
    pub(in crate::store) snapshot: String,
    /// How far the page behind that goes, if there are more.
    pub(in crate::store) reading: Option<Reading>,
}

/// A place between two pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct Reading {
    /// The snapshot of the first page.
    pub(in crate::store) snapshot: String,
    /// The transaction of the last row.
    pub(in crate::store) changed_in: String,
    /// The id of the last row.
    pub(in crate::store) id: i64,
}

/// An entry that has changed.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct Changed {
    /// The table: `revocations`, `blocks`, or one of a newer version.
    pub topic: String,
    /// Which entry: `KIND:VALUE` of a revocation, the id of a block. Without a key any entry may have
    /// changed.
    pub key: Option<String>,
}

/// A part of the feed.
#[derive(Clone, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "an answer, taken apart by who asked"
)]
pub struct FeedPage {
    /// In the order of the transactions' ids, which is not that of their commits.
    pub changes: Vec<Changed>,
    /// Where the next page begins.
    pub next: FeedMark,
    /// Whether that page is there already.
    pub has_more: bool,
}

impl FeedMark {
    pub(in crate::store) const fn at(snapshot: String) -> Self {
        let reading = None;
        Self { snapshot, reading }
    }
}

impl Feed {
    /// The end of the feed. Who reads the tables afterwards misses nothing from here on.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn end(&self) -> Result<FeedMark, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.feed_end().await,
        }
    }

    /// At most `limit` of the changes behind a mark. None is left out, whatever was being stored meanwhile.
    /// The answer is none if some of them are not kept any more, and the tables have to be read.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn read(
        &self,
        mark: &FeedMark,
        limit: usize,
    ) -> Result<Option<FeedPage>, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.read_feed(mark, limit).await,
        }
    }

    /// Forgets changes that everybody knows who had read up to `below`, and the oldest beyond about `most`. Returns
    /// `true` if there are more to forget.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn shorten(&self, below: Option<&FeedMark>, most: usize) -> Result<bool, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.shorten_feed(below, most).await,
        }
    }

    /// The revocations that there are among those with these kinds and values.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn revocations(&self, names: &[(&str, &str)]) -> Result<Vec<Revocation>, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => {
                let (kinds, values): (Vec<_>, Vec<_>) = names.iter().copied().unzip();
                postgres.revocations_named(&kinds, &values).await
            }
        }
    }

    /// At most `limit` revocations behind this one, or the first, in the order of kinds and values.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn revocations_after(
        &self,
        last: Option<&Revocation>,
        limit: usize,
    ) -> Result<Vec<Revocation>, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => {
                let last = last.map(|last| (&*last.kind, &*last.value));
                let (kind, value) = last.unwrap_or_default();
                postgres.revocations_after(kind, value, limit).await
            }
        }
    }

    /// The blocks that there are among those with these ids.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn blocks(&self, ids: &[Uuid]) -> Result<Vec<Block>, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.blocks_named(ids).await,
        }
    }
}
