//! What members were told who are not in the conversation, so that nothing comes twice: a change of a conversation
//! reaches a server through the conversation's own order and through the feed.

use std::collections::{HashSet, VecDeque};

use parking_lot::Mutex;
use uuid::Uuid;

/// The latest changes, by conversation and number; 0 is that there is one more conversation.
#[derive(Debug, Default)]
pub(in crate::service) struct Told(Mutex<Latest>);

#[derive(Debug, Default)]
struct Latest {
    changes: HashSet<(Uuid, u64)>,
    order: VecDeque<(Uuid, u64)>,
}

impl Told {
    /// Takes note of a change that is told now; `false`: it was told before.
    pub(in crate::service) fn insert(&self, conversation: Uuid, number: u64) -> bool {
        let mut latest = self.0.lock();
        if !latest.changes.insert((conversation, number)) {
            return false;
        }
        latest.order.push_back((conversation, number));
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
    use super::*;

    #[test]
    fn a_change_is_told_once_and_what_is_kept_has_an_end() {
        let told = Told::default();
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
