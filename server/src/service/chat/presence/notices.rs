//! Decides when a notice that a user has joined or left is emitted.
//!
//! Notices and the time go in, and each notice comes out immediately, later, or never.
//!
//! Most notices come out immediately. Two limits delay them:
//! * A user who joins and leaves repeatedly (a reloading page, a client in a loop) causes two
//!   immediate notices. The next one waits until the interval has passed.
//! * Each notice goes to all sockets, so n users who join together would cost n² deliveries. Beyond
//!   [`PER_DELIVERY`] and [`BURST`], notices wait.
//!
//! A waiting notice and its opposite cancel each other, so the emitted notices always add up to the
//! current state.
//!
//! This module does not know the present users, nor the lists of users.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::metrics::Size;
use crate::service::chat::presence::conversation::Notice;
use roomcast::internal::TokenBucket;

/// The notices of one conversation.
#[derive(Debug)]
pub(in crate::service) struct Notices {
    interval: Duration,
    /// When the deliveries so far are paid for, at [`PER_DELIVERY`] each.
    paid: Option<TokenBucket<Instant>>,
    /// Users with recent notices, and how many.
    recent: HashMap<Arc<str>, RecentNotices>,
    /// The users of `recent`, by the end of their interval.
    ends: VecDeque<(Instant, Arc<str>)>,
    /// Waiting notices by their earliest time. At most one per user.
    waiting: BTreeMap<QueueKey, Notice>,
    keys: HashMap<Arc<str>, QueueKey>,
    next: u64,
}

/// The earliest time of a notice, and its number in the order of arrival.
type QueueKey = (Instant, u64);

#[derive(Clone, Copy, Debug)]
struct RecentNotices {
    times: u8,
    until: Instant,
}

impl Notices {
    /// Returns the number of waiting and recent notices, and their bytes.
    pub(in crate::service::chat) fn size(&self) -> Size {
        let mut size = Size::of::<(QueueKey, Notice)>(self.waiting.len(), self.waiting.len());
        size += Size::of_map(&self.recent);
        let ends = Size::of::<(Instant, Arc<str>)>(self.ends.len(), self.ends.capacity());
        size.with_index(Size::of_map(&self.keys)).with_index(ends)
    }

    /// Creates an empty set. At most two notices of one user are emitted per `interval`.
    pub(in crate::service) fn new(interval: Duration) -> Self {
        Self {
            interval,
            paid: None,
            recent: HashMap::new(),
            ends: VecDeque::new(),
            waiting: BTreeMap::new(),
            keys: HashMap::new(),
            next: 0,
        }
    }

    /// Offers a notice that a user has joined or left. Returns it if it is to be emitted now to
    /// `audience` sockets.
    pub(in crate::service) fn offer(
        &mut self,
        now: Instant,
        notice: Notice,
        audience: usize,
    ) -> Option<Notice> {
        let Some(user) = notice.user().map(|user| Arc::clone(&user.user_id)) else {
            return Some(notice);
        };
        if let Some(key) = self.keys.remove(&user)
            && let Some(waiting) = self.waiting.remove(&key)
        {
            // The two notices cancel each other, so other users never learn of a visit that ended
            // before its time.
            if waiting.is_coming() != notice.is_coming() {
                return None;
            }
            self.wait(key.0, user, notice);
            return None;
        }
        // Expired entries are removed before the lookup, so that they need no timer.
        self.forget_recent(now);
        let due = match self.recent.get(&user) {
            Some(recent) if recent.times >= MAX_IMMEDIATE => recent.until,
            Some(_) | None => now,
        };
        let is_free = self.paid.is_none_or(|paid| paid.time() <= now + BURST);
        // Waiting notices go first. Otherwise a steady stream of new notices would starve them.
        let is_queue = self.waiting.first_key_value();
        let is_queue = is_queue.is_some_and(|((first, _), _)| *first <= now);
        if due <= now && is_free && !is_queue {
            self.note(now, user, audience);
            return Some(notice);
        }
        self.wait(due, user, notice);
        None
    }

    /// Returns when [`Notices::handle_timeout`] is due.
    pub(in crate::service) fn poll_timeout(&self) -> Option<Instant> {
        let ((due, _), _) = self.waiting.first_key_value()?;
        let free = self.paid.and_then(|paid| paid.time().checked_sub(BURST));
        Some(free.map_or(*due, |free| free.max(*due)))
    }

    /// Returns a notice that is due. Must be called until it returns `None`.
    pub(in crate::service) fn handle_timeout(
        &mut self,
        now: Instant,
        audience: usize,
    ) -> Option<Notice> {
        if self.poll_timeout()? > now {
            return None;
        }
        let (_, notice) = self.waiting.pop_first()?;
        let user = Arc::clone(&notice.user()?.user_id);
        self.keys.remove(&user);
        self.forget_recent(now);
        self.note(now, user, audience);
        Some(notice)
    }

    fn wait(&mut self, due: Instant, user: Arc<str>, notice: Notice) {
        if self.waiting.len() >= MAX_WAITING {
            // The lists of users contain the change anyway.
            return;
        }
        let key = (due, self.next);
        self.next += 1;
        self.waiting.insert(key, notice);
        self.keys.insert(user, key);
    }

    /// Records that a notice is emitted.
    fn note(&mut self, now: Instant, user: Arc<str>, audience: usize) {
        // The cost depends on the number of receivers, so a small conversation never has to wait.
        let deliveries = u32::try_from(audience.max(MIN_AUDIENCE)).unwrap_or(u32::MAX);
        let cost = PER_DELIVERY.saturating_mul(deliveries);
        let paid = self.paid.unwrap_or_else(|| TokenBucket::at(now));
        self.paid = Some(paid.charged(now, cost));
        if let Some(recent) = self.recent.get_mut(&user) {
            recent.times = recent.times.saturating_add(1);
            return;
        }
        let until = now + self.interval;
        self.recent
            .insert(Arc::clone(&user), RecentNotices { times: 1, until });
        self.ends.push_back((until, user));
    }

    fn forget_recent(&mut self, now: Instant) {
        while let Some((until, user)) = self.ends.front()
            && *until <= now
        {
            self.recent.remove(user);
            self.ends.pop_front();
        }
    }
}

/// The maximum number of immediate notices of one user per interval: one join and one departure.
const MAX_IMMEDIATE: u8 = 2;

/// The cost of delivering one notice to one socket: 50,000 deliveries a second in one conversation.
const PER_DELIVERY: Duration = Duration::from_micros(20);

/// The deliveries that may be made in advance, as the time in which they are paid for.
const BURST: Duration = Duration::from_secs(1);

/// The minimum audience that a notice is charged for, which bounds the number of recent users.
const MIN_AUDIENCE: usize = 10;

/// The maximum number of waiting notices in one conversation.
const MAX_WAITING: usize = 10_000;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::rules::emissions::attendance::User;

    const INTERVAL: Duration = Duration::from_millis(250);

    #[test]
    fn join_and_leave_are_emitted_immediately() {
        let (mut notices, now) = start();
        for n in 0..100 {
            let user = n.to_string();
            assert_eq!(notices.offer(now, joined(&user), 10), Some(joined(&user)));
            assert_eq!(notices.offer(now, left(&user), 10), Some(left(&user)));
        }
        assert_eq!(notices.poll_timeout(), None);
    }

    #[test]
    fn third_notice_of_a_user_waits_for_the_interval() {
        let (mut notices, now) = start();
        assert_eq!(notices.offer(now, joined("ann"), 10), Some(joined("ann")));
        assert_eq!(notices.offer(now, left("ann"), 10), Some(left("ann")));
        for _ in 0..10 {
            assert_eq!(notices.offer(now, joined("ann"), 10), None);
            assert_eq!(notices.offer(now, left("ann"), 10), None);
        }
        assert_eq!(notices.poll_timeout(), None, "what was told is still true");
        assert_eq!(notices.offer(now, joined("ann"), 10), None);
        assert_eq!(notices.offer(now, joined("bob"), 10), Some(joined("bob")));
        let end = now + INTERVAL;
        assert_eq!(notices.poll_timeout(), Some(end));
        let early = end - Duration::from_millis(1);
        assert_eq!(notices.handle_timeout(early, 10), None);
        assert_eq!(notices.handle_timeout(end, 10), Some(joined("ann")));
        assert_eq!(notices.handle_timeout(end, 10), None);
        assert_eq!(notices.offer(end, left("ann"), 10), Some(left("ann")));
        assert_eq!(notices.offer(end, joined("ann"), 10), None, "the third");
    }

    #[test]
    fn later_of_two_equal_notices_replaces_the_waiting_notice() {
        let (mut notices, now) = start();
        for notice in [joined("ann"), left("ann")] {
            notices.offer(now, notice, 10);
        }
        assert_eq!(notices.offer(now, left("ann"), 10), None);
        let lost = Notice::Disconnected(user("ann"));
        assert_eq!(notices.offer(now, lost.clone(), 10), None);
        assert_eq!(notices.handle_timeout(now + INTERVAL, 10), Some(lost));
        assert_eq!(notices.poll_timeout(), None);
    }

    #[test]
    fn a_thousand_joins_are_throttled_and_all_emitted_in_order() {
        let (mut notices, now) = start();
        let mut deliveries = 0;
        let mut immediate = 0;
        for audience in 1..=1000 {
            if notices
                .offer(now, joined(&audience.to_string()), audience)
                .is_some()
            {
                deliveries += audience;
                immediate += 1;
            }
        }
        assert!((300..400).contains(&immediate), "{immediate}");
        assert!(deliveries < 60_000, "{deliveries}");
        let mut emitted = immediate;
        let mut time = now;
        while let Some(next) = notices.poll_timeout() {
            time = next.max(time);
            while let Some(notice) = notices.handle_timeout(time, 1000) {
                emitted += 1;
                assert_eq!(
                    notice,
                    joined(&emitted.to_string()),
                    "in the order of arrival"
                );
            }
        }
        assert_eq!(emitted, 1000);
        let took = time.duration_since(now);
        let expected = Duration::from_secs(10)..Duration::from_secs(20);
        assert!(expected.contains(&took), "{took:?}");
    }

    #[test]
    fn opposite_notices_cancel_while_waiting() {
        let (mut notices, now) = start();
        while notices
            .offer(now, joined(&notices.next_name()), 1000)
            .is_some()
        {}
        let waiting = notices.waiting.len();
        assert_eq!(notices.offer(now, joined("ann"), 1000), None);
        assert_eq!(notices.offer(now, left("ann"), 1000), None);
        assert_eq!(notices.waiting.len(), waiting);
        assert_eq!(notices.keys.len(), waiting);
    }

    #[test]
    fn notices_are_bounded() {
        let (mut notices, now) = start();
        for n in 0..MAX_WAITING * 3 {
            notices.offer(now, joined(&n.to_string()), 1);
        }
        assert_eq!(notices.waiting.len(), MAX_WAITING);
        assert_eq!(notices.keys.len(), MAX_WAITING);
        assert!(
            notices.recent.len() < MAX_WAITING,
            "{}",
            notices.recent.len()
        );
        assert_eq!(notices.recent.len(), notices.ends.len());
        let mut time = now;
        while let Some(next) = notices.poll_timeout() {
            time = next.max(time);
            while notices.handle_timeout(time, 1).is_some() {}
            assert!(
                notices.recent.len() < MAX_WAITING,
                "{}",
                notices.recent.len()
            );
        }
        assert!(notices.waiting.is_empty() && notices.keys.is_empty());
        notices.forget_recent(time + INTERVAL);
        assert!(notices.recent.is_empty() && notices.ends.is_empty());
    }

    impl Notices {
        fn next_name(&self) -> String {
            format!("{} {}", self.recent.len(), self.waiting.len())
        }
    }

    fn start() -> (Notices, Instant) {
        (Notices::new(INTERVAL), Instant::now())
    }

    fn joined(id: &str) -> Notice {
        Notice::Joined(user(id))
    }

    fn left(id: &str) -> Notice {
        Notice::Left(user(id))
    }

    fn user(id: &str) -> User {
        User {
            user_id: id.into(),
            name: id.into(),
        }
    }
}
