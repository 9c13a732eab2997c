use std::fmt;

use super::CloseCode;

/// A violation of the WebSocket protocol or of a limit, by the peer.
///
/// The connection cannot continue after any of these: send a close frame with
/// [`FrameError::close_code`] and drop the connection (RFC 6455 section 7.1.7, "Fail the WebSocket
/// Connection").
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
#[non_exhaustive]
pub enum FrameError {
    /// A reserved bit was set that no extension uses, or that may not be set on this frame (section
    /// 5.2).
    ReservedBits,
    /// The opcode was one of 3–7 or B–F (section 5.2).
    ReservedOpcode,
    /// A control frame had no FIN bit (section 5.5).
    FragmentedControl,
    /// A control frame announced more than 125 bytes (section 5.5).
    OversizedControl,
    /// A continuation frame arrived without an incomplete message (section 5.4).
    UnexpectedContinuation,
    /// A new message began within a fragmented message (section 5.4).
    ExpectedContinuation,
    /// A client sent a frame without a mask (section 5.1).
    Unmasked,
    /// A server sent a frame with a mask (section 5.1).
    Masked,
    /// The length was encoded in more bytes than necessary (section 5.2, "the minimal number of
    /// bytes").
    LengthNotMinimal,
    /// The most significant bit of a 64-bit length was set (section 5.2).
    LengthOverflow,
    /// The message would become longer than [`Limits::max_message`](super::Limits::max_message).
    MessageTooBig,
    /// The message has more frames than [`Limits::max_fragments`](super::Limits::max_fragments).
    TooManyFragments,
    /// A text message or a close reason was not UTF-8 (section 8.1).
    InvalidUtf8,
    /// A compressed message was not a complete sequence of DEFLATE blocks (RFC 7692 section 7.2.2),
    /// or had too many final blocks.
    InvalidDeflate,
    /// A close frame had a body of one byte (section 5.5.1).
    TruncatedClose,
    /// A close frame had a code that must not be sent (section 7.4).
    InvalidCloseCode,
}

impl FrameError {
    /// Every variant, for tables and metrics.
    pub const ALL: &[Self] = &[
        Self::ReservedBits,
        Self::ReservedOpcode,
        Self::FragmentedControl,
        Self::OversizedControl,
        Self::UnexpectedContinuation,
        Self::ExpectedContinuation,
        Self::Unmasked,
        Self::Masked,
        Self::LengthNotMinimal,
        Self::LengthOverflow,
        Self::MessageTooBig,
        Self::TooManyFragments,
        Self::InvalidUtf8,
        Self::InvalidDeflate,
        Self::TruncatedClose,
        Self::InvalidCloseCode,
    ];

    /// Returns the code to close the connection with (section 7.4.1).
    #[must_use]
    pub fn close_code(self) -> CloseCode {
        match self {
            Self::ReservedBits
            | Self::ReservedOpcode
            | Self::FragmentedControl
            | Self::OversizedControl
            | Self::UnexpectedContinuation
            | Self::ExpectedContinuation
            | Self::Unmasked
            | Self::Masked
            | Self::LengthNotMinimal
            | Self::LengthOverflow
            | Self::TruncatedClose
            | Self::InvalidCloseCode => CloseCode::PROTOCOL_ERROR,
            Self::InvalidUtf8 | Self::InvalidDeflate => CloseCode::INVALID_PAYLOAD,
            Self::TooManyFragments => CloseCode::POLICY_VIOLATION,
            Self::MessageTooBig => CloseCode::MESSAGE_TOO_BIG,
        }
    }

    /// Returns a short constant name for metric labels.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::ReservedBits => "reserved_bits",
            Self::ReservedOpcode => "reserved_opcode",
            Self::FragmentedControl => "fragmented_control",
            Self::OversizedControl => "oversized_control",
            Self::UnexpectedContinuation => "unexpected_continuation",
            Self::ExpectedContinuation => "expected_continuation",
            Self::Unmasked => "unmasked",
            Self::Masked => "masked",
            Self::LengthNotMinimal => "length_not_minimal",
            Self::LengthOverflow => "length_overflow",
            Self::MessageTooBig => "message_too_big",
            Self::TooManyFragments => "too_many_fragments",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::InvalidDeflate => "invalid_deflate",
            Self::TruncatedClose => "truncated_close",
            Self::InvalidCloseCode => "invalid_close_code",
        }
    }
}

impl fmt::Display for FrameError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ReservedBits => "a reserved bit is set",
            Self::ReservedOpcode => "the opcode is reserved",
            Self::FragmentedControl => "a control frame is fragmented",
            Self::OversizedControl => "a control frame is longer than 125 bytes",
            Self::UnexpectedContinuation => "a continuation frame without an open message",
            Self::ExpectedContinuation => "a new message inside a fragmented one",
            Self::Unmasked => "a frame from a client is not masked",
            Self::Masked => "a frame from a server is masked",
            Self::LengthNotMinimal => "a length is not encoded in the fewest bytes",
            Self::LengthOverflow => "a length does not fit 63 bits",
            Self::MessageTooBig => "the message is too big",
            Self::TooManyFragments => "the message has too many fragments",
            Self::InvalidUtf8 => "text is not valid UTF-8",
            Self::InvalidDeflate => "compressed data is invalid",
            Self::TruncatedClose => "a close frame has a body of one byte",
            Self::InvalidCloseCode => "a close code must not be sent",
        })
    }
}

impl std::error::Error for FrameError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_is_one_byte() {
        assert_eq!(size_of::<FrameError>(), 1);
    }

    #[test]
    fn names_are_distinct_labels() {
        let mut names: Vec<_> = FrameError::ALL.iter().map(|error| error.name()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), FrameError::ALL.len());
        assert!(names.iter().all(|name| {
            name.bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte == b'_' || byte.is_ascii_digit())
        }));
    }

    #[test]
    fn every_error_closes_with_one_of_four_codes() {
        for error in FrameError::ALL {
            assert!(matches!(
                error.close_code().as_u16(),
                1002 | 1007 | 1008 | 1009
            ));
        }
    }
}
