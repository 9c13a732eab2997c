//! A Socket.IO client for any server of protocol 5: the official one of Node, this library's, and
//! others.
//!
//! [`Client::builder`] is what applications use: it connects, reconnects, and shares one connection
//! among the [`Socket`]s of several namespaces. Its options, events and reasons have the names of the
//! official client; `docs/rust-client.md` in the repository compares the two.
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
//! Events also come as a [`Stream`](Events):
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
//! [`Connection`] is the small thing below: one connection in one namespace that its owner drives. It
//! has no task and no lock, does not reconnect, and costs no buffer while it is idle. Load generators
//! hold thousands of them.
//!
//! The files of this folder are the transports, a session on them (`link`), and [`Connection`]; `api`
//! has what applications hold, and `driver` the task behind it. This module knows of the server nothing
//! but the values that handlers return.

mod answer;
mod api;
mod connection;
mod driver;
mod error;
mod handshake;
mod link;
mod options;
mod polling;
mod stream;
#[cfg(feature = "client-tls")]
mod tls;
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
#[cfg(feature = "client-tls")]
pub use tls::ClientTls;
