use std::fmt;

/// The error in bytes that a peer sent.
///
/// Every variant is a violation by the peer: the connection is closed, and metrics count the error
/// under [`name`](Self::name). The value contains no input, so it is [`Copy`] and safe to log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DecodeError {
    /// An Engine.IO packet without a type byte.
    EmptyPacket,
    /// An Engine.IO type that does not exist on this transport.
    UnknownPacket,
    /// A length in an Engine.IO v3 payload that is not a number, or does not match its packet.
    InvalidLength,
    /// A binary message in a polling payload with invalid base64.
    InvalidBase64,
    /// Text that is not UTF-8.
    InvalidUtf8,
    /// A Socket.IO type that does not exist.
    UnknownKind,
    /// A namespace name longer than [`max_nsp`](crate::socket::Limits::max_nsp).
    NamespaceTooLong,
    /// An acknowledgement id that does not fit 64 bits.
    InvalidAckId,
    /// An attachment count that is not a number, or placeholders that do not match the attachments.
    IllegalAttachments,
    /// More attachments announced than
    /// [`max_attachments`](crate::socket::Limits::max_attachments).
    TooManyAttachments,
    /// A payload that is not JSON.
    InvalidJson,
    /// A message that is not MessagePack, or ends too early.
    InvalidMessagePack,
    /// A MessagePack extension that the official parser does not write.
    UnknownExtension,
    /// More bytes after a MessagePack packet.
    TrailingBytes,
    /// Values nested deeper than [`max_depth`](crate::socket::Limits::max_depth).
    TooDeep,
    /// A payload, or a whole MessagePack packet, of the wrong shape.
    InvalidPayload,
    /// A message that the [custom parser](crate::socket::CustomParser) refuses.
    InvalidCustom,
    /// An event name that only the library itself may use.
    ReservedEvent,
    /// A `CONNECT` payload larger than
    /// [`max_connect_payload`](crate::socket::Limits::max_connect_payload), or a packet whose
    /// attachments exceed [`max_bytes`](crate::socket::Limits::max_bytes).
    TooLarge,
    /// Text where an attachment or a MessagePack packet was expected.
    UnexpectedText,
    /// Binary data that no packet announced.
    UnexpectedBinary,
}

impl DecodeError {
    /// Every variant, for metrics that start at zero.
    pub const ALL: &[Self] = &[
        Self::EmptyPacket,
        Self::UnknownPacket,
        Self::InvalidLength,
        Self::InvalidBase64,
        Self::InvalidUtf8,
        Self::UnknownKind,
        Self::NamespaceTooLong,
        Self::InvalidAckId,
        Self::IllegalAttachments,
        Self::TooManyAttachments,
        Self::InvalidJson,
        Self::InvalidMessagePack,
        Self::UnknownExtension,
        Self::TrailingBytes,
        Self::TooDeep,
        Self::InvalidPayload,
        Self::InvalidCustom,
        Self::ReservedEvent,
        Self::TooLarge,
        Self::UnexpectedText,
        Self::UnexpectedBinary,
    ];

    /// Returns the label of this error in metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::EmptyPacket => "empty_packet",
            Self::UnknownPacket => "unknown_packet",
            Self::InvalidLength => "invalid_length",
            Self::InvalidBase64 => "invalid_base64",
            Self::InvalidUtf8 => "invalid_utf8",
            Self::UnknownKind => "unknown_kind",
            Self::NamespaceTooLong => "namespace_too_long",
            Self::InvalidAckId => "invalid_ack_id",
            Self::IllegalAttachments => "illegal_attachments",
            Self::TooManyAttachments => "too_many_attachments",
            Self::InvalidJson => "invalid_json",
            Self::InvalidMessagePack => "invalid_messagepack",
            Self::UnknownExtension => "unknown_extension",
            Self::TrailingBytes => "trailing_bytes",
            Self::TooDeep => "too_deep",
            Self::InvalidPayload => "invalid_payload",
            Self::InvalidCustom => "invalid_custom",
            Self::ReservedEvent => "reserved_event",
            Self::TooLarge => "too_large",
            Self::UnexpectedText => "unexpected_text",
            Self::UnexpectedBinary => "unexpected_binary",
        }
    }
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::EmptyPacket => "empty packet",
            Self::UnknownPacket => "unknown packet type",
            Self::InvalidLength => "invalid length of a packet",
            Self::InvalidBase64 => "invalid base64",
            Self::InvalidUtf8 => "text is not utf-8",
            Self::UnknownKind => "unknown kind of packet",
            Self::NamespaceTooLong => "namespace name too long",
            Self::InvalidAckId => "invalid acknowledgement id",
            Self::IllegalAttachments => "illegal attachments",
            Self::TooManyAttachments => "too many attachments",
            Self::InvalidJson => "invalid json",
            Self::InvalidMessagePack => "invalid messagepack",
            Self::UnknownExtension => "unknown messagepack extension",
            Self::TrailingBytes => "bytes behind a packet",
            Self::TooDeep => "values nested too deep",
            Self::InvalidPayload => "invalid payload",
            Self::InvalidCustom => "refused by the custom parser",
            Self::ReservedEvent => "reserved event name",
            Self::TooLarge => "packet too large",
            Self::UnexpectedText => "text where binary is due",
            Self::UnexpectedBinary => "binary data without a packet",
        })
    }
}

impl std::error::Error for DecodeError {}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::DecodeError;

    #[test]
    fn names_are_distinct_and_fit_a_label() {
        let names: HashSet<_> = DecodeError::ALL.iter().map(|error| error.name()).collect();
        assert_eq!(names.len(), DecodeError::ALL.len());
        assert!(names.iter().all(|name| {
            name.bytes()
                .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
        }));
    }

    #[test]
    fn an_error_is_one_byte() {
        assert_eq!(size_of::<DecodeError>(), 1);
        assert_eq!(size_of::<Result<(), DecodeError>>(), 1);
    }
}
