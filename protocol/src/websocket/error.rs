use super::CloseCode;
use crate::error::errors;

errors! {
    /// A violation of the WebSocket protocol or of a limit, by the peer.
    ///
    /// The connection cannot continue after any of these: send a close frame with
    /// [`FrameError::close_code`] and drop the connection (RFC 6455 section 7.1.7, "Fail the
    /// WebSocket Connection").
    #[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
    #[non_exhaustive]
    pub enum FrameError {
        /// A reserved bit was set that no extension uses, or that may not be set on this frame
        /// (section 5.2).
        ReservedBits => "reserved_bits", "a reserved bit is set";
        /// The opcode was one of 3–7 or B–F (section 5.2).
        ReservedOpcode => "reserved_opcode", "the opcode is reserved";
        /// A control frame had no FIN bit (section 5.5).
        FragmentedControl => "fragmented_control", "a control frame is fragmented";
        /// A control frame announced more than 125 bytes (section 5.5).
        OversizedControl => "oversized_control", "a control frame is longer than 125 bytes";
        /// A continuation frame arrived without an incomplete message (section 5.4).
        UnexpectedContinuation =>
            "unexpected_continuation", "a continuation frame without an open message";
        /// A new message began within a fragmented message (section 5.4).
        ExpectedContinuation => "expected_continuation", "a new message inside a fragmented one";
        /// A client sent a frame without a mask (section 5.1).
        Unmasked => "unmasked", "a frame from a client is not masked";
        /// A server sent a frame with a mask (section 5.1).
        Masked => "masked", "a frame from a server is masked";
        /// The length was encoded in more bytes than necessary (section 5.2, "the minimal number of
        /// bytes").
        LengthNotMinimal => "length_not_minimal", "a length is not encoded in the fewest bytes";
        /// The most significant bit of a 64-bit length was set (section 5.2).
        LengthOverflow => "length_overflow", "a length does not fit 63 bits";
        /// The message would become longer than
        /// [`Limits::max_message`](super::Limits::max_message).
        MessageTooBig => "message_too_big", "the message is too big";
        /// The message has more frames than
        /// [`Limits::max_fragments`](super::Limits::max_fragments).
        TooManyFragments => "too_many_fragments", "the message has too many fragments";
        /// A text message or a close reason was not UTF-8 (section 8.1).
        InvalidUtf8 => "invalid_utf8", "text is not valid UTF-8";
        /// A compressed message was not a complete sequence of DEFLATE blocks (RFC 7692 section
        /// 7.2.2), or had too many final blocks.
        InvalidDeflate => "invalid_deflate", "compressed data is invalid";
        /// A close frame had a body of one byte (section 5.5.1).
        TruncatedClose => "truncated_close", "a close frame has a body of one byte";
        /// A close frame had a code that must not be sent (section 7.4).
        InvalidCloseCode => "invalid_close_code", "a close code must not be sent";
    }
    /// Returns a short constant name for metric labels.
    pub fn name(self);

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
}

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
