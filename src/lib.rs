//! Roomcast: a Socket.IO server.
