//! Plain HTTP/1.1 without a library: the requests that clients of Engine.IO send, one after the
//! other, with no buffer held in between.
//!
//! Only the connection imports it, which leaves to hyper whatever is odd, and the entry points for
//! fuzzing. It must not know hyper's server, nor how a connection goes on after its last request.

pub(in crate::engine::http) mod head;
mod line;
mod requests;
pub(in crate::engine::http) mod response;

pub(in crate::engine::http) use head::{MAX_HEADER_BYTES, MAX_HEADERS};
pub(in crate::engine::http) use requests::{Rest, Served};
