//! The WebSocket protocol (RFC 6455), both directions, without I/O.
//!
//! Bytes that were read from a connection go into a [`Decoder`], which gives [`Event`]s; what is to be
//! written comes from [`encode_header`], [`encode_frame`] and [`encode_close`]. The opening handshake
//! (RFC 6455 section 4) is in [`handshake`].
//!
//! The layer knows nothing of Engine.IO, of sockets, of time and of randomness: masking keys and
//! nonces are arguments, deadlines belong to the caller (see [`Decoder::is_idle`]), and so do answers:
//! a ping is reported, the pong is written by whoever owns the connection. Compression is not known
//! here either; the reserved bits that it would use are a parameter of the decoder.
//!
//! What every function obeys: nothing that a peer sends makes it panic, and no memory is reserved for
//! what a peer has only announced.
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
pub use header::{MAX_HEADER, Opcode, encode_frame, encode_header, header_len};
