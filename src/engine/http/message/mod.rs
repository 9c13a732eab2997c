//! Requests and answers as values: what a request asks for, why it is refused, and how answers are
//! written, compressed and marked for other origins.
//!
//! All of HTTP imports this module. It must not know engines, sessions or connections. Nothing in
//! it waits, but for a thread that compresses.

pub(crate) mod body;
pub(crate) mod compression;
pub(in crate::engine::http) mod cors;
pub(in crate::engine::http) mod host;
pub(in crate::engine::http) mod refusal;
pub(in crate::engine::http) mod reply;
pub(in crate::engine::http) mod request;
