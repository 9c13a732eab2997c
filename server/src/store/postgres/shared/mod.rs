//! The SQL of state that only servers of one PostgreSQL database share: leases, the change feed and
//! publications.
//!
//! The handles in `store/shared` call this module. Messages and conversation changes go through the
//! lanes and `group` instead. This module must not emit events or keep state; all shared state is
//! in the database.

mod feed;
mod leases;
mod publications;
pub(super) mod secrets;
