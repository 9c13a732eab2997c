//! What the adapters of this library have in common, whatever they connect to: the channels that are
//! listened on, and sending from programs that are no server.
//!
//! Nothing in here knows a transport.

mod channels;
mod emitter;

pub(super) use channels::Channels;
pub use emitter::{Emission, Emitter};
pub(super) use emitter::{Outlet, UID, unwritten};
