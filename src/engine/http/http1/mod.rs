//! Plain HTTP/1.1 without a library: the requests of Engine.IO clients, one after the other, with
//! no buffer held in between.
//!
//! `connection` uses this module and leaves all other requests to hyper. The fuzzing entry points
//! use it as well. This module must not know hyper's server, or how a connection continues after
//! its last request.

mod connection;
mod dispatcher;
pub(in crate::engine::http) mod parser;
pub(in crate::engine::http) mod writer;

pub(in crate::engine::http) use dispatcher::{ConnectionRemains, ServeOutcome};
pub(in crate::engine::http) use parser::{MAX_HEADER_BYTES, MAX_HEADERS};
