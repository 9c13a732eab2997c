use std::{fmt, str};

use bytes::BufMut;

use super::{
    FrameError, Opcode, control,
    header::{Fragment, encode_frame},
};

/// The status code of a close frame (RFC 6455 section 7.4).
///
/// Values are limited to the codes that may be sent: 1000–1003, 1007–1014 and 3000–4999.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct CloseCode(u16);

impl CloseCode {
    /// 1000: the purpose of the connection has been fulfilled.
    pub const NORMAL: Self = Self(1000);
    /// 1001: the server shuts down or the browser leaves the page.
    pub const GOING_AWAY: Self = Self(1001);
    /// 1002: the peer violated the protocol.
    pub const PROTOCOL_ERROR: Self = Self(1002);
    /// 1003: this endpoint does not accept the type of data.
    pub const UNSUPPORTED_DATA: Self = Self(1003);
    /// 1007: the data in a message does not match its type, such as text that is not UTF-8.
    pub const INVALID_PAYLOAD: Self = Self(1007);
    /// 1008: the message violates a policy.
    pub const POLICY_VIOLATION: Self = Self(1008);
    /// 1009: the message is too big to process.
    pub const MESSAGE_TOO_BIG: Self = Self(1009);
    /// 1010: the client requires an extension that the server did not negotiate.
    pub const MANDATORY_EXTENSION: Self = Self(1010);
    /// 1011: the server encountered an unexpected condition.
    pub const INTERNAL_ERROR: Self = Self(1011);
    /// 1012: the service restarts.
    pub const SERVICE_RESTART: Self = Self(1012);
    /// 1013: the service is overloaded, try again later.
    pub const TRY_AGAIN_LATER: Self = Self(1013);

    /// Returns the code with this number, if it may occur in a close frame.
    ///
    /// 1004, 1005, 1006 and 1015 "MUST NOT be set as a status code in a Close control frame";
    /// 1016–2999 belong to future revisions of the protocol, and numbers below 1000 and from 5000
    /// are not used.
    #[must_use]
    pub const fn new(code: u16) -> Option<Self> {
        match code {
            1000..=1003 | 1007..=1014 | 3000..=4999 => Some(Self(code)),
            _ => None,
        }
    }

    /// Returns the number.
    #[must_use]
    pub const fn as_u16(self) -> u16 {
        self.0
    }
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl From<CloseCode> for u16 {
    fn from(code: CloseCode) -> Self {
        code.0
    }
}

/// The content of a close frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct CloseFrame {
    /// The reason for closing.
    pub code: CloseCode,
    /// A text that explains the code, at most 123 bytes and often empty.
    pub reason: Box<str>,
}

impl CloseFrame {
    /// Decodes the body of a close frame: empty, or a code and a reason (RFC 6455 section 5.5.1).
    pub(super) fn decode(body: &[u8]) -> Result<Option<Self>, FrameError> {
        let (code, reason) = match body {
            [] => return Ok(None),
            [_] => return Err(FrameError::TruncatedClose),
            [high, low, reason @ ..] => (u16::from_be_bytes([*high, *low]), reason),
        };
        let code = CloseCode::new(code).ok_or(FrameError::InvalidCloseCode)?;
        let reason = str::from_utf8(reason).map_err(|_| FrameError::InvalidUtf8)?;
        Ok(Some(Self {
            code,
            reason: reason.into(),
        }))
    }
}

/// Writes a complete close frame.
///
/// A reason of more than 123 bytes is truncated at a character boundary. A client passes the
/// masking key, a server `None`.
pub fn encode_close(out: &mut impl BufMut, code: CloseCode, reason: &str, mask: Option<[u8; 4]>) {
    let mut body = [0; control::MAX];
    let end = 2 + reason.floor_char_boundary(MAX_REASON);
    if let Some((head, tail)) = body.split_first_chunk_mut::<2>() {
        *head = code.as_u16().to_be_bytes();
        tail.iter_mut()
            .zip(reason.bytes())
            .for_each(|(to, from)| *to = from);
    }
    let body = body.get(..end).unwrap_or_default();
    encode_frame(out, Fragment::Final, Opcode::Close, body, mask);
}

const MAX_REASON: usize = control::MAX - 2;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_close_frame_is_code_then_reason() {
        let mut out = Vec::new();
        encode_close(&mut out, CloseCode::GOING_AWAY, "bye", None);
        assert_eq!(out, b"\x88\x05\x03\xe9bye");
    }

    #[test]
    fn a_close_frame_of_a_client_is_masked() {
        let mut out = Vec::new();
        encode_close(
            &mut out,
            CloseCode::NORMAL,
            "",
            Some([0x01, 0x02, 0x03, 0x04]),
        );
        assert_eq!(out, b"\x88\x82\x01\x02\x03\x04\x02\xea");
    }

    #[test]
    fn long_close_reason_is_truncated_at_a_character() {
        let mut out = Vec::new();
        encode_close(&mut out, CloseCode::NORMAL, &"é".repeat(100), None);
        assert_eq!(out[..4], *b"\x88\x7c\x03\xe8");
        assert_eq!(str::from_utf8(&out[4..]), Ok("é".repeat(61).as_str()));
    }

    #[test]
    fn the_codes_are_exactly_those_that_may_be_sent() {
        let valid: Vec<u16> = (0..=u16::MAX)
            .filter(|&code| CloseCode::new(code).is_some())
            .collect();
        let expected: Vec<u16> = (1000..=1003)
            .chain(1007..=1014)
            .chain(3000..=4999)
            .collect();
        assert_eq!(valid, expected);
    }
}
