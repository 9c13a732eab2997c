//! What the Roomcast server adds to a Socket.IO server: the chat.
//!
//! This module sends events with a [`Socket`](super::Socket), as an application could. It must
//! not depend on the server, or on the connection's task in `driver`.

pub mod chat;
mod requests;
