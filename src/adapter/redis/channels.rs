//! Which channels this server listens on, and what comes on them.

use std::collections::{HashMap, HashSet};

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

/// The channels that are wanted and those that are subscribed to. There are as many as there are
/// namespaces and, where channels are sharded, open rooms.
#[derive(Debug, Default)]
pub(crate) struct Channels {
    wanted: HashMap<Name, Target>,
    subscribed: HashSet<Name>,
    /// Where these two may differ.
    changed: HashSet<Name>,
    /// Grows with every change.
    version: u64,
}

impl Channels {
    pub(crate) fn want(&mut self, name: Name, target: Target) {
        self.version += 1;
        self.changed.insert(name.clone());
        self.wanted.insert(name, target);
    }

    pub(crate) fn forget(&mut self, name: Name) {
        self.version += 1;
        self.wanted.remove(&name);
        self.changed.insert(name);
    }

    /// A new connection is subscribed to nothing.
    pub(crate) fn reset(&mut self) {
        self.version += 1;
        self.subscribed.clear();
        self.changed = self.wanted.keys().cloned().collect();
    }

    /// At most so many channels that are to be subscribed to (`true`) or not any more.
    pub(crate) fn take(&mut self, most: usize) -> Vec<(Name, bool)> {
        let names: Vec<_> = self.changed.iter().take(most).cloned().collect();
        let mut changes = Vec::new();
        for name in names {
            self.changed.remove(&name);
            let wanted = self.wanted.contains_key(&name);
            if wanted != self.subscribed.contains(&name) {
                changes.push((name, wanted));
            }
        }
        changes
    }

    pub(crate) fn note(&mut self, changes: impl IntoIterator<Item = (Name, bool)>) {
        for (name, on) in changes {
            match on {
                true => self.subscribed.insert(name),
                false => self.subscribed.remove(&name),
            };
        }
    }

    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    /// The version that is subscribed to, once nothing is left to do.
    pub(crate) fn settled(&self) -> Option<u64> {
        self.changed.is_empty().then_some(self.version)
    }

    pub(crate) fn target(&self, name: &Name) -> Option<Target> {
        self.wanted.get(name).cloned()
    }

    pub(crate) fn is_subscribed(&self, name: &Name) -> bool {
        self.subscribed.contains(name)
    }
}

/// A text in which nothing is special for a pattern.
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '*' | '?' | '[' | ']' | '\\' | '^') {
            escaped.push('\\');
        }
        escaped.push(c);
    }
    escaped
}
