use std::mem;

use bytes::Bytes;

use super::{
    CloseFrame, Control, FrameError, MAX_HEADER, Opcode,
    header::{Header, RSV, Rules},
    mask::{self, Key},
    message::{Kind, Message, Rest, take},
};

/// Turns the bytes that a peer sent into [`Event`]s.
///
/// Give it what was read from the connection, in any pieces, and call [`decode`](Self::decode) until it
/// answers `Ok(None)`. The same bytes give the same events however they were cut.
///
/// # Memory
///
/// An idle decoder owns no heap memory. A message that lies whole in one input slice costs one
/// allocation of its size and one copy, unmasked on the way. Of an incomplete one only the bytes received
/// are held, in a buffer of at most twice their number, whatever length its header announces.
///
/// # After the end
///
/// After [`Event::Close`] everything further is swallowed: "after receiving a control frame indicating the
/// connection should be closed, a peer discards any further data received" (RFC 6455 section 1.4). After an
/// error every call gives that error again.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// The data message in progress: between its fragments, or inside one of its frames.
    message: Option<Message>,
    state: DecoderState,
    role: Role,
    /// The reserved bits that an extension claims.
    allowed: u8,
    /// The reserved bits of the data message that was given out last.
    rsv: u8,
}

/// Which end of the connection reads.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a connection has two ends")]
pub enum Role {
    /// Reads what a client sent, which must be masked.
    Server,
    /// Reads what a server sent, which must not be masked.
    Client,
}

/// How much one message may cost.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// Bytes of one message, all its fragments together; 1,000,000 by default. More is refused with
    /// [`FrameError::MessageTooBig`] when the header that announces it is read, before its payload.
    pub max_message: usize,
    /// Frames of one message; 16,384 by default. One more is refused with
    /// [`FrameError::TooManyFragments`], which also ends a flood of empty fragments. Each message
    /// counts anew.
    pub max_fragments: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_message: 1_000_000,
            max_fragments: 16_384,
        }
    }
}

/// What a peer said.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "RFC 6455 has these five and reserves the rest"
)]
pub enum Event {
    /// A text message. Valid UTF-8, unless an extension claims it ([`Decoder::rsv`] is not zero).
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
    /// A ping, to be answered with a pong of the same payload.
    Ping(Control),
    /// A pong, asked for or not.
    Pong(Control),
    /// The peer closes the connection; with a code, or without.
    Close(Option<CloseFrame>),
}

/// Where in the stream the decoder is.
#[derive(Debug)]
enum DecoderState {
    /// Between frames, or inside a header of which `len` bytes have come.
    Header { bytes: [u8; MAX_HEADER], len: u8 },
    /// Inside the payload of a data frame.
    Data(Rest),
    /// Inside the payload of a control frame.
    Control {
        signal: Signal,
        key: Key,
        /// At most 125.
        missing: u8,
        /// What was received, still masked.
        payload: Box<Control>,
    },
    /// The peer has closed.
    Closed,
    /// The peer broke the protocol.
    Failed(FrameError),
}

impl DecoderState {
    const IDLE: Self = Self::Header {
        bytes: [0; MAX_HEADER],
        len: 0,
    };

    /// Where a data frame leaves the decoder.
    fn after(rest: Rest) -> Self {
        if rest.missing == 0 {
            Self::IDLE
        } else {
            Self::Data(rest)
        }
    }
}

/// The opcodes of control frames.
#[derive(Clone, Copy, Debug)]
enum Signal {
    Close,
    Ping,
    Pong,
}

impl Decoder {
    /// A decoder at the start of a connection, behind the handshake.
    #[must_use]
    pub fn new(role: Role, limits: Limits) -> Self {
        Self {
            limits,
            message: None,
            state: DecoderState::IDLE,
            role,
            allowed: 0,
            rsv: 0,
        }
    }

    /// Lets data messages carry the reserved bits of `allowed` (`0x40`, `0x20`, `0x10`), which an
    /// extension has negotiated.
    ///
    /// The bits may be set on the first frame of a data message and nowhere else. A text message that
    /// has one is not checked for UTF-8, because it is not text before the extension has undone its
    /// work; [`rsv`](Self::rsv) tells such messages from others.
    #[must_use]
    pub fn with_rsv(mut self, allowed: u8) -> Self {
        self.allowed = allowed & RSV;
        self
    }

    /// Takes from the front of `input` until something has happened.
    ///
    /// Returns `Ok(None)` if all of the input was consumed and more is needed.
    ///
    /// # Errors
    ///
    /// The peer broke RFC 6455 or a limit, see [`FrameError::close_code`]. What is left of the input has no
    /// meaning.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Event>, FrameError> {
        // An event is large, so it is made in the last place and never looked at on its way out.
        loop {
            match self.state {
                DecoderState::Header { .. } => {
                    let header = self.read_header(input).map_err(|error| self.fail(error))?;
                    let Some(header) = header else {
                        return Ok(None);
                    };
                    let kind = match header.opcode {
                        Opcode::Close => return self.begin_control(Signal::Close, &header, input),
                        Opcode::Ping => return self.begin_control(Signal::Ping, &header, input),
                        Opcode::Pong => return self.begin_control(Signal::Pong, &header, input),
                        Opcode::Text if header.rsv != 0 => Some(Kind::ExtendedText),
                        Opcode::Text => Some(Kind::Text),
                        Opcode::Binary => Some(Kind::Binary),
                        Opcode::Continuation => None,
                    };
                    let whole = match kind {
                        Some(kind) => self.begin_message(kind, &header, input),
                        None => self.continue_message(&header, input),
                    };
                    if let Some(message) = whole.map_err(|error| self.fail(error))? {
                        return self.finish(message);
                    }
                }
                DecoderState::Data(rest) if rest.missing > 0 && input.is_empty() => {
                    return Ok(None);
                }
                DecoderState::Data(rest) => {
                    let whole = self.read_data(rest, input);
                    if let Some(message) = whole.map_err(|error| self.fail(error))? {
                        return self.finish(message);
                    }
                }
                DecoderState::Control { .. } => return self.read_control(input),
                DecoderState::Closed => {
                    *input = &[];
                    return Ok(None);
                }
                DecoderState::Failed(error) => return Err(error),
            }
        }
    }

    /// Whether nothing of a frame or of a fragmented message is held.
    ///
    /// A peer that leaves the decoder in the middle of a message for too long holds memory and should
    /// be given a deadline.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match self.state {
            DecoderState::Header { len, .. } => len == 0 && self.message.is_none(),
            DecoderState::Data(_) | DecoderState::Control { .. } => false,
            DecoderState::Closed | DecoderState::Failed(_) => true,
        }
    }

    /// Bytes of heap memory held for what has come of an incomplete message.
    #[must_use]
    pub fn held(&self) -> usize {
        let control = match self.state {
            DecoderState::Control { .. } => size_of::<Control>(),
            DecoderState::Header { .. }
            | DecoderState::Data(_)
            | DecoderState::Closed
            | DecoderState::Failed(_) => 0,
        };
        control + self.message.as_ref().map_or(0, Message::capacity)
    }

    /// The reserved bits of the data message that was given out last (`0x40`, `0x20`, `0x10`).
    #[must_use]
    pub fn rsv(&self) -> u8 {
        self.rsv
    }

    /// Reads a header in place if it came in one piece.
    #[inline]
    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, FrameError> {
        let rules = Rules {
            role: self.role,
            rsv: self.allowed,
            open: self.message.is_some(),
            room: self
                .limits
                .max_message
                .saturating_sub(self.message.as_ref().map_or(0, Message::len)),
        };
        let DecoderState::Header { bytes, len } = &mut self.state else {
            return Ok(None);
        };
        if *len == 0
            && let Some((header, rest)) = rules.decode(input)?
        {
            *input = rest;
            return Ok(Some(header));
        }
        gather_header(rules, bytes, len, input)
    }

    /// Begins a message; gives it back if its only frame is here as a whole, which is the usual case.
    #[inline]
    fn begin_message(
        &mut self,
        kind: Kind,
        header: &Header,
        input: &mut &[u8],
    ) -> Result<Option<Message>, FrameError> {
        let mut message = Message::new(kind, header.rsv);
        let rest = message.receive(Rest::of(header), input)?;
        if rest.missing == 0 && header.fin {
            return Ok(Some(message));
        }
        self.message = Some(message);
        self.state = DecoderState::after(rest);
        Ok(None)
    }

    /// Begins a further frame of the open message.
    fn continue_message(
        &mut self,
        header: &Header,
        input: &mut &[u8],
    ) -> Result<Option<Message>, FrameError> {
        match &mut self.message {
            None => return Err(FrameError::UnexpectedContinuation),
            Some(message) if message.fragments >= self.limits.max_fragments => {
                return Err(FrameError::TooManyFragments);
            }
            Some(message) => message.fragments += 1,
        }
        self.read_data(Rest::of(header), input)
    }

    /// Takes what there is of a data frame; gives the message if that ends it.
    fn read_data(&mut self, rest: Rest, input: &mut &[u8]) -> Result<Option<Message>, FrameError> {
        let Some(message) = &mut self.message else {
            return Err(FrameError::UnexpectedContinuation);
        };
        let rest = message.receive(rest, input)?;
        self.state = DecoderState::after(rest);
        Ok(self.message.take_if(|_| rest.missing == 0 && rest.fin))
    }

    #[inline]
    fn finish(&mut self, message: Message) -> Result<Option<Event>, FrameError> {
        self.rsv = message.rsv;
        let kind = message.kind;
        let data = message.finish().map_err(|error| self.fail(error))?;
        Ok(Some(match kind {
            Kind::Text | Kind::ExtendedText => Event::Text(data),
            Kind::Binary => Event::Binary(data),
        }))
    }

    /// Begins a control frame, which rarely comes in pieces: only then its payload goes to the heap.
    fn begin_control(
        &mut self,
        signal: Signal,
        header: &Header,
        input: &mut &[u8],
    ) -> Result<Option<Event>, FrameError> {
        let data = take(input, header.len);
        let missing = header.len - data.len();
        if missing == 0 {
            return self.finish_control(signal, header.key, data);
        }
        self.state = DecoderState::Control {
            signal,
            key: header.key,
            missing: missing as u8,
            payload: Box::new(Control::new(data)),
        };
        Ok(None)
    }

    fn read_control(&mut self, input: &mut &[u8]) -> Result<Option<Event>, FrameError> {
        let DecoderState::Control {
            signal,
            key,
            missing,
            payload,
        } = &mut self.state
        else {
            return Ok(None);
        };
        let data = take(input, usize::from(*missing));
        payload.extend(data);
        *missing -= data.len() as u8;
        if *missing > 0 {
            return Ok(None);
        }
        let (signal, key) = (*signal, *key);
        let payload = mem::replace(&mut **payload, Control::new(&[]));
        self.state = DecoderState::IDLE;
        self.finish_control(signal, key, &payload)
    }

    fn finish_control(
        &mut self,
        signal: Signal,
        key: Key,
        data: &[u8],
    ) -> Result<Option<Event>, FrameError> {
        let mut payload = Control::new(data);
        mask::apply(payload.as_mut_slice(), key, 0);
        match signal {
            Signal::Ping => Ok(Some(Event::Ping(payload))),
            Signal::Pong => Ok(Some(Event::Pong(payload))),
            Signal::Close => {
                let close = CloseFrame::decode(&payload).map_err(|error| self.fail(error))?;
                self.state = DecoderState::Closed;
                self.message = None;
                Ok(Some(Event::Close(close)))
            }
        }
    }

    #[cold]
    fn fail(&mut self, error: FrameError) -> FrameError {
        self.state = DecoderState::Failed(error);
        self.message = None;
        error
    }
}

/// Collects a header that comes in pieces, byte by byte.
#[cold]
fn gather_header(
    rules: Rules,
    bytes: &mut [u8; MAX_HEADER],
    len: &mut u8,
    input: &mut &[u8],
) -> Result<Option<Header>, FrameError> {
    while let Some((&byte, rest)) = input.split_first() {
        *input = rest;
        if let Some(next) = bytes.get_mut(usize::from(*len)) {
            *next = byte;
            *len += 1;
        }
        let received = bytes.get(..usize::from(*len)).unwrap_or_default();
        if let Some((header, _)) = rules.decode(received)? {
            *len = 0;
            return Ok(Some(header));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_decoder_is_small_and_owns_no_heap() {
        assert!(size_of::<Decoder>() <= 96, "{}", size_of::<Decoder>());
        let decoder = Decoder::new(Role::Server, Limits::default());
        assert!(decoder.is_idle());
        assert_eq!(decoder.held(), 0);
    }

    #[test]
    fn an_event_is_no_larger_than_a_control_payload_needs() {
        assert!(size_of::<Event>() <= 136, "{}", size_of::<Event>());
    }
}
