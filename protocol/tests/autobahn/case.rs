//! A test case: the input, the expected result, and the code that compares the two.

use roomcast_protocol::websocket::{Decoder, Event, FrameError, Limits, Role, mask};

/// A row of the table.
pub(crate) struct Case {
    pub(crate) name: &'static str,
    pub(crate) frames: Vec<Frame>,
    pub(crate) seen: Vec<Seen>,
    pub(crate) end: End,
    pub(crate) limits: Limits,
}

/// A frame as a server sends it: its header, and its payload, which may be shorter than announced.
#[derive(Clone)]
pub(crate) struct Frame {
    pub(crate) header: Vec<u8>,
    pub(crate) payload: Vec<u8>,
}

/// An expected event.
#[derive(Clone)]
pub(crate) enum Seen {
    Text(Vec<u8>),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// A close frame with its code and reason, if it has a payload.
    Close(Option<(u16, Vec<u8>)>),
}

impl Seen {
    fn is(&self, event: &Event) -> bool {
        match (self, event) {
            (Self::Text(expected), Event::Text(data))
            | (Self::Binary(expected), Event::Binary(data)) => data == expected,
            (Self::Ping(expected), Event::Ping(data))
            | (Self::Pong(expected), Event::Pong(data)) => **data == **expected,
            (Self::Close(Some((code, reason))), Event::Close(Some(close))) => {
                close.code.as_u16() == *code && close.reason.as_bytes() == reason
            }
            (Self::Close(None), Event::Close(None)) => true,
            (_, _) => false,
        }
    }
}

/// The state after the input.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// Nothing is pending, or the peer has closed.
    Idle,
    /// The decoder waits for the rest of a message.
    Waits,
    /// The peer violated a rule.
    Fails(FrameError),
}

impl Case {
    fn bytes(&self, role: Role) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in &self.frames {
            let (mut header, mut payload) = (frame.header.clone(), frame.payload.clone());
            if role == Role::Server {
                if let Some(second) = header.get_mut(1) {
                    *second |= 0x80;
                }
                header.extend(KEY);
                mask::apply(&mut payload, KEY, 0);
            }
            bytes.extend(header);
            bytes.extend(payload);
        }
        bytes
    }

    fn run<'a>(
        &self,
        role: Role,
        segments: impl IntoIterator<Item = &'a [u8]>,
    ) -> (Vec<Event>, End) {
        let mut decoder = Decoder::new(role, self.limits);
        let mut events = Vec::new();
        for mut segment in segments {
            loop {
                match decoder.decode(&mut segment) {
                    Ok(Some(event)) => events.push(event),
                    Ok(None) => break,
                    Err(error) => {
                        assert_eq!(decoder.decode(&mut &b"\x81"[..]), Err(error));
                        assert_eq!(decoder.held(), 0);
                        return (events, End::Fails(error));
                    }
                }
            }
            assert!(segment.is_empty());
        }
        if decoder.is_idle() {
            assert_eq!(decoder.held(), 0);
            return (events, End::Idle);
        }
        (events, End::Waits)
    }

    pub(crate) fn check(&self) {
        for role in [Role::Client, Role::Server] {
            let bytes = self.bytes(role);
            let whole = self.run(role, [&bytes[..]]);
            assert_eq!(whole.1, self.end, "{}", self.name);
            assert!(
                whole.0.len() == self.seen.len()
                    && whole
                        .0
                        .iter()
                        .zip(&self.seen)
                        .all(|(event, seen)| seen.is(event)),
                "{}: {:?}",
                self.name,
                whole.0
            );
            let single = self.run(role, bytes.chunks(1));
            assert!(single == whole, "{} byte by byte", self.name);
            // A long input is split at each byte of its first header, and at some later positions.
            let (near, step) = if bytes.len() <= 2048 {
                (bytes.len(), 1)
            } else {
                (16, bytes.len() / 8)
            };
            for cut in (0..near).chain((near..bytes.len()).step_by(step)) {
                let (left, right) = bytes.split_at(cut);
                let halves = self.run(role, [left, right]);
                assert!(halves == whole, "{} cut at {cut}", self.name);
            }
        }
    }
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
