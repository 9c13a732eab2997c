//! The clients of one thread: they connect, join a room, send messages when due, and record what
//! they receive.
//!
//! `play` starts each thread with [`play_part`] and observes all of them through [`RunState`]. It
//! also uses [`open`], [`join`] and [`request`] for clients of its own. Of the other folders, this
//! one imports `load` and `account`. It must not know reports or other runs, and knows the server
//! only by the plan.

mod connect;
mod enter;
mod inbound;
mod messages;
mod shared;
mod thread;
mod worker;

pub(crate) use enter::{join, open, request, send, until};
pub(crate) use shared::RunState;
pub(crate) use thread::play_part;
