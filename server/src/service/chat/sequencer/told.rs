//! What members were told who are not in the conversation, so that nothing comes twice: a change of a conversation
//! reaches a server through the conversation's own order and through the feed.

use std::collections::{HashMap, HashSet, VecDeque};

use parking_lot::Mutex;
use uuid::Uuid;

use crate::store::Conversation;

/// The latest changes, by conversation and number; 0 is that there is one more conversation.
#[derive(Debug, Default)]
pub(in crate::service) struct ToldChanges(Mutex<Latest>);

#[derive(Debug, Default)]
struct Latest {
    changes: HashSet<(Uuid, u64)>,
    order: VecDeque<(Uuid, u64)>,
    /// The conversations that are being made here, and what the feed has of them already: who makes one tells its
    /// members of it, or has the feed do so if it does not get to know whether it is made.
    making: HashMap<Uuid, Option<Conversation>>,
}

impl Latest {
    /// Notes that a conversation is told of, which is no longer being made. Both happen under one lock: in between the
    /// feed would find neither, and have its members told a second time.
    fn finish(&mut self, id: Uuid) {
        self.making.remove(&id);
        self.insert(id, 0);
    }

    /// See [`ToldChanges::insert`].
    fn insert(&mut self, conversation: Uuid, number: u64) -> bool {
        if !self.changes.insert((conversation, number)) {
            return false;
        }
        self.order.push_back((conversation, number));
        // The oldest are forgotten: the feed is never so far behind that it brings them again.
        if self.order.len() > MAX_TOLD
            && let Some(oldest) = self.order.pop_front()
        {
            self.changes.remove(&oldest);
        }
        true
    }
}

/// A conversation that is being made here. Dropped without having been [made](Self::made) it is in doubt.
pub(in crate::service) struct Making<'a, F: FnOnce(&Conversation)> {
    told: &'a ToldChanges,
    id: Uuid,
    tell: Option<F>,
}

impl<F: FnOnce(&Conversation)> Making<'_, F> {
    /// The conversation is made, and its members are to be told.
    pub(in crate::service) fn made(mut self, conversation: &Conversation) {
        self.told.0.lock().finish(self.id);
        if let Some(tell) = self.tell.take() {
            tell(conversation);
        }
    }
}

impl<F: FnOnce(&Conversation)> Drop for Making<'_, F> {
    fn drop(&mut self) {
        // The conversation was made and told of.
        let Some(tell) = self.tell.take() else {
            return;
        };
        let mut latest = self.told.0.lock();
        // What the feed has not brought yet, it brings later if the conversation is made.
        let read = latest.making.get_mut(&self.id).and_then(Option::take);
        if read.is_some() {
            latest.finish(self.id);
        } else {
            latest.making.remove(&self.id);
        }
        drop(latest);
        if let Some(conversation) = read {
            tell(&conversation);
        }
    }
}

impl ToldChanges {
    /// A conversation is about to be made here; `tell` tells its members of it.
    pub(in crate::service) fn making<F: FnOnce(&Conversation)>(
        &self,
        id: Uuid,
        tell: F,
    ) -> Making<'_, F> {
        self.0.lock().making.insert(id, None);
        let tell = Some(tell);
        Making {
            told: self,
            id,
            tell,
        }
    }

    /// The feed has that there is one more conversation. Returns `true` if its members are to be told
    /// of it now.
    pub(in crate::service) fn read(&self, conversation: &Conversation) -> bool {
        let mut latest = self.0.lock();
        // Whoever makes the conversation is about to tell of it, and knows which socket not to
        // tell.
        if let Some(read) = latest.making.get_mut(&conversation.id) {
            *read = Some(conversation.clone());
            return false;
        }
        latest.insert(conversation.id, 0)
    }

    /// Takes note of a change that is told now. Returns `false` if the change was told before.
    pub(in crate::service) fn insert(&self, conversation: Uuid, number: u64) -> bool {
        self.0.lock().insert(conversation, number)
    }

    pub(in crate::service) fn has(&self, conversation: Uuid, number: u64) -> bool {
        self.0.lock().changes.contains(&(conversation, number))
    }
}

/// Far more than a server is behind the feed.
const MAX_TOLD: usize = 65_536;

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
    fn a_conversation_is_told_of_once_whether_its_making_is_in_doubt_or_not() {
        let made = conversation();
        for (is_read, is_known) in [(false, false), (false, true), (true, false), (true, true)] {
            let (told, count) = (ToldChanges::default(), Cell::new(0));
            let making = told.making(made.id, |_| count.set(count.get() + 1));
            if is_read {
                assert!(!told.read(&made), "who makes it tells of it");
            }
            match is_known {
                true => making.made(&made),
                false => drop(making),
            }
            // A conversation in doubt comes by the feed, if it is made.
            let by_feed = u32::from(told.read(&made));
            assert_eq!(count.get() + by_feed, 1, "{is_read} {is_known}");
        }
    }

    #[test]
    fn a_conversation_is_told_of_once_when_it_comes_by_the_feed_while_it_is_made() {
        const ROUNDS: usize = 20_000;
        let made = conversation();
        let (told, count) = (ToldChanges::default(), AtomicUsize::new(0));
        let ids: Vec<_> = (0..ROUNDS as u128).map(Uuid::from_u128).collect();
        let tell = |_: &Conversation| {
            count.fetch_add(1, Ordering::Relaxed);
        };
        // Both threads begin a round together, by spinning: what they do takes less time than waking.
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
                    let making = told.making(id, tell);
                    meet(round);
                    match round % 2 {
                        0 => making.made(&made),
                        // It is in doubt whether it was made, and the feed brings it.
                        _ => drop(making),
                    }
                }
            });
            for (round, &id) in ids.iter().enumerate() {
                let read = Conversation { id, ..made.clone() };
                meet(round);
                if told.read(&read) {
                    tell(&read);
                }
            }
        });
        assert_eq!(count.into_inner(), ROUNDS);
    }

    #[test]
    fn a_change_is_told_once_and_what_is_kept_has_an_end() {
        let told = ToldChanges::default();
        let id = Uuid::from_u128(1);
        assert!(told.insert(id, 1) && !told.insert(id, 1) && told.has(id, 1));
        for number in 2..=MAX_TOLD as u64 + 1 {
            assert!(told.insert(id, number));
        }
        assert!(!told.has(id, 1) && told.has(id, 2));
        let latest = told.0.lock();
        assert_eq!(
            (latest.changes.len(), latest.order.len()),
            (MAX_TOLD, MAX_TOLD)
        );
    }
}
