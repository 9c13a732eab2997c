//! Shared by the test binaries: servers, and clients that write literal requests and frames and
//! read with a deadline.
//!
//! There are two ways to start a server. [`ServerProcess`] runs a program, the chat server or a
//! contract server, which can be killed, suspended and measured. `local::Local` serves an `Io` in
//! the test's process, so that a test can observe both ends.

#![allow(dead_code, unused_imports, reason = "each test binary uses its part")]
#![allow(unreachable_pub, reason = "a module of several binaries")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

pub mod client;
pub mod http;
pub mod process;
pub mod websocket;

use std::{
    net::{Ipv4Addr, SocketAddr},
    time::Duration,
};

use socket2::{Domain, Socket, Type};

pub use client::RawClient;
pub use http::{Polling, Response};
pub use process::{POLLS_WAITING, POSTS_WAITING, ServerProcess};
pub use websocket::Frame;

/// Maximum duration of anything that is expected to happen. It is generous: it only decides how
/// long a failing test waits, never whether a slow machine passes.
pub const DEADLINE: Duration = Duration::from_secs(20);

/// An address without a server, reserved as long as this lives: connections to it are refused.
pub struct UnusedAddress(Socket);

impl UnusedAddress {
    /// Reserves an address.
    pub fn new() -> Self {
        let socket = Socket::new(Domain::IPV4, Type::STREAM, None).unwrap();
        let any = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        socket.bind(&any.into()).unwrap();
        Self(socket)
    }

    /// Returns the address.
    pub fn address(&self) -> SocketAddr {
        self.0.local_addr().unwrap().as_socket().unwrap()
    }
}
