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

    /// At most so many channels that are to be subscribed to (`true`) or not any more. The latter count as
    /// not subscribed from now on: nothing is expected of them, and who wants one again asks again.
    pub(crate) fn take(&mut self, most: usize) -> Vec<(Name, bool)> {
        let names: Vec<_> = self.changed.iter().take(most).cloned().collect();
        let mut changes = Vec::new();
        for name in names {
            self.changed.remove(&name);
            let wanted = self.wanted.contains_key(&name);
            let is_off = !wanted && self.subscribed.remove(&name);
            if is_off || wanted && !self.subscribed.contains(&name) {
                changes.push((name, wanted));
            }
        }
        changes
    }

    /// What was taken is done.
    pub(crate) fn note(&mut self, changes: impl IntoIterator<Item = (Name, bool)>) {
        let on = changes.into_iter().filter(|(_, on)| *on);
        self.subscribed.extend(on.map(|(name, _)| name));
    }

    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    /// The version that is subscribed to once all that was taken is done; none if there is more to take.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_that_is_wanted_again_while_it_is_turned_off_is_turned_on_anew() {
        let mut channels = Channels::default();
        let name: Name = (How::Sharded, Bytes::from_static(b"room"));
        channels.want(name.clone(), Target::Envelopes);
        let on = channels.take(9);
        channels.note(on);
        assert!(channels.is_subscribed(&name));
        channels.forget(name.clone());
        let off = channels.take(9);
        assert_eq!(off, [(name.clone(), false)]);
        channels.want(name.clone(), Target::Envelopes);
        // That Redis confirms the end of the former subscription is no surprise.
        assert!(!channels.is_subscribed(&name));
        channels.note(off);
        let again = channels.take(9);
        assert_eq!(again, [(name.clone(), true)]);
        channels.note(again);
        assert!(channels.is_subscribed(&name));
    }

    #[test]
    fn what_was_wanted_before_is_settled_although_more_is_wanted_meanwhile() {
        let mut channels = Channels::default();
        let name = |room: &'static [u8]| (How::Sharded, Bytes::from_static(room));
        channels.want(name(b"a"), Target::Envelopes);
        channels.want(name(b"b"), Target::Envelopes);
        assert_eq!(channels.take(1).len(), 1);
        assert_eq!(channels.settled(), None);
        let last = channels.take(1);
        let settled = channels.settled();
        assert_eq!(settled, Some(channels.version()));
        channels.want(name(b"c"), Target::Envelopes);
        channels.note(last);
        assert!(settled < Some(channels.version()));
    }
}
