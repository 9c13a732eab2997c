//! The servers of the cluster: what they request from each other, their state, and the log level of
//! this one.

pub(super) mod cluster;
mod distinct;
pub(super) mod log_level;
pub(super) mod recent;
pub(super) mod report;
pub(super) mod requests;
