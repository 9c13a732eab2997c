//! Pending acknowledgements: those of one socket, and the answers of many clients to one broadcast.
//!
//! Sockets and namespaces hold these tables. `sending` registers requests and waits, and incoming
//! packets resolve them. This module must not know the callers or how requests are sent. An answer
//! is a number, an id and arguments.

mod broadcast_requests;
mod table;

pub(crate) use broadcast_requests::{Answers, BroadcastRequests};
pub(crate) use table::AckTable;
