//! A small Socket.IO client: one namespace, no reconnection, every wait with a deadline.
//!
//! [`Connection`] is one connection that its owner drives: nothing happens but in its methods, there
//! is no task and no lock, and an idle one costs no buffer. Load generators hold thousands of them.
//! [`Client`] wraps one in a task and hands out what most programs want: `emit`, `emit_with_ack`,
//! `next`.
//!
//! It speaks to any server of Socket.IO protocol 5, over WebSocket, long-polling, or polling with an
//! upgrade. It knows nothing of our server: what both share is the codec.
//!
//! ```no_run
//! # async fn example() -> Result<(), roomcast::client::ClientError> {
//! use roomcast::client::Client;
//!
//! let client = Client::builder("http://localhost:3000").connect().await?;
//! let answer: String = client.emit_with_ack("say", "hello").await?;
//! while let Some(event) = client.next().await {
//!     println!("{} {:?}", event.name, event.args);
//! }
//! # Ok(())
//! # }
//! ```

mod answer;
mod connection;
mod error;
mod handle;
mod handshake;
mod options;
mod polling;
mod upgrade;
mod websocket;

pub use connection::Connection;
pub use error::ClientError;
pub use handle::{Client, ClientBuilder, Incoming};
pub use options::{Options, Transports};
