//! One server of the cluster: what its peers request, and its log level.

pub(super) mod log_level;
pub(super) mod requests;
