//! Testing an application: a server on a free port, and a client to talk to it.
//!
//! ```
//! use roomcast::{Ack, Event, Io};
//!
//! # #[derive(serde::Deserialize, PartialEq, Debug)]
//! # struct Reply { length: usize }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let mut io = Io::builder();
//! io.namespace("/")
//!     .on_connect(async |event: Event| event.socket.join("lobby"))
//!     .on("say", async |event: Event, text: String| {
//!         event.socket.to("lobby").emit("said", &text);
//!         Ack(serde_json::json!({"length": text.len()}))
//!     });
//!
//! let server = roomcast::testing::serve(io).await;
//! let ann = server.client().auth(serde_json::json!({"token": "t"})).connect().await?;
//! let mut bob = server.client().connect().await?;
//! let reply: Reply = ann.emit_with_ack("say", "hi").await?;
//! assert_eq!(reply, Reply { length: 2 });
//! assert_eq!(bob.event::<String>("said").await?, "hi");
//! assert_eq!(server.io().to("lobby").count(), 2);
//! # Ok(())
//! # }
//! ```
//!
//! The same test against the official server needs `socket.io-client` and a free port of one's own:
//!
//! ```js
//! const socket = ioc(`http://localhost:${port}`, { auth: { token: "t" } });
//! const reply = await socket.emitWithAck("say", "hi");
//! ```
//!
//! This module is made for tests: what goes wrong in setting up panics, and everything that waits has a
//! deadline. The client knows one namespace per connection, and comes back when it is told to
//! ([`Client::reconnect`]); the one for applications is [`client`](crate::client).

mod client;
mod handle;

use std::net::SocketAddr;

pub use client::{Client, ClientBuilder};
pub use handle::Incoming;
use tokio::sync::oneshot;

pub use crate::client::{ClientError, Transports};
use crate::{Builder, Io, Server};

/// A server on a free port of `127.0.0.1`, in the runtime of the test. It stops when it is dropped.
#[derive(Debug)]
pub struct TestServer {
    io: Io,
    address: SocketAddr,
    path: String,
    /// Dropping it stops the server.
    _stop: oneshot::Sender<()>,
}

/// Builds and serves.
///
/// # Panics
///
/// When the builder has a fault, when no port is free, and outside of a tokio runtime.
pub async fn serve(builder: Builder) -> TestServer {
    let io = builder
        .build()
        .unwrap_or_else(|error| panic!("the server cannot be built: {error}"));
    serve_with(Server::new(io.clone()), io).await
}

/// Serves a server with more than an [`Io`], such as a router beside it.
///
/// # Panics
///
/// When no port is free, and outside of a tokio runtime.
pub async fn serve_with(server: Server, io: Io) -> TestServer {
    let server = server
        .bind("127.0.0.1:0")
        .await
        .unwrap_or_else(|error| panic!("no port is free: {error}"));
    let address = server.local_addrs().into_iter().next();
    let (stop, stopped) = oneshot::channel();
    let test = TestServer {
        path: io.config().http.path.clone(),
        io,
        address: address.expect("it has been bound to an address"),
        _stop: stop,
    };
    tokio::spawn(server.run_until(async {
        // The sender is only ever dropped, which is the sign to stop.
        let _ = stopped.await;
    }));
    test
}

impl TestServer {
    /// The server's side.
    #[must_use]
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client that is not connected yet.
    pub fn client(&self) -> ClientBuilder {
        ClientBuilder::new(self.address, &self.path, self.io.config().sockets.parser)
    }
}
