//! The servers of the cluster: what they request from each other, their state, what they know of
//! clients that may cause trouble, and the log level of this one.

pub(super) mod cluster;
pub(super) mod diagnosis;
mod distinct;
mod findings;
pub(super) mod log_level;
pub(super) mod recent;
pub(super) mod report;
pub(super) mod requests;
