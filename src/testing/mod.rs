//! Tools for testing an application: a server on a free port, and clients for it.
//!
//! ```
//! use roomcast::{Ack, Event, Io};
//!
//! # #[derive(serde::Deserialize, PartialEq, Debug)]
//! # struct Reply { length: usize }
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let io = Io::builder().namespace("/", |namespace| {
//!     namespace.on_connect(async |event: Event| event.socket.join("lobby")).on(
//!         "say",
//!         async |event: Event, text: String| {
//!             event.socket.to("lobby").emit("said", &text);
//!             Ack(serde_json::json!({"length": text.len()}))
//!         },
//!     )
//! });
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
//! The same test against the official server needs `socket.io-client` and a free port:
//!
//! ```js
//! const socket = ioc(`http://localhost:${port}`, { auth: { token: "t" } });
//! const reply = await socket.emitWithAck("say", "hi");
//! ```
//!
//! This module is for tests: setup failures panic, and every wait has a deadline. A client joins
//! one namespace per connection, and reconnects only on request ([`Client::reconnect`]). The client
//! for applications is [`client`](crate::client).

mod client;
mod handle;

use std::net::SocketAddr;

pub use client::{Client, ClientBuilder};
pub use handle::Incoming;
use tokio::sync::oneshot;

pub use crate::client::{ClientError, Transports};
use crate::{Builder, Io, Server};

/// A server on a free port of `127.0.0.1`, in the runtime of the test. Dropping it stops the
/// server.
#[derive(Debug)]
pub struct TestServer {
    io: Io,
    address: SocketAddr,
    path: String,
    /// Dropping it stops the server.
    _stop: oneshot::Sender<()>,
}

/// Builds and serves an [`Io`].
///
/// # Panics
///
/// If the builder has a fault, if no port is free, or outside of a tokio runtime.
pub async fn serve(builder: Builder) -> TestServer {
    let io = builder
        .build()
        .unwrap_or_else(|error| panic!("the server cannot be built: {error}"));
    serve_with(Server::new(io.clone()), io).await
}

/// Serves a [`Server`] that has more than an [`Io`], for example a router.
///
/// # Panics
///
/// If no port is free, or outside of a tokio runtime.
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
        // The sender is never used; dropping it stops the server.
        let _ = stopped.await;
    }));
    test
}

impl TestServer {
    /// Returns the server's [`Io`].
    #[must_use]
    pub fn io(&self) -> &Io {
        &self.io
    }

    /// Returns the address on which the server listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns a builder for a client of this server.
    pub fn client(&self) -> ClientBuilder {
        ClientBuilder::new(self.address, &self.path, self.io.config().sockets.parser)
    }
}
