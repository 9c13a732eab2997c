//! Which channels this server listens on, and what comes on them.

use bytes::Bytes;
use roomcast_protocol::socket::Nsp;

/// What a channel of a namespace is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// Events, and where channels are sharded everything else.
    Events,
    Requests,
    Responses,
    /// Responses for this server alone.
    OwnResponses,
}

impl Scope {
    /// The channel, or what its name begins with.
    pub(crate) fn channel(self, key: &str, nsp: &Nsp) -> String {
        let suffix = match self {
            Self::Events => "",
            Self::Requests => "-request",
            Self::Responses | Self::OwnResponses => "-response",
        };
        format!("{key}{suffix}#{nsp}#", nsp = nsp.as_str())
    }
}

/// What comes on a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Route {
    pub(crate) namespace: Nsp,
    pub(crate) scope: Scope,
}

/// What a channel brings.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Target {
    /// Messages of a namespace.
    Namespace(Route),
    /// Envelopes for this server.
    Envelopes,
}

/// How a channel is subscribed to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum How {
    Plain,
    Pattern,
    Sharded,
}

impl How {
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
pub(crate) type Name = (How, Bytes);

/// A text in which nothing is special for a pattern.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        // Namespaces may have any characters, and Redis would take these for a pattern.
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
