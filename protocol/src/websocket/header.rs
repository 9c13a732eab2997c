use bytes::BufMut;

use super::{
    FrameError, Role, control,
    mask::{self, Key},
};

/// The type of a frame (RFC 6455 section 5.2).
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the other ten numbers are reserved"
)]
pub enum Opcode {
    /// The next part of a fragmented message.
    Continuation = 0x0,
    /// A text message or its first part.
    Text = 0x1,
    /// A binary message or its first part.
    Binary = 0x2,
    /// The end of the connection.
    Close = 0x8,
    /// A request for a [`Pong`](Self::Pong) with the same payload.
    Ping = 0x9,
    /// The reply to a [`Ping`](Self::Ping), or an unsolicited heartbeat.
    Pong = 0xA,
}

impl Opcode {
    /// Returns the opcode with this number, unless it is reserved.
    #[must_use]
    pub fn new(number: u8) -> Option<Self> {
        match number {
            0x0 => Some(Self::Continuation),
            0x1 => Some(Self::Text),
            0x2 => Some(Self::Binary),
            0x8 => Some(Self::Close),
            0x9 => Some(Self::Ping),
            0xA => Some(Self::Pong),
            _ => None,
        }
    }

    /// Returns whether frames of this type may occur between the fragments of a message.
    #[must_use]
    pub fn is_control(self) -> bool {
        match self {
            Self::Close | Self::Ping | Self::Pong => true,
            Self::Continuation | Self::Text | Self::Binary => false,
        }
    }
}

/// The position of a frame in its message: the FIN bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the bit has two values")]
pub enum Fragment {
    /// More frames of the message follow.
    More,
    /// The only or last frame of a message.
    Final,
}

/// Writes the header of a frame with `len` bytes of payload.
///
/// A client must pass a fresh and unpredictable masking key, and mask the payload with it
/// ([`mask::apply`]). A server passes `None` (RFC 6455 section 5.3). The reserved bits are zero.
pub fn encode_header(
    out: &mut impl BufMut,
    fragment: Fragment,
    opcode: Opcode,
    len: u64,
    mask: Option<[u8; 4]>,
) {
    out.put_u8(u8::from(fragment == Fragment::Final) << 7 | opcode as u8);
    let masked = u8::from(mask.is_some()) << 7;
    match len {
        0..=SHORT_MAX => out.put_u8(masked | len as u8),
        126..=0xffff => {
            out.put_u8(masked | LEN_16);
            out.put_u16(len as u16);
        }
        _ => {
            debug_assert!(len <= i64::MAX as u64, "the first bit must be zero");
            out.put_u8(masked | LEN_64);
            out.put_u64(len);
        }
    }
    if let Some(key) = mask {
        out.put_slice(&key);
    }
}

/// Writes a complete frame. Masks its payload if a key is given.
pub fn encode_frame(
    out: &mut impl BufMut,
    fragment: Fragment,
    opcode: Opcode,
    payload: &[u8],
    mask: Option<[u8; 4]>,
) {
    encode_header(out, fragment, opcode, payload.len() as u64, mask);
    let Some(key) = mask else {
        out.put_slice(payload);
        return;
    };
    // Masking block by block needs no second copy of the payload on the heap.
    let mut block = [0; 512];
    for chunk in payload.chunks(block.len()) {
        if let Some(block) = block.get_mut(..chunk.len()) {
            block.copy_from_slice(chunk);
            mask::apply(block, key, 0);
            out.put_slice(block);
        }
    }
}

/// Returns the number of bytes that [`encode_header`] writes.
#[must_use]
pub const fn header_len(len: u64, mask: Option<[u8; 4]>) -> usize {
    let length = match len {
        0..=SHORT_MAX => 2,
        126..=0xffff => 4,
        _ => 10,
    };
    if mask.is_some() { length + 4 } else { length }
}

/// The length of the longest header in bytes: two bytes, a 64-bit length and a masking key.
pub const MAX_HEADER: usize = 14;

/// A received header that satisfies the [`Rules`].
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct Header {
    pub(super) fin: bool,
    /// The reserved bits, at their position in the first byte.
    pub(super) rsv: u8,
    pub(super) opcode: Opcode,
    pub(super) key: Key,
    /// At most [`Rules::room`] for data frames, at most 125 for control frames.
    pub(super) len: usize,
}

/// The constraints on the next header, given the earlier frames.
#[derive(Clone, Copy, Debug)]
pub(super) struct Rules {
    /// The side that reads.
    pub(super) role: Role,
    /// The reserved bits that an extension uses.
    pub(super) rsv: u8,
    /// Whether a fragmented message is incomplete.
    pub(super) open: bool,
    /// The number of bytes by which the message may still grow.
    pub(super) room: usize,
    /// The number of bytes by which a message may be larger if its first frame has a reserved bit.
    pub(super) slack: usize,
}

impl Rules {
    /// Decodes the header at the front of `input` and returns it with the rest, or `None` if it is
    /// incomplete.
    ///
    /// Each byte is checked in order, as soon as it is available. So a header in pieces fails with
    /// the same error as a complete one.
    // This has a hot and a cold caller. The hot caller should not pay for a call and a header in
    // memory.
    #[inline(always)]
    pub(super) fn decode<'a>(
        &self,
        input: &'a [u8],
    ) -> Result<Option<(Header, &'a [u8])>, FrameError> {
        let Some((&first, rest)) = input.split_first() else {
            return Ok(None);
        };
        let (fin, rsv, opcode) = self.first(first)?;
        let Some((&second, rest)) = rest.split_first() else {
            return Ok(None);
        };
        let short = self.second(second, opcode)?;
        let (len, rest) = match short {
            LEN_16 => {
                let Some((bytes, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                (u64::from(u16::from_be_bytes(*bytes)), rest)
            }
            LEN_64 => {
                let Some((bytes, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                (u64::from_be_bytes(*bytes), rest)
            }
            _ => (u64::from(short), rest),
        };
        let len = self.length(short, len, opcode, rsv)?;
        let (key, rest) = match self.role {
            Role::Client => ([0; 4], rest),
            Role::Server => {
                let Some((key, rest)) = rest.split_first_chunk() else {
                    return Ok(None);
                };
                (*key, rest)
            }
        };
        let header = Header {
            fin,
            rsv,
            opcode,
            key,
            len,
        };
        Ok(Some((header, rest)))
    }

    fn first(&self, byte: u8) -> Result<(bool, u8, Opcode), FrameError> {
        let fin = byte & FIN != 0;
        let rsv = byte & RSV;
        // "MUST be 0 unless an extension is negotiated that defines meanings for non-zero values"
        // (5.2)
        if rsv & !self.rsv != 0 {
            return Err(FrameError::ReservedBits);
        }
        let opcode = Opcode::new(byte & 0x0f).ok_or(FrameError::ReservedOpcode)?;
        match opcode {
            Opcode::Close | Opcode::Ping | Opcode::Pong if !fin => {
                return Err(FrameError::FragmentedControl);
            }
            Opcode::Continuation if !self.open => return Err(FrameError::UnexpectedContinuation),
            Opcode::Text | Opcode::Binary if self.open => {
                return Err(FrameError::ExpectedContinuation);
            }
            Opcode::Text | Opcode::Binary => {}
            // An extension marks whole messages, hence their first frames only (RFC 7692 section
            // 6).
            Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong if rsv != 0 => {
                return Err(FrameError::ReservedBits);
            }
            Opcode::Continuation | Opcode::Close | Opcode::Ping | Opcode::Pong => {}
        }
        Ok((fin, rsv, opcode))
    }

    fn second(&self, byte: u8, opcode: Opcode) -> Result<u8, FrameError> {
        let masked = byte & MASKED != 0;
        match self.role {
            Role::Server if !masked => return Err(FrameError::Unmasked),
            Role::Client if masked => return Err(FrameError::Masked),
            Role::Server | Role::Client => {}
        }
        let short = byte & !MASKED;
        if opcode.is_control() && usize::from(short) > control::MAX {
            return Err(FrameError::OversizedControl);
        }
        Ok(short)
    }

    fn length(&self, short: u8, len: u64, opcode: Opcode, rsv: u8) -> Result<usize, FrameError> {
        // "the minimal number of bytes MUST be used to encode the length", "the most significant
        // bit MUST be 0" (5.2)
        match short {
            LEN_16 if len <= SHORT_MAX => return Err(FrameError::LengthNotMinimal),
            LEN_64 if len > i64::MAX as u64 => return Err(FrameError::LengthOverflow),
            LEN_64 if len <= 0xffff => return Err(FrameError::LengthNotMinimal),
            _ => {}
        }
        let room = match rsv {
            0 => self.room,
            _ => self.room.saturating_add(self.slack),
        };
        match usize::try_from(len) {
            Ok(len) if opcode.is_control() || len <= room => Ok(len),
            Ok(_) | Err(_) => Err(FrameError::MessageTooBig),
        }
    }
}

/// The reserved bits of the first byte.
pub(super) const RSV: u8 = 0x70;
const FIN: u8 = 0x80;
const MASKED: u8 = 0x80;
/// The largest length that fits into the second byte.
const SHORT_MAX: u64 = 125;
const LEN_16: u8 = 126;
const LEN_64: u8 = 127;

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const OPCODES: [Opcode; 6] = [
        Opcode::Continuation,
        Opcode::Text,
        Opcode::Binary,
        Opcode::Close,
        Opcode::Ping,
        Opcode::Pong,
    ];

    fn encoded(fin: bool, opcode: Opcode, len: u64, mask: Option<[u8; 4]>) -> Vec<u8> {
        let mut out = Vec::new();
        let fragment = if fin { Fragment::Final } else { Fragment::More };
        encode_header(&mut out, fragment, opcode, len, mask);
        out
    }

    #[test]
    fn lengths_are_written_in_the_fewest_bytes() {
        let text = |len| encoded(true, Opcode::Text, len, None);
        assert_eq!(text(0), b"\x81\x00");
        assert_eq!(text(125), b"\x81\x7d");
        assert_eq!(text(126), b"\x81\x7e\x00\x7e");
        assert_eq!(text(65535), b"\x81\x7e\xff\xff");
        assert_eq!(text(65536), b"\x81\x7f\x00\x00\x00\x00\x00\x01\x00\x00");
    }

    #[test]
    fn a_header_fits_a_plain_slice() {
        let mut out = [0; 2];
        encode_header(&mut &mut out[..], Fragment::More, Opcode::Binary, 3, None);
        assert_eq!(out, *b"\x02\x03");
    }

    #[test]
    fn a_masked_frame_is_the_example_of_the_rfc() {
        let mut out = Vec::new();
        let key = Some([0x37, 0xfa, 0x21, 0x3d]);
        encode_frame(&mut out, Fragment::Final, Opcode::Text, b"Hello", key);
        assert_eq!(out, b"\x81\x85\x37\xfa\x21\x3d\x7f\x9f\x4d\x51\x58");
    }

    fn len() -> impl Strategy<Value = u64> {
        prop_oneof![
            0_u64..300,
            65_000_u64..66_000,
            0..=i64::MAX as u64,
            Just(i64::MAX as u64)
        ]
    }

    proptest! {
        #[test]
        fn encoded_headers_decode_to_the_same_values(
            fin: bool,
            opcode in prop::sample::select(&OPCODES[..]),
            len in len(),
            mask: Option<[u8; 4]>,
            tail: Vec<u8>,
        ) {
            let fin = fin || opcode.is_control();
            let len = if opcode.is_control() { len % 126 } else { len };
            let mut bytes = encoded(fin, opcode, len, mask);
            let size = header_len(len, mask);
            prop_assert_eq!(bytes.len(), size);
            bytes.extend(&tail);
            let rules = Rules {
                role: if mask.is_some() { Role::Server } else { Role::Client },
                rsv: 0,
                open: opcode == Opcode::Continuation,
                room: usize::MAX,
                slack: 0,
            };
            for cut in 0..size {
                prop_assert_eq!(rules.decode(&bytes[..cut]), Ok(None));
            }
            let header = Header { fin, rsv: 0, opcode, key: mask.unwrap_or_default(), len: len as usize };
            prop_assert_eq!(rules.decode(&bytes), Ok(Some((header, &tail[..]))));
        }

        #[test]
        fn a_whole_frame_is_header_and_masked_payload(payload: Vec<u8>, repeat in 1_usize..20, key: Option<[u8; 4]>) {
            let payload = payload.repeat(repeat);
            let mut frame = Vec::new();
            encode_frame(&mut frame, Fragment::Final, Opcode::Binary, &payload, key);
            let mut expected = encoded(true, Opcode::Binary, payload.len() as u64, key);
            let mut body = payload;
            if let Some(key) = key {
                mask::apply(&mut body, key, 0);
            }
            expected.extend(body);
            prop_assert_eq!(frame, expected);
        }
    }
}
