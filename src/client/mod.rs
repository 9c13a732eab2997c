//! A Socket.IO client for any server of protocol 5, such as the official Node.js server.
//!
//! Applications use [`Client::builder`]. A client connects, reconnects, and shares one connection
//! among the [`Socket`]s of several namespaces. Options, events and reasons have the names of the
//! official client; `docs/rust-client.md` in the repository compares both clients.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use roomcast::client::{Client, DisconnectReason, Socket};
//! use serde_json::json;
//!
//! let socket = Client::builder("http://localhost:3000")
//!     .auth(json!({"token": "secret"}))
//!     .socket()?;
//! socket.on("connect", async |socket: Socket| socket.emit("join", "lobby"));
//! socket.on("disconnect", async |reason: DisconnectReason| println!("{reason}"));
//! socket.on("said", async |who: String, text: String| println!("{who}: {text}"));
//! socket.connect().await?;
//! let length: usize = socket.emit_with_ack("say", "hello").await?;
//! # Ok(())
//! # }
//! ```
//!
//! Events are also available as a [`Stream`](Events):
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! # let socket = roomcast::client::Client::builder("http://localhost:3000").socket()?;
//! let mut said = socket.stream("said");
//! socket.connect().await?;
//! while let Some(event) = said.next().await {
//!     let (who, text): (String, String) = (event.args.get(0)?, event.args.get(1)?);
//!     println!("{who}: {text}");
//! }
//! # Ok(())
//! # }
//! ```
//!
//! [`Connection`] is the low-level interface: one connection in one namespace, driven by its owner.
//! It has no task and no lock, does not reconnect, and allocates no buffer while idle. Load
//! generators hold thousands of them.
//!
//! [`channels`] follows channels of the Roomcast server, and [`chat`] writes messages of its chat.
//! Everything else works with any server.
//!
//! The files of this folder are the transports, the session (`link`), and [`Connection`]. `api`
//! contains the application's handles, `driver` the task that serves them, and `product` uses the
//! handles. This module must not depend on the server, except for the values that handlers return.

mod answer;
mod api;
mod connection;
mod driver;
mod error;
mod handshake;
mod link;
mod options;
mod polling;
mod product;
mod stream;
mod upgrade;
mod websocket;

pub(crate) use answer::refused;
pub use api::{
    Auth, Change, Client, ConnectError, ContractParameters, Emit, Events, Handler, Incoming,
    Parameter, Parameters, Socket,
};
pub use connection::Connection;
pub use driver::ClientBuilder;
pub use error::{ClientError, DisconnectReason};
pub use options::{Options, Transports};
pub use product::{channels, chat};
#[cfg(feature = "client-tls")]
pub use stream::ClientTls;
