use roomcast_protocol::websocket::{Decoder, Event, FrameError, Limits, Role, mask};

/// One row: what a peer sends, and what the decoder makes of it.
pub(crate) struct Case {
    name: &'static str,
    frames: &'static [Frame],
    seen: &'static [Seen],
    end: End,
    limits: Limits,
}

/// One row of a table.
pub(crate) const fn case(
    name: &'static str,
    frames: &'static [Frame],
    seen: &'static [Seen],
    end: End,
) -> Case {
    let limits = Limits {
        max_message: 16 << 20,
        max_fragments: 1 << 17,
    };
    Case {
        name,
        frames,
        seen,
        end,
        limits,
    }
}

/// A frame as a server sends it: its header, and its payload (which may be less than announced).
#[derive(Clone, Copy)]
pub(crate) struct Frame {
    header: &'static [u8],
    payload: Data,
    times: usize,
}

/// A frame of literal bytes.
pub(crate) const fn f(header: &'static [u8], payload: &'static [u8]) -> Frame {
    Frame {
        header,
        payload: Data(payload, 1),
        times: 1,
    }
}

impl Frame {
    /// The same frame with its payload repeated.
    pub(crate) const fn payload_times(mut self, times: usize) -> Self {
        self.payload.1 = times;
        self
    }

    /// This frame as often as that.
    pub(crate) const fn times(mut self, times: usize) -> Self {
        self.times = times;
        self
    }
}

/// Some bytes, and how often they are repeated.
#[derive(Clone, Copy)]
pub(crate) struct Data(pub(crate) &'static [u8], pub(crate) usize);

impl Data {
    fn bytes(self) -> Vec<u8> {
        self.0.repeat(self.1)
    }
}

/// An event as the table writes it.
#[derive(Clone, Copy)]
pub(crate) enum Seen {
    Text(&'static [u8]),
    Binary(&'static [u8]),
    Long(Data),
    LongBinary(Data),
    Ping(&'static [u8]),
    Pong(&'static [u8]),
    Close(u16, &'static str),
    EmptyClose,
}

impl Seen {
    fn is(self, event: &Event) -> bool {
        match (self, event) {
            (Self::Text(expected), Event::Text(data)) => data == expected,
            (Self::Binary(expected), Event::Binary(data)) => data == expected,
            (Self::Long(expected), Event::Text(data)) => *data == expected.bytes(),
            (Self::LongBinary(expected), Event::Binary(data)) => *data == expected.bytes(),
            (Self::Ping(expected), Event::Ping(data))
            | (Self::Pong(expected), Event::Pong(data)) => **data == *expected,
            (Self::Close(code, reason), Event::Close(Some(close))) => {
                close.code.as_u16() == code && *close.reason == *reason
            }
            (Self::EmptyClose, Event::Close(None)) => true,
            (_, _) => false,
        }
    }
}

/// How a row ends.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum End {
    /// Nothing is pending, or the peer has closed.
    Idle,
    /// The decoder waits for more of a message.
    Waits,
    /// The peer broke a rule.
    Fails(FrameError),
}

impl Case {
    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// The same row under other limits.
    pub(crate) const fn limits(mut self, max_message: usize, max_fragments: u32) -> Self {
        self.limits = Limits {
            max_message,
            max_fragments,
        };
        self
    }

    fn bytes(&self, role: Role) -> Vec<u8> {
        let mut bytes = Vec::new();
        for frame in self.frames {
            for _ in 0..frame.times {
                let mut header = frame.header.to_vec();
                let mut payload = frame.payload.bytes();
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

    fn check(&self) {
        for role in [Role::Client, Role::Server] {
            let bytes = self.bytes(role);
            let whole = self.run(role, [&bytes[..]]);
            assert_eq!(whole.1, self.end, "{}", self.name);
            assert!(
                whole.0.len() == self.seen.len()
                    && whole
                        .0
                        .iter()
                        .zip(self.seen)
                        .all(|(event, seen)| seen.is(event)),
                "{}: {:?}",
                self.name,
                whole.0
            );
            let single = self.run(role, bytes.chunks(1));
            assert!(single == whole, "{} byte by byte", self.name);
            // A long input is cut everywhere in its first header, and at some places behind it.
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

/// Runs every row of a table.
pub(crate) fn check(cases: &[Case]) {
    for case in cases {
        case.check();
    }
}

const KEY: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
