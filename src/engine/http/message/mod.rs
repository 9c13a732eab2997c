//! Requests and responses as values: parsing, reasons for refusals, and writing, compressing and
//! CORS headers of responses.
//!
//! All of `http` imports this module. It must not know engines, sessions or connections. Nothing
//! here waits, except for the compression thread.

pub(crate) mod body;
pub(in crate::engine::http) mod characters;
pub(crate) mod compression;
pub(in crate::engine::http) mod cors;
pub(in crate::engine::http) mod extensions;
pub(in crate::engine::http) mod host;
pub(in crate::engine::http) mod refusal;
pub(in crate::engine::http) mod reply;
pub(in crate::engine::http) mod request;
