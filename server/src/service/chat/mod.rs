//! The chat: messages, conversations and their members, and what goes out to those who are there.
//!
//! `handle` is what gateways call; `emission` takes what was stored, `sequencer` emits what was stored in its order, and `presence` says who
//! is there. Gateways and the composition root come in here. Nothing in here may know how an event is
//! parsed, or whether a user's role was proven by a token or a login.

mod changes;
mod coming;
mod deleting;
mod emission;
mod handle;
mod leases;
pub(in crate::service) mod presence;
mod retention;
pub(in crate::service) mod sequencer;

pub(crate) use handle::Chat;
pub(crate) use leases::Leases;
pub(crate) use retention::Retention;
