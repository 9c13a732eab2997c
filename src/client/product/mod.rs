//! What the Roomcast server adds to a Socket.IO server: the chat and channels.
//!
//! These modules send events with a [`Socket`](super::Socket), as an application could. They must
//! not depend on the server, or on the connection's task in `driver`.

pub mod channels;
pub mod chat;
mod requests;
