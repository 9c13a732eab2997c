//! The connection to other servers on the same store: the adapter, and the messages sent through
//! it.
//!
//! The composition root and the chat use this module. It must not know who is in a conversation, or
//! how messages of other servers are applied.

mod adapter;
mod announcer;
mod batch;
#[cfg(test)]
pub(crate) mod corpus;
mod requests;
mod sealing;
mod wire;

pub(crate) use adapter::{AdapterFault, AdapterUrl, check, join, url};
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) use adapter::{check_url, emitter};
pub(crate) use announcer::{Announcer, NAMESPACE};
pub(in crate::service) use announcer::{CONFIRM, NEWS};
pub(in crate::service) use requests::{answer_requests, request_peers};
pub(crate) use sealing::{Sealing, SealingFault, warn_of_public};
pub(crate) use wire::Ignored;
pub(in crate::service) use wire::{
    Confirmed, Grown, LevelOf, News, Presence, Read, RevokedUntil, Step, StopRequest, Typing,
};
#[cfg(test)]
pub(crate) use wire::{read, write};
