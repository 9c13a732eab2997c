//! Decodes the same bytes with this crate's decoder and with tungstenite, and compares the results.
//! Shared with the fuzz target `websocket`.
//!
//! Known differences, all intended:
//!
//! - This crate refuses a length that is not in its shortest form, and every control frame whose
//!   length does not fit one byte. Tungstenite accepts both if the length itself is allowed.
//! - This crate limits the number of fragments; tungstenite does not.
//! - This crate refuses a wrong byte immediately; tungstenite waits for the complete frame. So
//!   after a refusal, tungstenite gets zeros until it has its frame.
//! - This crate refuses a close code that must not be sent; tungstenite reports code 1002 instead.
//!   It treats 1014 as such a code, which was registered later ("bad gateway").
//! - If a frame violates several rules, the close code may differ. This crate returns 1002 for a
//!   length of more than 63 bits; for tungstenite, the frame is too big.

use std::io::{self, Cursor, Read, Write};

use roomcast_protocol::websocket::{Decoder, Event, FrameError, Limits, Role};
use tungstenite::{
    Error, Message, WebSocket,
    error::ProtocolError,
    protocol::{Role as TheirRole, WebSocketConfig, frame::coding::CloseCode},
};

/// A message in a common format.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

/// Decodes `input` with both and panics if they disagree. Messages are at most `max` bytes.
pub(crate) fn compare(role: Role, input: &[u8], max: usize) {
    let (seen, error) = decode(role, [input], max);
    let (plain, refused) = decode_with_tungstenite(role, input.to_vec(), max);
    match error {
        None if matches!(seen.last(), Some(Seen::Close(Some((1014, _))))) => {
            let before = seen.split_last().map(|(_, before)| before);
            assert_eq!((before, refused), (Some(&plain[..]), true));
        }
        None => assert_eq!((seen, false), (plain, refused)),
        Some(
            FrameError::LengthNotMinimal
            | FrameError::OversizedControl
            | FrameError::TooManyFragments,
        ) => assert!(plain.starts_with(&seen)),
        Some(_) => {
            let mut padded = input.to_vec();
            padded.resize(input.len() + max + 14, 0);
            assert_eq!(decode_with_tungstenite(role, padded, max), (seen, true));
        }
    }
}

/// Decodes `segments` one after the other. Returns the messages and the error that ended them.
pub(crate) fn decode<'a>(
    role: Role,
    segments: impl IntoIterator<Item = &'a [u8]>,
    max: usize,
) -> (Vec<Seen>, Option<FrameError>) {
    let limits = Limits {
        max_message: max,
        ..Limits::default()
    };
    let mut decoder = Decoder::new(role, limits);
    let mut seen = Vec::new();
    for mut segment in segments {
        loop {
            match decoder.decode(&mut segment) {
                Ok(Some(event)) => seen.push(match event {
                    Event::Text(data) => Seen::Text(data.into()),
                    Event::Binary(data) => Seen::Binary(data.into()),
                    Event::Ping(data) => Seen::Ping(data.to_vec()),
                    Event::Pong(data) => Seen::Pong(data.to_vec()),
                    Event::Close(close) => {
                        Seen::Close(close.map(|close| (close.code.as_u16(), close.reason.into())))
                    }
                }),
                Ok(None) => break,
                Err(error) => return (seen, Some(error)),
            }
        }
        assert!(segment.is_empty(), "all input is consumed");
    }
    (seen, None)
}

/// A connection that returns its input, then ends, and discards written data.
struct Wire(Cursor<Vec<u8>>);

impl Read for Wire {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl Write for Wire {
    fn write(&mut self, data: &[u8]) -> io::Result<usize> {
        Ok(data.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Decodes with tungstenite. Returns the messages, and whether it refused the rest.
fn decode_with_tungstenite(role: Role, input: Vec<u8>, max: usize) -> (Vec<Seen>, bool) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(max))
        .max_frame_size(Some(max))
        .read_buffer_size(max.min(128 * 1024));
    let role = match role {
        Role::Server => TheirRole::Server,
        Role::Client => TheirRole::Client,
    };
    let mut socket = WebSocket::from_raw_socket(Wire(Cursor::new(input)), role, Some(config));
    let mut seen = Vec::new();
    loop {
        seen.push(match socket.read() {
            Ok(Message::Text(text)) => Seen::Text(text.as_bytes().to_vec()),
            Ok(Message::Binary(data)) => Seen::Binary(data.into()),
            Ok(Message::Ping(data)) => Seen::Ping(data.into()),
            Ok(Message::Pong(data)) => Seen::Pong(data.into()),
            Ok(Message::Close(close)) => {
                let refused = close.as_ref().is_some_and(|close| {
                    close.code == CloseCode::Protocol
                        && close.reason.as_str() == "Protocol violation"
                });
                if !refused {
                    let close = close.map(|close| (close.code.into(), close.reason.to_string()));
                    seen.push(Seen::Close(close));
                }
                return (seen, refused);
            }
            Ok(Message::Frame(frame)) => unreachable!("{frame:?}"),
            Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake)) => {
                return (seen, false);
            }
            Err(Error::Protocol(_) | Error::Utf8(_) | Error::Capacity(_)) => return (seen, true),
            Err(other) => panic!("{other:?}"),
        });
    }
}
