//! Emits committed messages and changes of a conversation in the order of their numbers. Where an earlier
//! one is missing, the sequencer holds everything behind the gap until that is read from the store.
//!
//! The chat's handle comes in here with what was committed. Nothing in here may write to the store or
//! decide who may do something.

pub(in crate::service) mod behind;
mod closing;
pub(in crate::service) mod confirming;
pub(in crate::service) mod conversations;
pub(in crate::service) mod delivery;
pub(in crate::service) mod gap;
mod interruption;
pub(in crate::service) mod order;
pub(in crate::service) mod recorded;
mod sharded;
pub(in crate::service) mod told;
