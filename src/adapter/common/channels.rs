//! The channels that a server listens on, for adapters whose broker has channels.

use std::{
    borrow::Borrow,
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// The channels that are wanted, with what comes on them, and those that are subscribed to. There are as
/// many as there are namespaces and, where rooms have channels, open rooms.
#[derive(Debug)]
pub(crate) struct Channels<Name, Target> {
    wanted: HashMap<Name, Target>,
    subscribed: HashSet<Name>,
    /// The channels in which what is wanted and what is subscribed to may differ.
    changed: HashSet<Name>,
    /// Grows with every change.
    version: u64,
}

impl<Name, Target> Default for Channels<Name, Target> {
    fn default() -> Self {
        Self {
            wanted: HashMap::new(),
            subscribed: HashSet::new(),
            changed: HashSet::new(),
            version: 0,
        }
    }
}

impl<Name: Clone + Eq + Hash, Target: Clone> Channels<Name, Target> {
    /// A channel that was not wanted for a moment is subscribed to anew, even if nobody has seen that moment: whoever
    /// wants the channel has something to say on it.
    pub(crate) fn want(&mut self, name: Name, target: Target) {
        self.version += 1;
        if !self.changed.insert(name.clone()) {
            self.subscribed.remove(&name);
        }
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

    /// At most so many channels that are to be subscribed to (`true`) or not any more. Of the latter nothing is
    /// expected from now on, and one that is wanted again is asked for again.
    pub(crate) fn take(&mut self, most: usize) -> Vec<(Name, bool)> {
        let names: Vec<_> = self.changed.iter().take(most).cloned().collect();
        let mut changes = Vec::new();
        for name in names {
            // The change counts as done before the broker is asked: what changes while it is asked is put in again, and
            // found by the next call.
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

    pub(crate) fn target<Key>(&self, name: &Key) -> Option<Target>
    where
        Name: Borrow<Key>,
        Key: Eq + Hash + ?Sized,
    {
        self.wanted.get(name).cloned()
    }

    #[cfg_attr(
        not(any(test, feature = "redis")),
        expect(dead_code, reason = "only Redis says that a channel is off")
    )]
    pub(crate) fn is_subscribed(&self, name: &Name) -> bool {
        self.subscribed.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_channel_that_is_wanted_again_while_it_is_turned_off_is_turned_on_anew() {
        let mut channels = Channels::default();
        let name = "room";
        channels.want(name, ());
        let on = channels.take(9);
        channels.note(on);
        assert!(channels.is_subscribed(&name));
        channels.forget(name);
        let off = channels.take(9);
        assert_eq!(off, [(name, false)]);
        channels.want(name, ());
        // The confirmation that belongs to the former subscription changes nothing.
        assert!(!channels.is_subscribed(&name));
        channels.note(off);
        let again = channels.take(9);
        assert_eq!(again, [(name, true)]);
        channels.note(again);
        assert!(channels.is_subscribed(&name));
    }

    #[test]
    fn a_channel_that_is_wanted_again_before_its_end_is_noticed_is_turned_on_anew() {
        let mut channels = Channels::default();
        channels.want("room", ());
        let on = channels.take(9);
        channels.note(on);
        channels.forget("room");
        channels.want("room", ());
        assert_eq!(channels.take(9), [("room", true)]);
    }

    #[test]
    fn what_was_wanted_before_is_settled_although_more_is_wanted_meanwhile() {
        let mut channels = Channels::default();
        channels.want("a", ());
        channels.want("b", ());
        assert_eq!(channels.take(1).len(), 1);
        assert_eq!(channels.settled(), None);
        let last = channels.take(1);
        let settled = channels.settled();
        assert_eq!(settled, Some(channels.version()));
        channels.want("c", ());
        channels.note(last);
        assert!(settled < Some(channels.version()));
    }
}
