//! What the servers of one store tell one another: who is where, under leases, what was committed in conversations, and what has changed that
//! all of them must know. Handles to stores that several servers can share; the others give none. Journals, which all stores have, are what
//! every server tells its clients in the same order.

mod feed;
mod journals;
mod leases;
mod order;
mod values;

#[cfg(feature = "postgres")]
pub(super) use feed::Reading;
pub use feed::{Changed, Feed, FeedMark, FeedPage};
pub use journals::{Append, Appended, Current, Entry, IfOpen, JournalSweep, JournalView};
pub use leases::{Here, Leases};
pub(crate) use order::FORGOTTEN_AT_ONCE;
pub use order::Missed;
pub use values::SharedValues;

#[cfg(feature = "postgres")]
use super::postgres::Postgres;

/// The stores that can be shared.
#[derive(Clone, Debug)]
enum Shared {
    #[cfg(feature = "postgres")]
    Postgres(Postgres),
}
