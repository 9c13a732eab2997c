//! The SQL of what servers tell one another: leases, the change feed, and what they share.

pub(super) mod feed;
pub(super) mod journals;
pub(super) mod leases;
pub(super) mod values;
