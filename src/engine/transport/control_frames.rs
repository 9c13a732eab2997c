//! WebSocket control frames that bypass the queue of a session: pongs and close frames.

use roomcast_protocol::{
    Frame,
    websocket::{self, CloseCode},
};

use super::stream::Stream;

/// Encodes the response to a WebSocket ping.
pub(in crate::engine) fn pong(payload: &[u8]) -> Frame {
    Frame::websocket_control(websocket::Opcode::Pong, payload)
}

/// Sends a close frame without a reason if that is possible immediately. Returns whether all of it
/// was sent.
pub(in crate::engine) fn send_close_frame(stream: &Stream, code: CloseCode) -> bool {
    let mut frame = Vec::new();
    websocket::encode_close(&mut frame, code, "", None);
    stream.try_write(&frame).is_ok_and(|n| n == frame.len()) && stream.is_flushed()
}

/// Closes a WebSocket that never became the transport, without waiting for it.
pub(in crate::engine) fn close_unused(stream: &Stream, code: CloseCode) {
    send_close_frame(stream, code);
    stream.shutdown();
}
