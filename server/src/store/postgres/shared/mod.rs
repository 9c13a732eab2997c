//! The SQL of state that only servers of one PostgreSQL database share, as far as it is not in
//! `store/shared`: presence, publications and secrets.
//!
//! The handles in `store/shared` call this module. Messages and conversation changes go through the
//! lanes and `group` instead. This module must not emit events or keep state; all shared state is
//! in the database.

mod leases;
mod publications;
pub(super) mod secrets;
