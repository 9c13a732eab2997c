//! The channels to which this server subscribes, and their content.

use bytes::Bytes;
use roomcast_protocol::socket::Nsp;

/// The purpose of a channel of a namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// Events, and all other messages if channels are sharded.
    Events,
    Requests,
    Responses,
    /// Responses for this server only.
    OwnResponses,
}

impl Scope {
    /// Returns the name of the channel, or its prefix.
    pub(crate) fn channel(self, key: &str, nsp: &Nsp) -> String {
        let suffix = match self {
            Self::Events => "",
            Self::Requests => "-request",
            Self::Responses | Self::OwnResponses => "-response",
        };
        // Every event needs a name, and `format!` takes several times as long.
        [key, suffix, "#", nsp.as_str(), "#"].concat()
    }
}

/// Returns the name of the channel for events of one room.
pub(crate) fn room_channel(key: &str, nsp: &Nsp, room: &str) -> String {
    [key, "#", nsp.as_str(), "#", room, "#"].concat()
}

/// The namespace and purpose of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) namespace: Nsp,
    pub(crate) scope: Scope,
}

/// The content of a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Messages of a namespace.
    Namespace(Route),
    /// Envelopes for this server.
    Envelopes,
}

/// The type of a subscription.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum ChannelKind {
    Plain,
    Pattern,
    Sharded,
}

impl ChannelKind {
    pub(crate) const fn command(self, on: bool) -> &'static str {
        match (self, on) {
            (Self::Plain, true) => "SUBSCRIBE",
            (Self::Plain, false) => "UNSUBSCRIBE",
            (Self::Pattern, true) => "PSUBSCRIBE",
            (Self::Pattern, false) => "PUNSUBSCRIBE",
            (Self::Sharded, true) => "SSUBSCRIBE",
            (Self::Sharded, false) => "SUNSUBSCRIBE",
        }
    }
}

/// A channel or a pattern.
pub(crate) type Name = (ChannelKind, Bytes);

/// Escapes the special characters of patterns in a text.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        // Namespaces may contain any characters, and Redis would interpret these as a pattern.
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
