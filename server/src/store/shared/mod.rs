//! What the servers of one store tell one another: who is where, under leases, what was committed in conversations, and what has changed that
//! all of them must know. Handles to stores that several servers can share; the others give none. Journals, which all stores have, are what
//! every server tells its clients in the same order.

mod feed;
mod journals;
mod leases;
mod order;
mod publications;
mod values;

#[cfg(feature = "postgres")]
pub(super) use feed::Reading;
pub use feed::{Changed, Feed, FeedMark, FeedPage};
pub use journals::{
    Amend, Append, Appended, Current, Entry, IfOpen, JournalSweep, JournalView, Quota, Replace,
    WITHDRAWAL,
};
pub use leases::{Here, Leases};
pub use order::Missed;
pub(crate) use order::{FORGOTTEN_AT_ONCE, MOST_RECENT, RecentChange};
pub use publications::{Audience, Publication, PublicationFault, Publications};
pub use values::SharedValues;

#[cfg(feature = "postgres")]
use super::postgres::Postgres;
use super::{Backend, Store};

/// The stores that can be shared.
#[derive(Clone, Debug)]
enum SharedBackend {
    #[cfg(feature = "postgres")]
    Postgres(Postgres),
}

impl Store {
    /// The backend, if several servers may work on the same data.
    fn shared(&self) -> Option<SharedBackend> {
        match &self.backend {
            Backend::Memory(_) => None,
            #[cfg(feature = "postgres")]
            Backend::Postgres(postgres) => Some(SharedBackend::Postgres(postgres.clone())),
            #[cfg(feature = "sqlite")]
            Backend::Sqlite(_) => None,
        }
    }

    /// Whether several servers may work on the same data.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        self.shared().is_some()
    }

    /// The leases of the servers that share this store; none if it belongs to one server.
    #[must_use]
    pub fn leases(&self) -> Option<Leases> {
        self.shared().map(Leases)
    }

    /// The values and locks of the servers that share this store; none if it belongs to one server.
    #[must_use]
    pub fn values(&self) -> Option<SharedValues> {
        self.shared().map(SharedValues)
    }

    /// What has changed that all servers that share this store must know; none if it belongs to one server.
    #[must_use]
    pub fn feed(&self) -> Option<Feed> {
        self.shared().map(Feed)
    }

    /// What services publish by the store; none if it belongs to one server.
    #[must_use]
    pub fn publications(&self) -> Option<Publications> {
        self.shared().map(Publications)
    }
}
