//! Engine.IO v4: packets, polling payloads and the session.

mod handshake;
mod packet;
pub mod payload;
mod session;

pub use handshake::{Open, Transport};
pub use packet::{Message, Packet, Probe};
pub use session::{Action, CloseReason, Role, Session, SessionConfig, Source};
