//! The change feed: notifies all servers of one store of changes that are not part of a
//! conversation.
//!
//! The feed names the table and the entry that changed; the table holds the current value. So an
//! entry may be read repeatedly, and two changes of one entry need no order.

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

/// The change feed that the servers of one store share. Cloning gives another handle.
#[derive(Clone, Debug)]
pub struct Feed(pub(super) SharedBackend);

/// A position in the feed up to which a reader has read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FeedMark {
    /// The database snapshot whose visible transactions have been read, in the database's text
    /// form.
    pub(in crate::store) snapshot: String,
    /// The end of the last page, if more pages follow.
    pub(in crate::store) reading: Option<FeedCursor>,
}

/// A position between two pages.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::store) struct FeedCursor {
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
    /// The entry: `KIND:VALUE` of a revocation, the id of a block. Without a key, any entry may
    /// have changed.
    pub key: Option<String>,
}

/// A page of the feed.
#[derive(Clone, Debug)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a result, callers destructure it"
)]
pub struct FeedPage {
    /// The changes in the order of their transaction ids, which is not the order of the commits.
    pub changes: Vec<Changed>,
    /// The position at which the next page begins.
    pub next: FeedMark,
    /// Whether the next page is already available.
    pub has_more: bool,
}

impl FeedMark {
    pub(in crate::store) const fn at(snapshot: String) -> Self {
        let reading = None;
        Self { snapshot, reading }
    }
}

impl Feed {
    /// Returns the end of the feed. A reader that reads the tables afterwards misses no later
    /// change.
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

    /// Returns at most `limit` changes after a mark, without gaps even under concurrent commits.
    ///
    /// Returns `None` if some of the changes are no longer stored. The caller must then read the
    /// tables.
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

    /// Removes changes before `below` that all readers have read, and the oldest beyond about
    /// `most`.
    ///
    /// Returns `true` if there are more to remove.
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

    /// Returns the existing revocations among these kinds and values.
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

    /// Returns at most `limit` revocations after `last`, or from the first, ordered by kind and
    /// value.
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

    /// Returns the existing blocks among these ids.
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
