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

/// A conversation that is being made here. Dropped without having been [made](Self::made) it is in doubt.
pub(in crate::service) struct Making<'a, F: FnOnce(&Conversation)> {
    told: &'a ToldChanges,
    id: Uuid,
    tell: Option<F>,
}

impl<F: FnOnce(&Conversation)> Making<'_, F> {
    /// The conversation is made, and its members are to be told.
    pub(in crate::service) fn made(mut self, conversation: &Conversation) {
        self.told.0.lock().making.remove(&self.id);
        self.told.insert(self.id, 0);
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
        let read = self.told.0.lock().making.remove(&self.id).flatten();
        if let Some(conversation) = read
            && self.told.insert(self.id, 0)
        {
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
        // Whoever makes the conversation is about to tell of it, and knows which socket not to
        // tell.
        if let Some(read) = self.0.lock().making.get_mut(&conversation.id) {
            *read = Some(conversation.clone());
            return false;
        }
        self.insert(conversation.id, 0)
    }

    /// Takes note of a change that is told now. Returns `false` if the change was told before.
    pub(in crate::service) fn insert(&self, conversation: Uuid, number: u64) -> bool {
        let mut latest = self.0.lock();
        if !latest.changes.insert((conversation, number)) {
            return false;
        }
        latest.order.push_back((conversation, number));
        // The oldest are forgotten: the feed is never so far behind that it brings them again.
        if latest.order.len() > MAX_TOLD
            && let Some(oldest) = latest.order.pop_front()
        {
            latest.changes.remove(&oldest);
        }
        true
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
