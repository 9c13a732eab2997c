//! The events of the namespace `/admin` with their rows, in both directions, and the types that they carry.

pub(crate) mod commands;
pub(crate) mod emissions;
