//! Engine.IO v4, Socket.IO v5 and RFC 6455 codecs without I/O.
//!
//! [`engine::v3`] has the forms of Engine.IO v3, for clients of Socket.IO 2.
//!
//! Inputs are bytes and the time, outputs are values: this crate opens no connection, reads no
//! clock, draws no random numbers and does not log. A driver moves bytes like this:
//!
//! 1. WebSocket frames go through [`websocket::Decoder`], a polling body through
//!    [`engine::payload::decode`]. Both produce [`engine::Packet`]s.
//! 2. Each packet goes to the [`engine::Session`]. The returned [`Action`](engine::Action) is what
//!    the driver must do; [`poll_timeout`](engine::Session::poll_timeout) returns when to call
//!    [`handle_timeout`](engine::Session::handle_timeout).
//! 3. A delivered [`engine::Message`] goes to the [`socket::Decoder`], which joins attachments to
//!    their packet and returns [`socket::Packet`]s with raw [`Args`](socket::Args).
//! 4. [`socket::encode`] encodes an outgoing packet once into a [`Frame`], which all recipients and
//!    transports share.
//!
//! ```
//! use bytes::Bytes;
//! use roomcast_protocol::{engine, socket};
//!
//! let received = Bytes::from_static(br#"4212["add",1,2]"#);
//! let mut decoder = socket::Decoder::new(socket::Limits::default());
//! if let engine::Packet::Message(engine::Message::Text(text)) = engine::Packet::decode_text(received)?
//!     && let Some(packet) = decoder.text(text)?
//! {
//!     assert_eq!(packet.event_name(), "add");
//!     let sum = packet.args.get::<i64>(0)? + packet.args.get::<i64>(1)?;
//!     if let Some(id) = packet.id {
//!         let answer = socket::encode::ack(packet.nsp.as_str(), id, &sum)?;
//!         assert_eq!(answer.polling()[..], *b"4312[3]");
//!     }
//! }
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

// On docs.rs, each item names the feature that it needs.
#![cfg_attr(docsrs, feature(doc_cfg))]

pub mod engine;
mod error;
mod frame;
mod sid;
pub mod socket;
pub mod websocket;

pub use error::DecodeError;
pub use frame::{Frame, Stamp};
pub use sid::{SessionId, Sid, Tag};
