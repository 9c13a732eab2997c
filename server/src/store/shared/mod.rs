//! State that the servers of one store share: leases, presence, conversation order and the change
//! feed.
//!
//! The handles exist only for stores that several servers can share; other stores return `None`.
//! Journals and the audit log exist in all stores. Every server sends their entries to its clients
//! in the same order.

mod audit;
mod feed;
pub(super) mod journals;
mod leases;
mod order;
mod publications;

pub use audit::{AuditEntry, AuditQuery};
pub use feed::{Changed, Feed, FeedMark, FeedPage};
pub use journals::{
    Amend, Append, Appended, Current, Entry, IfOpen, JournalSize, JournalSweep, JournalView,
    MeasuredPart, Quota, Replace, Stretch, WITHDRAWAL,
};
pub use leases::{Leases, PresenceEntry};
pub use order::Missed;
pub(crate) use order::{MAX_RECENT_CHANGES, MAX_REMOVED_CHANGES, RecentChange};
pub(crate) use publications::NUMBERING_BATCH;
pub use publications::{Audience, ChannelPublication, Publication, PublicationFault, Publications};

#[cfg(feature = "postgres")]
use super::postgres::Postgres;
use super::statement::{Record, Statement};
use super::{Backend, Store, StoreError};

/// The backends that several servers can share.
#[derive(Clone, Debug)]
enum SharedBackend {
    #[cfg(feature = "postgres")]
    Postgres(Postgres),
}

#[cfg_attr(
    not(feature = "postgres"),
    allow(
        unused_variables,
        clippy::unused_async,
        reason = "without PostgreSQL no store is shared"
    )
)]
impl SharedBackend {
    /// Returns the rows of a query.
    async fn rows<T: Record>(&self, query: Statement) -> Result<Vec<T>, StoreError> {
        match *self {
            #[cfg(feature = "postgres")]
            Self::Postgres(ref postgres) => super::statement::records(&postgres.rows(query).await?),
        }
    }

    /// Changes rows, and returns their number.
    async fn tidy(&self, change: Statement) -> Result<u64, StoreError> {
        match *self {
            #[cfg(feature = "postgres")]
            Self::Postgres(ref postgres) => postgres.tidy(change).await,
        }
    }
}

impl Store {
    /// Returns the backend, if several servers may use the same database.
    fn shared(&self) -> Option<SharedBackend> {
        match self.backend {
            #[cfg(feature = "postgres")]
            Backend::Postgres(ref postgres) => Some(SharedBackend::Postgres(postgres.clone())),
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(_) => None,
        }
    }

    /// Returns whether several servers may use the same database.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared().is_some()
    }

    /// Returns the leases of the servers that share this store, or `None` if it belongs to a single
    /// server.
    #[must_use]
    pub fn leases(&self) -> Option<Leases> {
        self.shared().map(Leases)
    }

    /// Returns the change feed, or `None` if the store belongs to a single server.
    #[must_use]
    pub fn feed(&self) -> Option<Feed> {
        self.shared().map(Feed)
    }

    /// Returns the publications of services, or `None` if the store belongs to a single server.
    #[must_use]
    pub fn publications(&self) -> Option<Publications> {
        self.shared().map(Publications)
    }
}
