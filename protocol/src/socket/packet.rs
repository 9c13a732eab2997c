use super::{Args, Nsp, json::Span};

/// The type of a packet. Whether it carries attachments is a detail of its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has these five")]
pub enum Kind {
    /// `0`: a client requests to join a namespace, or the server accepts it.
    Connect,
    /// `1`: one side leaves a namespace.
    Disconnect,
    /// `2` or `5`: an event with arguments.
    Event,
    /// `3` or `6`: the acknowledgement of an event.
    Ack,
    /// `4`: the server refuses a client's request to join a namespace.
    ConnectError,
}

impl Kind {
    /// Returns the number of the kind in the protocol; `type` of packets in JavaScript.
    #[must_use]
    pub const fn code(self) -> u8 {
        match self {
            Self::Connect => 0,
            Self::Disconnect => 1,
            Self::Event => 2,
            Self::Ack => 3,
            Self::ConnectError => 4,
        }
    }

    /// Returns the kind of this number. `5` and `6` are an event and an acknowledgement with
    /// attachments.
    #[must_use]
    pub const fn from_code(code: u8) -> Option<Self> {
        Some(match code {
            0 => Self::Connect,
            1 => Self::Disconnect,
            2 | 5 => Self::Event,
            3 | 6 => Self::Ack,
            4 => Self::ConnectError,
            _ => return None,
        })
    }
}

/// One Socket.IO packet, complete with its attachments.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Packet {
    /// The type of the packet.
    pub kind: Kind,
    /// The namespace that the packet belongs to.
    pub nsp: Nsp,
    /// The id of the requested acknowledgement, or of the event that is acknowledged.
    pub id: Option<u64>,
    /// The arguments after an event's name, the values of an acknowledgement, or the payload of a
    /// connect packet.
    pub args: Args,
    pub(super) name: Name,
}

#[derive(Clone, Debug)]
pub(super) enum Name {
    None,
    /// The name is a span of the argument text.
    Plain(Span),
    /// The converted name: it contained escapes, or was a MessagePack integer.
    Unescaped(Box<str>),
}

impl Packet {
    /// Returns the name of an event, or an empty text for other kinds.
    ///
    /// If an event was named with an integer, its name is the decimal text. The name borrows from
    /// [`args`](Self::args).
    #[must_use]
    pub fn event_name(&self) -> &str {
        match &self.name {
            Name::None => "",
            Name::Plain(span) => std::str::from_utf8(span.of(self.args.text())).unwrap_or_default(),
            Name::Unescaped(name) => name,
        }
    }

    /// Returns the bytes of [`event_name`](Self::event_name), without a UTF-8 check.
    #[must_use]
    pub fn event_name_bytes(&self) -> &[u8] {
        match &self.name {
            Name::None => b"",
            Name::Plain(span) => span.of(self.args.text()),
            Name::Unescaped(name) => name.as_bytes(),
        }
    }
}

/// Event names that only the library may use. Events with these names are errors in both
/// directions.
pub const RESERVED_EVENTS: [&str; 6] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];
