//! What clients owe: the acknowledgements that one socket is waited for, and the answers of many
//! clients to one broadcast.
//!
//! Sockets and namespaces hold these tables, `sending` asks and waits, and packets that come in
//! settle what was asked. Nothing in here may know who asks or how a question is sent: an answer is
//! a number, an id and arguments.

mod questions;
mod table;

pub(crate) use questions::{Answers, Collecting, Questions};
pub(crate) use table::AckTable;
