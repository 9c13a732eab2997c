//! Records the changes emitted to members who have not joined, so that no change is emitted twice.
//!
//! A change reaches a server through the conversation's own order and through the feed.

use std::collections::{HashMap, HashSet, VecDeque};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::metrics::Size;
use crate::store::Conversation;

/// The latest changes by conversation and number. The number 0 is the creation of the conversation.
#[derive(Debug, Default)]
pub(in crate::service) struct AnnouncedChanges(Mutex<Latest>);

#[derive(Debug, Default)]
struct Latest {
    changes: HashSet<(Uuid, u64)>,
    order: VecDeque<(Uuid, u64)>,
    /// The conversations being created here, each with the row if the feed has returned it already.
    ///
    /// The creating request notifies the members. If the outcome of the creation stays unknown, the
    /// feed does.
    pending: HashMap<Uuid, Option<Conversation>>,
}

impl Latest {
    /// Records that a conversation was announced to its members and is no longer being created.
    ///
    /// Both happen under one lock. In between, the feed would find neither and notify the members
    /// again.
    fn finish(&mut self, id: Uuid) {
        self.pending.remove(&id);
        self.insert(id, 0);
    }

    /// See [`AnnouncedChanges::insert`].
    fn insert(&mut self, conversation: Uuid, number: u64) -> bool {
        if !self.changes.insert((conversation, number)) {
            return false;
        }
        self.order.push_back((conversation, number));
        // The oldest entries are evicted. The feed never lags so far that it returns them again.
        if self.order.len() > MAX_CHANGES
            && let Some(oldest) = self.order.pop_front()
        {
            self.changes.remove(&oldest);
        }
        true
    }
}

/// A conversation that is being created here. If dropped before [`complete`](Self::complete), its
/// creation is in doubt.
pub(in crate::service) struct PendingCreation<'a, F: FnOnce(&Conversation)> {
    announced: &'a AnnouncedChanges,
    id: Uuid,
    notify: Option<F>,
}

impl<F: FnOnce(&Conversation)> PendingCreation<'_, F> {
    /// Records that the conversation is created, and notifies its members.
    pub(in crate::service) fn complete(mut self, conversation: &Conversation) {
        self.announced.0.lock().finish(self.id);
        if let Some(notify) = self.notify.take() {
            notify(conversation);
        }
    }
}

impl<F: FnOnce(&Conversation)> Drop for PendingCreation<'_, F> {
    fn drop(&mut self) {
        // The conversation was created and announced.
        let Some(notify) = self.notify.take() else {
            return;
        };
        let mut latest = self.announced.0.lock();
        // If the feed has not returned the conversation yet, it does so later if the creation has
        // succeeded.
        let read = latest.pending.get_mut(&self.id).and_then(Option::take);
        if read.is_some() {
            latest.finish(self.id);
        } else {
            latest.pending.remove(&self.id);
        }
        drop(latest);
        if let Some(conversation) = read {
            notify(&conversation);
        }
    }
}

impl AnnouncedChanges {
    /// Returns the number of announced changes and of conversations being created, and their bytes.
    pub(in crate::service::chat::sequencer) fn sizes(&self) -> [Size; 2] {
        let latest = self.0.lock();
        let order = Size::of::<(Uuid, u64)>(latest.order.len(), latest.order.capacity());
        let changes = latest.changes.capacity();
        let index = Size::of::<(Uuid, u64)>(changes, changes);
        [order.with_index(index), Size::of_map(&latest.pending)]
    }

    /// Starts the creation of a conversation. `notify` notifies its members.
    pub(in crate::service) fn begin_creation<F: FnOnce(&Conversation)>(
        &self,
        id: Uuid,
        notify: F,
    ) -> PendingCreation<'_, F> {
        self.0.lock().pending.insert(id, None);
        let notify = Some(notify);
        PendingCreation {
            announced: self,
            id,
            notify,
        }
    }

    /// Records that the feed contains a new conversation. Returns whether its members must be
    /// notified now.
    pub(in crate::service) fn read(&self, conversation: &Conversation) -> bool {
        let mut latest = self.0.lock();
        // The creating request is about to notify the members, and knows which socket to exclude.
        if let Some(read) = latest.pending.get_mut(&conversation.id) {
            *read = Some(conversation.clone());
            return false;
        }
        latest.insert(conversation.id, 0)
    }

    /// Records a change that is emitted now. Returns `false` if it was emitted before.
    pub(in crate::service) fn insert(&self, conversation: Uuid, number: u64) -> bool {
        self.0.lock().insert(conversation, number)
    }

    pub(in crate::service) fn has(&self, conversation: Uuid, number: u64) -> bool {
        self.0.lock().changes.contains(&(conversation, number))
    }
}

/// Far more changes than a server lags behind the feed.
const MAX_CHANGES: usize = 65_536;

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::store::Time;

    fn conversation() -> Conversation {
        Conversation {
            id: Uuid::from_u128(1),
            title: None,
            owner_id: Some("ann".into()),
            member_ids: vec!["ann".into()],
            created_at: Time::now(),
            updated_at: Time::now(),
        }
    }

    #[test]
    fn creation_is_announced_once_even_if_in_doubt() {
        let made = conversation();
        for (is_read, is_known) in [(false, false), (false, true), (true, false), (true, true)] {
            let (announced, count) = (AnnouncedChanges::default(), Cell::new(0));
            let pending = announced.begin_creation(made.id, |_| count.set(count.get() + 1));
            if is_read {
                assert!(!announced.read(&made), "the creating request notifies");
            }
            match is_known {
                true => pending.complete(&made),
                false => drop(pending),
            }
            // If a conversation in doubt was created, the feed returns it.
            let by_feed = u32::from(announced.read(&made));
            assert_eq!(count.get() + by_feed, 1, "{is_read} {is_known}");
        }
    }

    #[test]
    fn creation_is_announced_once_if_the_feed_returns_it_meantime() {
        const ROUNDS: usize = 20_000;
        let made = conversation();
        let (announced, count) = (AnnouncedChanges::default(), AtomicUsize::new(0));
        let ids: Vec<_> = (0..ROUNDS as u128).map(Uuid::from_u128).collect();
        let notify = |_: &Conversation| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        // Both threads start a round together by spinning, since their work takes less time than a
        // wake-up.
        let arrived = AtomicUsize::new(0);
        let meet = |round: usize| {
            arrived.fetch_add(1, Ordering::AcqRel);
            while arrived.load(Ordering::Acquire) < 2 * (round + 1) {
                std::thread::yield_now();
            }
        };
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for (round, &id) in ids.iter().enumerate() {
                    let pending = announced.begin_creation(id, notify);
                    meet(round);
                    match round % 2 {
                        0 => pending.complete(&made),
                        // The creation is in doubt, and the feed returns the conversation.
                        _ => drop(pending),
                    }
                }
            });
            for (round, &id) in ids.iter().enumerate() {
                let read = Conversation { id, ..made.clone() };
                meet(round);
                if announced.read(&read) {
                    notify(&read);
                }
            }
        });
        assert_eq!(count.into_inner(), ROUNDS);
    }

    #[test]
    fn change_is_announced_once_and_the_record_is_bounded() {
        let announced = AnnouncedChanges::default();
        let id = Uuid::from_u128(1);
        assert!(announced.insert(id, 1) && !announced.insert(id, 1) && announced.has(id, 1));
        for number in 2..=MAX_CHANGES as u64 + 1 {
            assert!(announced.insert(id, number));
        }
        assert!(!announced.has(id, 1) && announced.has(id, 2));
        let latest = announced.0.lock();
        assert_eq!(
            (latest.changes.len(), latest.order.len()),
            (MAX_CHANGES, MAX_CHANGES)
        );
    }
}
