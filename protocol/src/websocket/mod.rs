//! The WebSocket protocol (RFC 6455), both directions, without I/O.
//!
//! A [`Decoder`] converts the bytes read from a connection into [`Event`]s. [`encode_header`],
//! [`encode_frame`] and [`encode_close`] produce the bytes to write. The opening handshake (RFC
//! 6455 section 4) is in [`handshake`].
//!
//! This module must not depend on Engine.IO, sockets, time or randomness. Masking keys and nonces
//! are arguments, and the caller sets deadlines (see [`Decoder::is_idle`]). The decoder reports
//! pings; the owner of the connection sends the pongs. It also reports which messages are
//! compressed ([`Decoder::rsv`]); [`deflate`] inflates them.
//!
//! No input from a peer makes a function panic, and an announced length reserves no memory.
//!
//! ```
//! use roomcast_protocol::websocket::{Decoder, Event, Limits, Role};
//!
//! let mut decoder = Decoder::new(Role::Client, Limits::default());
//! let mut input: &[u8] = b"\x81\x05Hello\x89\x00";
//! assert_eq!(decoder.decode(&mut input), Ok(Some(Event::Text("Hello".into()))));
//! assert!(matches!(decoder.decode(&mut input), Ok(Some(Event::Ping(data))) if data.is_empty()));
//! assert_eq!(decoder.decode(&mut input), Ok(None));
//! ```

mod close;
mod control;
mod decoder;
pub mod deflate;
mod error;
pub mod handshake;
mod header;
pub mod mask;
mod message;
mod utf8;

pub use close::{CloseCode, CloseFrame, encode_close};
pub use control::Control;
pub use decoder::{Decoder, Event, Limits, Role};
pub use error::FrameError;
pub use header::{Fragment, MAX_HEADER, Opcode, encode_frame, encode_header, header_len};
