//! Engine.IO v4: packets, polling payloads and the session; and the forms of v3.

mod handshake;
mod packet;
pub mod payload;
mod session;
pub mod v3;

pub use handshake::{Open, Transport};
pub use packet::{Message, Packet, Probe};
pub use session::{Action, CloseReason, Role, Session, SessionConfig, Source};
pub use v3::Revision;
