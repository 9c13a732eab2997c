use std::collections::{BTreeMap, BTreeSet};

use roomcast_protocol::socket::Args;
use tokio::{sync::oneshot, time::Instant};

use crate::client::ClientError;

/// The pending acknowledgements of a namespace. Ids start at 0, like those of the official client.
#[derive(Default)]
pub(super) struct Acks {
    next: u64,
    waiting: BTreeMap<u64, (Instant, Waiter)>,
    deadlines: BTreeSet<(Instant, u64)>,
}

/// The receiver of an acknowledgement.
pub(super) enum Waiter {
    Caller(oneshot::Sender<Result<Args, ClientError>>),
    /// The event with this number in the retry queue.
    Queue(u64),
}

impl Acks {
    /// Registers a waiter. Returns the id of its acknowledgement.
    pub(super) fn add(&mut self, waiter: Waiter, deadline: Instant) -> u64 {
        let id = self.next;
        self.next += 1;
        self.waiting.insert(id, (deadline, waiter));
        self.deadlines.insert((deadline, id));
        id
    }

    pub(super) fn take(&mut self, id: u64) -> Option<Waiter> {
        let (deadline, waiter) = self.waiting.remove(&id)?;
        self.deadlines.remove(&(deadline, id));
        Some(waiter)
    }

    /// Removes and returns a waiter whose deadline has passed at `now`, with its id.
    pub(super) fn take_expired(&mut self, now: Instant) -> Option<(u64, Waiter)> {
        let &(deadline, id) = self.deadlines.first()?;
        if deadline > now {
            return None;
        }
        self.take(id).map(|waiter| (id, waiter))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.deadlines.first().map(|&(deadline, _)| deadline)
    }

    /// Removes and returns all waiters that `is_buffered` does not select, in order of their ids.
    pub(super) fn take_all(&mut self, is_buffered: impl Fn(u64) -> bool) -> Vec<Waiter> {
        let ids = self.waiting.keys().copied();
        let ids: Vec<u64> = ids.filter(|&id| !is_buffered(id)).collect();
        ids.into_iter().filter_map(|id| self.take(id)).collect()
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn acknowledgement_arrives_once_or_expires() {
        let mut acks = Acks::default();
        let now = Instant::now();
        let at = |millis| now + Duration::from_millis(millis);
        for deadline in [30, 10, 20] {
            acks.add(Waiter::Queue(deadline), at(deadline));
        }
        assert_eq!(acks.deadline(), Some(at(10)));
        assert!(acks.take(1).is_some() && acks.take(1).is_none());
        assert!(acks.take_expired(at(19)).is_none());
        assert!(matches!(
            acks.take_expired(at(20)),
            Some((2, Waiter::Queue(20)))
        ));
        acks.add(Waiter::Queue(4), at(40));
        assert_eq!(acks.take_all(|id| id == 3).len(), 1);
        assert!(acks.take(3).is_some());
        assert_eq!(acks.deadline(), None);
    }
}
