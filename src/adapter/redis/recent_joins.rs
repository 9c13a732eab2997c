//! Tracks rooms that sockets of other servers were recently asked to join, because those servers
//! may not be subscribed yet.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

/// The channels of rooms to which sockets of other servers were recently added.
///
/// Another server subscribes to the channel of a room when its first socket joins, and misses
/// earlier messages on it. Join requests use the namespace channel. For a while, events for that
/// room use it as well, instead of the room's channel. They then follow the join and reach the new
/// members. If rooms have no channels, this has no effect.
#[derive(Debug, Default)]
pub(super) struct RecentJoins {
    rooms: Mutex<Rooms>,
    hasher: RandomState,
}

/// Names are stored as hashes, so that their length does not matter. A hash collision only sends a
/// room's events over the namespace channel.
#[derive(Debug, Default)]
struct Rooms {
    until: HashMap<u64, Instant>,
    /// Each hash in `until` once. A room that was joined again keeps its earlier place until it
    /// reaches the front.
    order: VecDeque<u64>,
    /// Set when the map is full: until then, every room counts as recently joined.
    all_until: Option<Instant>,
}

impl RecentJoins {
    /// Records that sockets of other servers are added to the room of a channel.
    pub(super) fn note(&self, channel: &str) {
        let number = self.hasher.hash_one(channel);
        let now = Instant::now();
        let until = now + SUBSCRIBE_WINDOW;
        let rooms = &mut *self.rooms.lock();
        rooms.forget_before(now);
        if let Some(known) = rooms.until.get_mut(&number) {
            *known = until;
        } else if rooms.until.len() < MAX_ROOMS {
            rooms.until.insert(number, until);
            rooms.order.push_back(number);
        } else {
            rooms.all_until = Some(until);
        }
    }

    /// Returns whether servers that are about to have members of a room may not be subscribed to
    /// its channel yet.
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
                // A room that was joined again is too early in the order. Rooms after it may have
                // expired.
                return;
            }
            self.order.pop_front();
            self.until.remove(&first);
        }
    }
}

/// Maximum time for servers to subscribe to a room. The join request may be queued for five
/// seconds, and the receiving server may lag as much.
const SUBSCRIBE_WINDOW: Duration = Duration::from_secs(10);
/// The maximum number of rooms that are tracked individually.
const MAX_ROOMS: usize = 16_384;

#[cfg(test)]
mod tests {
    use super::*;

    async fn pass(time: Duration) {
        tokio::time::advance(time).await;
    }

    #[tokio::test(start_paused = true)]
    async fn room_counts_as_recently_joined_for_10s_after_last_join() {
        let joins = RecentJoins::default();
        assert!(!joins.may_be_early("a"));
        joins.note("a");
        pass(SUBSCRIBE_WINDOW / 2).await;
        joins.note("b");
        joins.note("a");
        assert!(joins.may_be_early("a") && joins.may_be_early("b") && !joins.may_be_early("c"));
        pass(SUBSCRIBE_WINDOW - Duration::from_millis(1)).await;
        assert!(joins.may_be_early("a") && joins.may_be_early("b"));
        pass(Duration::from_millis(1)).await;
        assert!(!joins.may_be_early("a") && !joins.may_be_early("b"));
        let rooms = joins.rooms.lock();
        assert!(rooms.until.is_empty() && rooms.order.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn every_room_counts_as_recently_joined_while_table_is_full() {
        let joins = RecentJoins::default();
        for n in 0..MAX_ROOMS {
            joins.note(&n.to_string());
        }
        assert!(joins.may_be_early("0") && !joins.may_be_early("one more"));
        pass(SUBSCRIBE_WINDOW / 2).await;
        joins.note("one more");
        assert!(joins.may_be_early("one more") && joins.may_be_early("any"));
        assert_eq!(joins.rooms.lock().order.len(), MAX_ROOMS);
        pass(SUBSCRIBE_WINDOW / 2).await;
        assert!(joins.may_be_early("one more") && joins.rooms.lock().order.is_empty());
        joins.note("next");
        pass(SUBSCRIBE_WINDOW / 2).await;
        assert!(joins.may_be_early("next") && !joins.may_be_early("any"));
    }
}
