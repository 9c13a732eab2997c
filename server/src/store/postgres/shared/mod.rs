//! The SQL of what servers tell one another and share: leases, the change feed, what services publish, values, and what
//! holds at every server, as login sessions and blocks.
//!
//! The handles in `store/shared` and the methods of the store call what is in here, and `group` appends to journals in
//! its own transaction. Messages and changes of conversations do not come this way, but through the lanes and `group`.
//! Nothing in here may emit anything, or keep a state of its own: what servers share is in the database alone.

mod blocks;
mod deliveries;
mod feed;
pub(super) mod journals;
mod keys;
mod leases;
mod logins;
mod publications;
pub(super) mod secrets;
mod values;
