//! The channels that a server subscribes to, for adapters whose broker has channels.

use std::{
    borrow::Borrow,
    collections::{HashMap, HashSet},
    hash::Hash,
};

/// The channels to subscribe to with their targets, and the subscribed channels. There are as many
/// as namespaces plus, if rooms have channels, open rooms.
#[derive(Debug)]
pub(crate) struct Channels<Name, Target> {
    targets: HashMap<Name, Target>,
    subscribed: HashSet<Name>,
    /// The channels for which `targets` and `subscribed` may differ.
    changed: HashSet<Name>,
    /// Incremented with every change.
    version: u64,
}

impl<Name, Target> Default for Channels<Name, Target> {
    fn default() -> Self {
        Self {
            targets: HashMap::new(),
            subscribed: HashSet::new(),
            changed: HashSet::new(),
            version: 0,
        }
    }
}

impl<Name: Clone + Eq + Hash, Target: Clone> Channels<Name, Target> {
    /// Adds a channel. A channel that was briefly unwanted is subscribed again, even if `take` was
    /// not called in between, because the caller expects a new confirmation.
    pub(crate) fn add(&mut self, name: Name, target: Target) {
        self.version += 1;
        if !self.changed.insert(name.clone()) {
            self.subscribed.remove(&name);
        }
        self.targets.insert(name, target);
    }

    pub(crate) fn forget(&mut self, name: Name) {
        self.version += 1;
        self.targets.remove(&name);
        self.changed.insert(name);
    }

    /// Resets the subscriptions, because a new connection has none.
    pub(crate) fn reset(&mut self) {
        self.version += 1;
        self.subscribed.clear();
        self.changed = self.targets.keys().cloned().collect();
    }

    /// Returns up to `most` channels to subscribe (`true`) or unsubscribe (`false`). From now on,
    /// unsubscribed channels expect no messages, and are subscribed again if they are wanted again.
    pub(crate) fn take(&mut self, most: usize) -> Vec<(Name, bool)> {
        let names: Vec<_> = self.changed.iter().take(most).cloned().collect();
        let mut changes = Vec::new();
        for name in names {
            // The change counts as done before the request to the broker. A change during the
            // request is added again, and the next call returns it.
            self.changed.remove(&name);
            let is_target = self.targets.contains_key(&name);
            let is_off = !is_target && self.subscribed.remove(&name);
            if is_off || is_target && !self.subscribed.contains(&name) {
                changes.push((name, is_target));
            }
        }
        changes
    }

    /// Records that these changes are confirmed.
    pub(crate) fn note(&mut self, changes: impl IntoIterator<Item = (Name, bool)>) {
        let on = changes.into_iter().filter(|(_, on)| *on);
        self.subscribed.extend(on.map(|(name, _)| name));
    }

    pub(crate) const fn version(&self) -> u64 {
        self.version
    }

    /// Returns the version that is subscribed to once all returned changes are confirmed, or `None`
    /// if there are more changes.
    pub(crate) fn settled(&self) -> Option<u64> {
        self.changed.is_empty().then_some(self.version)
    }

    pub(crate) fn target<Key>(&self, name: &Key) -> Option<Target>
    where
        Name: Borrow<Key>,
        Key: Eq + Hash + ?Sized,
    {
        self.targets.get(name).cloned()
    }

    #[cfg_attr(
        not(any(test, feature = "redis")),
        expect(dead_code, reason = "only Redis reports closed channels")
    )]
    pub(crate) fn is_subscribed(&self, name: &Name) -> bool {
        self.subscribed.contains(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channel_added_again_during_unsubscribe_is_subscribed_again() {
        let mut channels = Channels::default();
        let name = "room";
        channels.add(name, ());
        let on = channels.take(9);
        channels.note(on);
        assert!(channels.is_subscribed(&name));
        channels.forget(name);
        let off = channels.take(9);
        assert_eq!(off, [(name, false)]);
        channels.add(name, ());
        // The confirmation of the earlier subscription has no effect.
        assert!(!channels.is_subscribed(&name));
        channels.note(off);
        let again = channels.take(9);
        assert_eq!(again, [(name, true)]);
        channels.note(again);
        assert!(channels.is_subscribed(&name));
    }

    #[test]
    fn channel_added_again_before_unsubscribe_is_subscribed_again() {
        let mut channels = Channels::default();
        channels.add("room", ());
        let on = channels.take(9);
        channels.note(on);
        channels.forget("room");
        channels.add("room", ());
        assert_eq!(channels.take(9), [("room", true)]);
    }

    #[test]
    fn earlier_changes_settle_although_later_changes_are_pending() {
        let mut channels = Channels::default();
        channels.add("a", ());
        channels.add("b", ());
        assert_eq!(channels.take(1).len(), 1);
        assert_eq!(channels.settled(), None);
        let last = channels.take(1);
        let settled = channels.settled();
        assert_eq!(settled, Some(channels.version()));
        channels.add("c", ());
        channels.note(last);
        assert!(settled < Some(channels.version()));
    }
}
