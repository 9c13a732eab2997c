use super::{Args, Nsp, json::Span};

/// What a packet is for. That it carries attachments is a detail of its encoding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "the protocol has these five")]
pub enum Kind {
    /// `0`: a client enters a namespace, or the server admits it.
    Connect,
    /// `1`: one side leaves a namespace.
    Disconnect,
    /// `2` or `5`: an event with arguments.
    Event,
    /// `3` or `6`: the answer to an event.
    Ack,
    /// `4`: the server does not admit a client to a namespace.
    ConnectError,
}

impl Kind {
    /// The number of the kind in the protocol; `type` of packets in JavaScript.
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

    /// The kind of this number. `5` and `6` are an event and an answer with attachments.
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
    /// What the packet is for.
    pub kind: Kind,
    /// The namespace that the packet belongs to.
    pub nsp: Nsp,
    /// The acknowledgement asked for or given.
    pub id: Option<u64>,
    /// The arguments behind an event's name, the values of an ack, or the payload of a connect
    /// packet.
    pub args: Args,
    pub(super) name: Name,
}

#[derive(Clone, Debug)]
pub(super) enum Name {
    None,
    /// The name stands in the text of the arguments as it is.
    Plain(Span),
    /// The name was written in another way.
    Unescaped(Box<str>),
}

impl Packet {
    /// The name of an event; empty for other kinds.
    ///
    /// An event that was named with an integer has its decimal text as name. The name borrows from
    /// [`args`](Self::args).
    #[must_use]
    pub fn event_name(&self) -> &str {
        match &self.name {
            Name::None => "",
            Name::Plain(span) => std::str::from_utf8(span.of(self.args.text())).unwrap_or_default(),
            Name::Unescaped(name) => name,
        }
    }

    /// The bytes of [`event_name`](Self::event_name), which need no check.
    #[must_use]
    pub fn event_name_bytes(&self) -> &[u8] {
        match &self.name {
            Name::None => b"",
            Name::Plain(span) => span.of(self.args.text()),
            Name::Unescaped(name) => name.as_bytes(),
        }
    }
}

/// Event names that only the library may use; as events from a peer or to a peer they are errors.
pub const RESERVED_EVENTS: [&str; 6] = [
    "connect",
    "connect_error",
    "disconnect",
    "disconnecting",
    "newListener",
    "removeListener",
];
