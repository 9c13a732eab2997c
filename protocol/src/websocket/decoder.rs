use std::mem;

use bytes::Bytes;

use super::{
    CloseFrame, Control, FrameError, MAX_HEADER, Opcode,
    header::{Header, RSV, Rules},
    mask::{self, Key},
    message::{Kind, Message, PendingPayload, take},
};

/// Decodes the bytes that a peer sent into [`Event`]s.
///
/// Pass the bytes read from the connection, in any pieces, and call [`decode`](Self::decode) until
/// it returns `Ok(None)`. The events do not depend on how the bytes are split.
///
/// # Memory
///
/// An idle decoder owns no heap memory. A message that is complete in one input slice costs one
/// allocation of its size and one copy, which also unmasks it. For an incomplete message, the
/// decoder holds only the received bytes, in a buffer of at most twice their number, whatever
/// length the header announces.
///
/// # After the end
///
/// After [`Event::Close`], all further input is discarded: "after receiving a control frame
/// indicating the connection should be closed, a peer discards any further data received" (RFC 6455
/// section 1.4). After an error, every call returns that error again.
#[derive(Debug)]
pub struct Decoder {
    limits: Limits,
    /// The incomplete data message: between its fragments, or within one of its frames.
    message: Option<Message>,
    state: DecoderState,
    role: Role,
    /// The reserved bits that an extension uses.
    allowed: u8,
    /// The reserved bits of the last returned data message.
    rsv: u8,
}

/// The end of the connection that reads.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(clippy::exhaustive_enums, reason = "a connection has two ends")]
pub enum Role {
    /// Reads what a client sent, which must be masked.
    Server,
    /// Reads what a server sent, which must not be masked.
    Client,
}

/// The limits for one message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Limits {
    /// The maximum size of a message in bytes, all its fragments together; default 1,000,000.
    ///
    /// A larger message fails with [`FrameError::MessageTooBig`] when the header that announces it
    /// is read, before its payload. A message that an extension has transformed may be larger by
    /// 64 bytes and a 256th of the limit.
    pub max_message: usize,
    /// The maximum number of frames of a message; default 16,384.
    ///
    /// One more fails with [`FrameError::TooManyFragments`], which also stops a flood of empty
    /// fragments. The count restarts with each message.
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

/// A message, ping, pong or close frame of the peer.
#[derive(Clone, Debug, Eq, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "RFC 6455 has these five and reserves the rest"
)]
pub enum Event {
    /// A text message. It is valid UTF-8, unless an extension transformed it ([`Decoder::rsv`] is
    /// not zero).
    Text(Bytes),
    /// A binary message.
    Binary(Bytes),
    /// A ping, which must be answered with a pong of the same payload.
    Ping(Control),
    /// A pong, solicited or not.
    Pong(Control),
    /// The peer closes the connection, optionally with a code.
    Close(Option<CloseFrame>),
}

/// The position of the decoder in the stream.
#[derive(Debug)]
enum DecoderState {
    /// Between frames, or within a header of which `len` bytes have arrived.
    Header { bytes: [u8; MAX_HEADER], len: u8 },
    /// Within the payload of a data frame.
    Data(PendingPayload),
    /// Within the payload of a control frame.
    Control {
        signal: Signal,
        key: Key,
        /// At most 125.
        missing: u8,
        /// The received bytes, still masked.
        payload: Box<Control>,
    },
    /// The peer has closed the connection.
    Closed,
    /// The peer violated the protocol.
    Failed(FrameError),
}

impl DecoderState {
    const IDLE: Self = Self::Header {
        bytes: [0; MAX_HEADER],
        len: 0,
    };

    /// Returns the state after a data frame.
    fn after(rest: PendingPayload) -> Self {
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
    /// Creates a decoder for the beginning of a connection, after the handshake.
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

    /// Allows the reserved bits of `allowed` (`0x40`, `0x20`, `0x10`), which an extension has
    /// negotiated, on data messages.
    ///
    /// The bits may be set only on the first frame of a data message. A text message with such a
    /// bit is not checked for UTF-8, because it is text only after the extension has reversed its
    /// transformation. [`rsv`](Self::rsv) identifies such messages.
    #[must_use]
    pub fn with_rsv(mut self, allowed: u8) -> Self {
        self.allowed = allowed & RSV;
        self
    }

    /// Consumes bytes from the front of `input` until an event is complete.
    ///
    /// Returns `Ok(None)` if all of the input was consumed and more is needed.
    ///
    /// # Errors
    ///
    /// If the peer violated RFC 6455 or a limit, see [`FrameError::close_code`]. The rest of the
    /// input is then meaningless.
    pub fn decode(&mut self, input: &mut &[u8]) -> Result<Option<Event>, FrameError> {
        // An event is large, so it is created in its final place and not inspected on its way out.
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

    /// Returns whether the decoder holds no part of a frame or of a fragmented message.
    ///
    /// A peer that leaves a message incomplete occupies memory. The caller should set a deadline
    /// for it.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        match self.state {
            DecoderState::Header { len, .. } => len == 0 && self.message.is_none(),
            DecoderState::Data(_) | DecoderState::Control { .. } => false,
            DecoderState::Closed | DecoderState::Failed(_) => true,
        }
    }

    /// Returns the heap memory in bytes that an incomplete message occupies.
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

    /// Returns the maximum size of a message in bytes, also after an extension has reversed its
    /// transformation.
    #[must_use]
    pub fn max_message(&self) -> usize {
        self.limits.max_message
    }

    /// Returns the reserved bits of the last returned data message (`0x40`, `0x20`, `0x10`).
    #[must_use]
    pub fn rsv(&self) -> u8 {
        self.rsv
    }

    /// Decodes a header in place if it is complete in the input.
    #[inline]
    fn read_header(&mut self, input: &mut &[u8]) -> Result<Option<Header>, FrameError> {
        let max = self.limits.max_message;
        let (room, slack) = match &self.message {
            None => (max, slack(max)),
            Some(message) if message.rsv == 0 => (max.saturating_sub(message.len()), 0),
            Some(message) => (
                max.saturating_add(slack(max)).saturating_sub(message.len()),
                0,
            ),
        };
        let rules = Rules {
            role: self.role,
            rsv: self.allowed,
            open: self.message.is_some(),
            room,
            slack,
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

    /// Begins a message. Returns it if its only frame is complete in the input, which is the usual
    /// case.
    #[inline]
    fn begin_message(
        &mut self,
        kind: Kind,
        header: &Header,
        input: &mut &[u8],
    ) -> Result<Option<Message>, FrameError> {
        let mut message = Message::new(kind, header.rsv);
        let rest = message.receive(PendingPayload::of(header), input)?;
        if rest.missing == 0 && header.fin {
            return Ok(Some(message));
        }
        self.message = Some(message);
        self.state = DecoderState::after(rest);
        Ok(None)
    }

    /// Begins another frame of the incomplete message.
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
        self.read_data(PendingPayload::of(header), input)
    }

    /// Consumes the available part of a data frame. Returns the message if that completes it.
    fn read_data(
        &mut self,
        rest: PendingPayload,
        input: &mut &[u8],
    ) -> Result<Option<Message>, FrameError> {
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

    /// Begins a control frame. Its payload is stored on the heap only if it arrives in pieces,
    /// which is rare.
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

/// Returns by how many bytes a message that an extension has transformed may exceed the limit.
/// Compression makes a message that has no repetitions a little larger.
fn slack(max_message: usize) -> usize {
    max_message / 256 + 64
}

/// Collects a header that arrives in pieces, byte by byte.
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
