//! The clients of one thread, from their first connection to their last: they connect, enter a room,
//! send what is due, and note what they hear.
//!
//! `play` starts each thread with [`play_part`] and watches all of them through [`RunState`]; it also uses
//! [`options`] and [`join`] for clients of its own. Of the other folders this one imports `load` and
//! `account`. It must not know of reports and of other runs, and of the server only what the plan says.

mod connect;
mod enter;
mod hear;
mod messages;
mod shared;
mod thread;
mod worker;

pub(crate) use enter::{join, options};
pub(crate) use shared::RunState;
pub(crate) use thread::play_part;
