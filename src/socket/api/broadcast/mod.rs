//! Operations on many sockets: choosing them, sending to them, acting on them, and what is known of
//! sockets on other servers.
//!
//! Every method builds an operation and gives it to `apply`; none looks at a socket itself.

mod operator;
mod remote;
mod targets;

pub use operator::Broadcast;
pub use remote::{Fetched, RemoteSocket};
pub(super) use targets::targets;
