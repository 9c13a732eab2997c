//! The SQL of state that servers share: leases, the change feed, publications, values, login
//! sessions and blocks.
//!
//! The handles in `store/shared` and the methods of the store call this module. `group` appends to
//! journals in its own transaction. Messages and conversation changes go through the lanes and
//! `group` instead. This module must not emit events or keep state; all shared state is in the
//! database.

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
