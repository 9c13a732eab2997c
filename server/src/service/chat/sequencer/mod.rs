//! Emits the commits of a conversation in the order of their revisions.
//!
//! If an earlier step is missing, the sequencer holds later steps until it has read the missing
//! step from the store.
//!
//! The chat's handle passes commits to this module. It must not write to the store or decide on
//! permissions.

pub(in crate::service) mod announced;
pub(in crate::service) mod backlog;
mod closing;
pub(in crate::service) mod confirming;
pub(in crate::service) mod conversations;
pub(in crate::service) mod delivery;
pub(in crate::service) mod gap;
pub(in crate::service) mod growing;
mod interruption;
pub(in crate::service) mod order;
pub(in crate::service) mod recorded;
mod sharded;
pub(in crate::service::chat) mod traced;
