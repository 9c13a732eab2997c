//! Operations on many sockets: selection, sending, actions, and data of remote sockets.
//!
//! Every method builds an operation and passes it to `apply`. This module does not access sockets
//! itself.

mod operator;
mod remote;
mod targets;

pub use operator::Broadcast;
pub use remote::{Fetched, RemoteSocket};
pub(super) use targets::targets;
