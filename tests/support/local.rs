//! The harness for the library: a server in the test's process, so that a test can observe both
//! ends.

#![allow(dead_code, reason = "a module of several binaries")]
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "a test fails by panicking"
)]

use std::{
    net::SocketAddr,
    thread,
    time::{Duration, Instant},
};

use roomcast::{Builder, Io, Server};

use crate::support::{DEADLINE, Frame, RawClient};

/// A server on a free port, stopped on drop.
pub(crate) struct Local {
    pub(crate) io: Io,
    pub(crate) runtime: tokio::runtime::Runtime,
    address: SocketAddr,
}

impl Local {
    pub(crate) fn serve(builder: Builder) -> Self {
        Self::serve_at("127.0.0.1:0", builder)
    }

    /// Serves at an address that was announced before.
    pub(crate) fn serve_at(address: &str, builder: Builder) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .enable_all()
            .build()
            .unwrap();
        let io = builder.build().unwrap();
        let server = Server::new(io.clone()).bind(address);
        let server = runtime.block_on(server).unwrap();
        let address = server.local_addrs()[0];
        runtime.spawn(server.run());
        Self {
            io,
            runtime,
            address,
        }
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Opens a WebSocket session that has joined no namespace.
    pub(crate) fn open(&self) -> RawClient {
        let mut client = RawClient::connect(self.address);
        client.open_websocket("/socket.io/");
        client
    }

    /// Connects a client to `/` and returns its socket id.
    pub(crate) fn connect(&self) -> (RawClient, String) {
        let mut client = self.open();
        let id = join(&mut client, "");
        (client, id)
    }
}

/// Joins a namespace, written as in a packet (`""` or `"/chat,"`), and returns the socket id.
pub(crate) fn join(client: &mut RawClient, nsp: &str) -> String {
    client.send_text(format!("40{nsp}"));
    let answer = text(client);
    let id = answer.strip_prefix(&format!("40{nsp}{{\"sid\":\""));
    let id = id.unwrap_or_else(|| panic!("not connected: {answer}"));
    id.strip_suffix("\"}").unwrap().to_owned()
}

/// Returns the next message, which must be text.
pub(crate) fn text(client: &mut RawClient) -> String {
    match client.message() {
        Frame::Text(text) => text,
        frame => panic!("no text: {frame:?}"),
    }
}

/// Waits until a condition holds that no message reports.
pub(crate) fn until(what: impl Fn() -> bool) {
    until_after(DEADLINE, what);
}

/// Waits until a condition holds that may take longer than most.
pub(crate) fn until_after(longest: Duration, what: impl Fn() -> bool) {
    let start = Instant::now();
    while !what() {
        assert!(start.elapsed() < longest, "it never comes");
        thread::yield_now();
    }
}
