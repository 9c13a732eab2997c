//! Engine.IO v4, Socket.IO v5 and RFC 6455 codecs without I/O.

pub mod websocket;
