//! Rooms that sockets of other servers are let into, which these servers may not follow yet.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The channels of rooms that somebody has let sockets of others join a moment ago.
///
/// Another server subscribes to the channel of a room when its first socket joins, and misses what is published there
/// before. What asks it to let sockets join comes on the channel of the namespace, as everything does that is for no
/// single room. So for a while events for such a room go there too, behind what asked for it. With a channel of
/// the namespace alone this does nothing.
#[derive(Debug, Default)]
pub(super) struct RecentJoins {
    rooms: Mutex<Rooms>,
    hasher: RandomState,
}

/// Names are kept as numbers, so that their length does not count. A room that shares its number with another one goes
/// the longer way for no reason, and that is all.
#[derive(Debug, Default)]
struct Rooms {
    until: HashMap<u64, Instant>,
    /// Each number of the map once. Those that were joined again stand too far in front until they are reached.
    order: VecDeque<u64>,
    /// There was no room for another one: until then each may be it.
    all_until: Option<Instant>,
}

impl RecentJoins {
    /// Sockets of other servers are let into the room of a channel now.
    pub(super) fn note(&self, channel: &str) {
        let number = self.hasher.hash_one(channel);
        let now = Instant::now();
        let until = now + LASTS;
        let rooms = &mut *self.rooms.lock();
        rooms.forget_before(now);
        if let Some(known) = rooms.until.get_mut(&number) {
            *known = until;
        } else if rooms.until.len() < MOST {
            rooms.until.insert(number, until);
            rooms.order.push_back(number);
        } else {
            rooms.all_until = Some(until);
        }
    }

    /// Whether servers may not be subscribed to a channel yet that are about to have members of its room.
    pub(super) fn may_be_early(&self, channel: &str) -> bool {
        let rooms = &mut *self.rooms.lock();
        if rooms.until.is_empty() && rooms.all_until.is_none() {
            return false;
        }
        let now = Instant::now();
        rooms.forget_before(now);
        let until = rooms.until.get(&self.hasher.hash_one(channel));
        until
            .max(rooms.all_until.as_ref())
            .is_some_and(|until| now < *until)
    }
}

impl Rooms {
    fn forget_before(&mut self, now: Instant) {
        self.all_until = self.all_until.filter(|until| now < *until);
        while let Some(first) = self.order.front().copied() {
            if self.until.get(&first).is_some_and(|until| now < *until) {
                // Of one that was joined again the place is too early, and those behind it may be over.
                return;
            }
            self.order.pop_front();
            self.until.remove(&first);
        }
    }
}

/// How long servers have to subscribe to a room: what asks them may wait for five seconds before it leaves, and they
/// may be as much behind.
const LASTS: Duration = Duration::from_secs(10);
/// The rooms that are told apart.
const MOST: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    async fn pass(time: Duration) {
        tokio::time::advance(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn a_room_counts_as_joined_a_moment_ago_for_ten_seconds_from_the_last_time() {
        let joins = RecentJoins::default();
        assert!(!joins.may_be_early("a"));
        joins.note("a");
        pass(LASTS / 2).await;
        joins.note("b");
        joins.note("a");
        assert!(joins.may_be_early("a") && joins.may_be_early("b") && !joins.may_be_early("c"));
        pass(LASTS - Duration::from_millis(1)).await;
        assert!(joins.may_be_early("a") && joins.may_be_early("b"));
        pass(Duration::from_millis(1)).await;
        assert!(!joins.may_be_early("a") && !joins.may_be_early("b"));
        let rooms = joins.rooms.lock();
        assert!(rooms.until.is_empty() && rooms.order.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn while_there_is_no_room_for_another_one_each_counts_as_joined_a_moment_ago() {
        let joins = RecentJoins::default();
        for n in 0..MOST {
            joins.note(&n.to_string());
        }
        assert!(joins.may_be_early("0") && !joins.may_be_early("one more"));
        pass(LASTS / 2).await;
        joins.note("one more");
        assert!(joins.may_be_early("one more") && joins.may_be_early("any"));
        assert_eq!(joins.rooms.lock().order.len(), MOST);
        pass(LASTS / 2).await;
        assert!(joins.may_be_early("one more") && joins.rooms.lock().order.is_empty());
        joins.note("next");
        pass(LASTS / 2).await;
        assert!(joins.may_be_early("next") && !joins.may_be_early("any"));
    }
}
