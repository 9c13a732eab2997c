//! Plain HTTP/1.1 without a library: the requests that clients of Engine.IO send, one after the
//! other, with no buffer held in between.
//!
//! `connection` imports this module and leaves all other requests to hyper; so do the entry points
//! for fuzzing. This module must not know hyper's server, nor how a connection goes on after its
//! last request.

mod connection;
mod dispatcher;
pub(in crate::engine::http) mod parser;
pub(in crate::engine::http) mod writer;

pub(in crate::engine::http) use dispatcher::{Rest, Served};
pub(in crate::engine::http) use parser::{MAX_HEADER_BYTES, MAX_HEADERS};
