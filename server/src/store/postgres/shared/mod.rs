//! The SQL of what servers tell one another: leases, and the change feed.

pub(super) mod feed;
pub(super) mod leases;
