//! The commands that read or write the database without a server.

pub(super) mod export;
pub(super) mod migrate;
