//! Literal WebSocket frames.

use std::time::Instant;

use super::{DEADLINE, RawClient, Response};

/// Masking key of every frame that these clients send.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// A frame from the server, which sends no fragments and no reserved bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Frame {
    /// Opcode 1.
    Text(String),
    /// Opcode 2.
    Binary(Vec<u8>),
    /// Opcode 8, with the payload as received.
    Close(Vec<u8>),
    /// Opcode 9.
    Ping(Vec<u8>),
    /// Opcode 10.
    Pong(Vec<u8>),
}

/// Returns a frame as a client must send it, with this first byte and masked payload.
pub fn masked(first: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    let payload = payload.as_ref();
    let mut frame = vec![first];
    match payload.len() {
        length @ 0..126 => frame.push(0x80 | length as u8),
        length @ 126..65_536 => {
            frame.push(0x80 | 126);
            frame.extend((length as u16).to_be_bytes());
        }
        length => {
            frame.push(0x80 | 127);
            frame.extend((length as u64).to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, key)| byte ^ key),
    );
    frame
}

impl RawClient {
    /// Sends a WebSocket handshake and reads the answer.
    pub fn upgrade(&mut self, target: &str) -> Response {
        self.send_upgrade(target);
        self.response()
    }

    /// Sends a WebSocket handshake without reading the answer.
    pub fn send_upgrade(&mut self, target: &str) {
        self.send(format!(
            "GET {target} HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
             Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
             Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        ));
    }

    /// Opens a WebSocket session below `path` and returns the open packet.
    pub fn open_websocket(&mut self, path: &str) -> String {
        let response = self.upgrade(&format!("{path}?EIO=4&transport=websocket"));
        assert_eq!(response.status, 101, "{response:?}");
        let Frame::Text(open) = self.frame() else {
            panic!("no open packet")
        };
        open
    }

    /// Opens a WebSocket session at `/socket.io/` and joins `/`.
    pub fn open_socket(&mut self) {
        self.open_websocket("/socket.io/");
        self.send_text("40");
        let Frame::Text(connected) = self.message() else {
            panic!("not connected")
        };
        assert!(connected.starts_with("40{\"sid\":\""), "{connected}");
    }

    /// Sends one text frame.
    pub fn send_text(&mut self, text: impl AsRef<[u8]>) {
        self.send(masked(0x81, text));
    }

    /// Sends one binary frame.
    pub fn send_binary(&mut self, payload: impl AsRef<[u8]>) {
        self.send(masked(0x82, payload));
    }

    /// Returns the next frame of any kind.
    pub fn frame(&mut self) -> Frame {
        let head = self.take(2);
        let length = match head[1] {
            length @ 0..126 => usize::from(length),
            126 => usize::from(u16::from_be_bytes(self.take(2).try_into().unwrap())),
            127 => u64::from_be_bytes(self.take(8).try_into().unwrap())
                .try_into()
                .unwrap(),
            _ => panic!("a server must not mask"),
        };
        let payload = self.take(length);
        match head[0] {
            0x81 => Frame::Text(String::from_utf8(payload).unwrap()),
            0x82 => Frame::Binary(payload),
            0x88 => Frame::Close(payload),
            0x89 => Frame::Ping(payload),
            0x8a => Frame::Pong(payload),
            first => panic!("unexpected frame {first:#04x}"),
        }
    }

    /// Returns the next frame that is not an Engine.IO ping; pings are answered.
    pub fn message(&mut self) -> Frame {
        loop {
            let frame = self.frame();
            if frame != Frame::Text("2".to_owned()) {
                return frame;
            }
            self.send_text("3");
        }
    }

    /// Expects this text as the next message.
    pub fn expect_text(&mut self, expected: &str) {
        assert_eq!(self.message(), Frame::Text(expected.to_owned()));
    }

    /// Expects these bytes as the next message.
    pub fn expect_binary(&mut self, expected: &[u8]) {
        assert_eq!(self.message(), Frame::Binary(expected.to_owned()));
    }

    /// Returns whether the server closes. Messages before are skipped, and pings are answered, so
    /// that a missing pong is not the cause.
    pub fn is_closed_by_server(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < DEADLINE {
            match self.wait() {
                Some(true) => {}
                Some(false) => return true,
                None => return false,
            }
            match self.frame() {
                Frame::Close(_) => return true,
                Frame::Text(text) if text == "2" => drop(self.try_send(masked(0x81, "3"))),
                _ => {}
            }
        }
        false
    }

    /// Expects the server to close.
    pub fn expect_close(&mut self) {
        assert!(self.is_closed_by_server(), "not closed");
    }

    /// Expects the server to close, possibly because of a missing pong: pings are not answered.
    pub fn expect_unanswered_close(&mut self) {
        while !self.is_at_end() && !matches!(self.frame(), Frame::Close(_)) {}
    }

    /// Expects a close frame as the next message, answers it, expects the end, and returns the
    /// code.
    pub fn close_code(&mut self) -> Option<u16> {
        let frame = self.message();
        let Frame::Close(payload) = frame else {
            panic!("no close frame but {frame:?}")
        };
        let code = payload.get(..2)?;
        let code = u16::from_be_bytes([code[0], code[1]]);
        drop(self.try_send(masked(0x88, code.to_be_bytes())));
        assert!(self.is_at_end(), "something follows the close frame");
        Some(code)
    }
}
