//! WebSocket frames: however they are cut they mean the same, and tungstenite agrees.
//!
//! It reads more than we do: lengths that are not in the shortest form, control frames whose length is
//! not in one byte, any number of fragments, close codes that must not be sent (as 1002). It refuses a
//! frame only when it is complete, so where we refuse it is given zeros until it has its frame.
#![no_main]

use std::io::{self, Cursor, Read, Write};

use libfuzzer_sys::fuzz_target;
use roomcast_protocol::websocket::{Decoder, Event, FrameError, Limits, Role};
use tungstenite::{
    Error, Message, WebSocket,
    error::ProtocolError,
    protocol::{Role as TheirRole, WebSocketConfig, frame::coding::CloseCode},
};

#[derive(Clone, Debug, PartialEq)]
enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    Close(Option<(u16, String)>),
}

const MAX: usize = 1_000;

fuzz_target!(|input: &[u8]| {
    let Some((&role, input)) = input.split_first() else {
        return;
    };
    let role = if role & 1 == 0 {
        Role::Server
    } else {
        Role::Client
    };
    let (seen, error) = ours(role, [input]);
    assert_eq!(
        (seen.clone(), error),
        ours(role, input.chunks(1)),
        "cut at every byte"
    );
    assert_eq!((seen.clone(), error), ours(role, input.chunks(7)));

    let (plain, refused) = theirs(role, input.to_vec());
    match error {
        None if matches!(seen.last(), Some(Seen::Close(Some((1014, _))))) => assert!(refused),
        None => assert_eq!((seen, false), (plain, refused)),
        Some(
            FrameError::LengthNotMinimal
            | FrameError::OversizedControl
            | FrameError::TooManyFragments,
        ) => assert!(plain.starts_with(&seen)),
        Some(_) => {
            let mut padded = input.to_vec();
            padded.resize(input.len() + MAX + 14, 0);
            assert_eq!(theirs(role, padded), (seen, true));
        }
    }
});

fn ours<'a>(
    role: Role,
    segments: impl IntoIterator<Item = &'a [u8]>,
) -> (Vec<Seen>, Option<FrameError>) {
    let mut decoder = Decoder::new(
        role,
        Limits {
            max_message: MAX,
            ..Limits::default()
        },
    );
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

/// A connection that gives its input and forgets what is written.
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

/// What tungstenite saw, and whether it refused what followed.
fn theirs(role: Role, input: Vec<u8>) -> (Vec<Seen>, bool) {
    let config = WebSocketConfig::default()
        .max_message_size(Some(MAX))
        .max_frame_size(Some(MAX))
        .read_buffer_size(256);
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
