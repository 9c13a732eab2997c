//! The subscriptions of a link to a broker that has channels.

use std::{borrow::Borrow, hash::Hash};

use parking_lot::Mutex;
use tokio::sync::{Notify, watch};

use super::channels::Channels;

/// The channels that a server subscribes to, and who waits for changes of them.
#[derive(Debug)]
pub(in crate::adapter) struct Subscriptions<Name, Target> {
    channels: Mutex<Channels<Name, Target>>,
    changed: Notify,
    /// The version of the channels up to which all are subscribed.
    settled: watch::Sender<u64>,
}

/// Changes that a link requests from its broker.
#[derive(Debug)]
pub(in crate::adapter) struct Batch<Name> {
    /// The channels to subscribe (`true`) or unsubscribe (`false`).
    pub(in crate::adapter) changes: Vec<(Name, bool)>,
    /// The version that is subscribed to after this batch, if it is the last one.
    settles: Option<u64>,
}

impl<Name: Clone + Eq + Hash, Target: Clone> Subscriptions<Name, Target> {
    pub(in crate::adapter) fn new() -> Self {
        Self {
            channels: Mutex::default(),
            changed: Notify::new(),
            settled: watch::Sender::new(0),
        }
    }

    /// Subscribes to a channel (`Some`), or unsubscribes from it.
    pub(in crate::adapter) fn listen(&self, name: Name, target: Option<Target>) {
        let mut channels = self.channels.lock();
        match target {
            Some(target) => channels.add(name, target),
            None => channels.forget(name),
        }
        drop(channels);
        // The change is in the table before the task is woken, so that the task finds it.
        self.changed.notify_one();
    }

    /// Waits for a change. A change before the call also counts.
    pub(in crate::adapter) async fn changed(&self) {
        self.changed.notified().await;
    }

    /// Waits until all channels that are wanted now are subscribed.
    pub(in crate::adapter) async fn followed(&self) {
        let target_version = self.channels.lock().version();
        let mut settled = self.settled.subscribe();
        // The sender is a field of this value, so waiting cannot fail.
        let _ = settled.wait_for(|version| *version >= target_version).await;
    }

    /// Resets the subscriptions, because a new connection has none.
    pub(in crate::adapter) fn reset(&self) {
        self.channels.lock().reset();
    }

    /// Returns the next changes, which may be none.
    pub(in crate::adapter) fn next(&self) -> Batch<Name> {
        let mut channels = self.channels.lock();
        Batch {
            changes: channels.take(BATCH),
            settles: channels.settled(),
        }
    }

    /// Records that the broker has confirmed the changes of a batch. Passes the new subscriptions
    /// to `listening` before callers of [`followed`](Self::followed) continue. Returns whether the
    /// batch was the last one.
    pub(in crate::adapter) fn confirm(
        &self,
        batch: Batch<Name>,
        listening: impl FnOnce(Vec<Target>),
    ) -> bool {
        let mut channels = self.channels.lock();
        let on = batch.changes.iter().filter(|(_, on)| *on);
        let targets = on.filter_map(|(name, _)| channels.target(name)).collect();
        channels.note(batch.changes);
        // The lock is released, because the listener may change channels.
        drop(channels);
        listening(targets);
        let Some(version) = batch.settles else {
            return false;
        };
        self.settled.send_replace(version);
        true
    }

    pub(in crate::adapter) fn target<Key>(&self, name: &Key) -> Option<Target>
    where
        Name: Borrow<Key>,
        Key: Eq + Hash + ?Sized,
    {
        self.channels.lock().target(name)
    }

    #[cfg(feature = "redis")]
    pub(in crate::adapter) fn is_subscribed(&self, name: &Name) -> bool {
        self.channels.lock().is_subscribed(name)
    }
}

/// The maximum number of channels per batch.
const BATCH: usize = 256;
