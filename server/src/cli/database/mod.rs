//! The commands that read or write the database without a server.

pub(super) mod audit;
pub(super) mod copies;
pub(super) mod export;
pub(super) mod migrate;
