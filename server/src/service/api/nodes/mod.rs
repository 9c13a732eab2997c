//! The servers of the cluster: what they request from each other, their state, what they know of
//! channels and of clients that may cause trouble, and the log level of this one.

pub(super) mod channels;
pub(super) mod cluster;
pub(super) mod diagnosis;
mod distinct;
mod findings;
pub(super) mod log_level;
pub(super) mod recent;
pub(super) mod report;
pub(super) mod requests;
