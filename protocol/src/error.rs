/// Defines the errors of a peer: each variant with its label in metrics and its text. Further
/// methods follow that of the label.
macro_rules! errors {
    (
        $(#[$attribute:meta])*
        pub enum $error:ident {
            $($(#[$doc:meta])* $variant:ident => $label:literal, $text:literal;)+
        }
        $(#[$name_doc:meta])*
        pub $($name:ident)+ (self);
        $($methods:tt)*
    ) => {
        $(#[$attribute])*
        pub enum $error {
            $($(#[$doc])* $variant,)+
        }

        impl $error {
            /// Every variant, for metrics that start at zero.
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            $(#[$name_doc])*
            #[must_use]
            pub $($name)+ (self) -> &'static str {
                match self {
                    $(Self::$variant => $label,)+
                }
            }

            $($methods)*
        }

        impl std::fmt::Display for $error {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(match self {
                    $(Self::$variant => $text,)+
                })
            }
        }

        impl std::error::Error for $error {}
    };
}
pub(crate) use errors;

errors! {
    /// The error in bytes that a peer sent.
    ///
    /// Every variant is a violation by the peer: the connection is closed, and metrics count the
    /// error under [`name`](Self::name). The value contains no input, so it is [`Copy`] and safe to
    /// log.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
    #[non_exhaustive]
    pub enum DecodeError {
        /// An Engine.IO packet without a type byte.
        EmptyPacket => "empty_packet", "empty packet";
        /// An Engine.IO type that does not exist on this transport.
        UnknownPacket => "unknown_packet", "unknown packet type";
        /// A length in an Engine.IO v3 payload that is not a number, or does not match its packet.
        InvalidLength => "invalid_length", "invalid length of a packet";
        /// A binary message in a polling payload with invalid base64.
        InvalidBase64 => "invalid_base64", "invalid base64";
        /// Text that is not UTF-8.
        InvalidUtf8 => "invalid_utf8", "text is not utf-8";
        /// A Socket.IO type that does not exist.
        UnknownKind => "unknown_kind", "unknown kind of packet";
        /// A namespace name longer than [`max_nsp`](crate::socket::Limits::max_nsp).
        NamespaceTooLong => "namespace_too_long", "namespace name too long";
        /// An acknowledgement id that does not fit 64 bits.
        InvalidAckId => "invalid_ack_id", "invalid acknowledgement id";
        /// An attachment count that is not a number, or placeholders that do not match the
        /// attachments.
        IllegalAttachments => "illegal_attachments", "illegal attachments";
        /// More attachments announced than
        /// [`max_attachments`](crate::socket::Limits::max_attachments).
        TooManyAttachments => "too_many_attachments", "too many attachments";
        /// A payload that is not JSON.
        InvalidJson => "invalid_json", "invalid json";
        /// A message that is not MessagePack, or ends too early.
        InvalidMessagePack => "invalid_messagepack", "invalid messagepack";
        /// A MessagePack extension that the official parser does not write.
        UnknownExtension => "unknown_extension", "unknown messagepack extension";
        /// More bytes after a MessagePack packet.
        TrailingBytes => "trailing_bytes", "bytes behind a packet";
        /// Values nested deeper than [`max_depth`](crate::socket::Limits::max_depth).
        TooDeep => "too_deep", "values nested too deep";
        /// A payload, or a whole MessagePack packet, of the wrong shape.
        InvalidPayload => "invalid_payload", "invalid payload";
        /// A message that the [custom parser](crate::socket::CustomParser) refuses.
        InvalidCustom => "invalid_custom", "refused by the custom parser";
        /// An event name that only the library itself may use.
        ReservedEvent => "reserved_event", "reserved event name";
        /// A `CONNECT` payload larger than
        /// [`max_connect_payload`](crate::socket::Limits::max_connect_payload), or a packet whose
        /// attachments exceed [`max_bytes`](crate::socket::Limits::max_bytes).
        TooLarge => "too_large", "packet too large";
        /// Text where an attachment or a MessagePack packet was expected.
        UnexpectedText => "unexpected_text", "text where binary is due";
        /// Binary data that no packet announced.
        UnexpectedBinary => "unexpected_binary", "binary data without a packet";
    }
    /// Returns the label of this error in metrics.
    pub const fn name(self);
}

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
