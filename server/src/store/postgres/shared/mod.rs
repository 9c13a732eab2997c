//! The SQL of what servers tell one another and share: leases, the change feed, what services publish, values, and
//! what holds at every server, as login sessions and blocks.

mod blocks;
mod deliveries;
mod feed;
pub(super) mod journals;
mod keys;
mod leases;
mod logins;
mod publications;
mod values;
