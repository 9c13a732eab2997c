//! What clients owe: the acknowledgements of one socket, and the answers of many clients to one
//! broadcast.
//!
//! Sockets and namespaces hold these tables, `sending` asks and waits, and incoming packets settle
//! what was asked. Nothing in this module may know who asks or how a question is sent: an answer is
//! a number, an id and arguments.

mod questions;
mod table;

pub(crate) use questions::{Answers, Collecting, Questions};
pub(crate) use table::AckTable;
