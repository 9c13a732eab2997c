//! How fast each user may act, by class of event, and how many connections a user has.
//!
//! One user is one entry, whatever the class. Entries of users without connections are forgotten
//! once all that they may do is there again, since a new entry says the same; past the given number the
//! longest unseen ones go first. There are never more others than connections.
//!
//! Whoever is connected holds its own [`Allowance`], so that an event looks for nothing and locks
//! nothing.

use std::{
    collections::hash_map::Entry as Slot,
    fmt,
    num::NonZeroU32,
    sync::{Arc, OnceLock},
    time::Duration,
};

use tokio::time::Instant;

use roomcast::internal::{ByHash, LogThrottle, SHARDS, Shards, SharedRested};

use super::spending::{Spending, Untold};
use crate::{
    config::Limits,
    metrics::{Counter, Gauge, Metrics},
};

/// A class of events that share a bucket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Messages that are sent, edited or deleted.
    Messages,
    /// Typing notices.
    Typing,
    /// Conversations and subscriptions that are joined, left, made or changed.
    Changes,
    /// Everything else.
    Requests,
}

impl Class {
    pub(super) const ALL: [Self; 4] = [Self::Messages, Self::Typing, Self::Changes, Self::Requests];

    /// The name of the class.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Typing => "typing",
            Self::Changes => "changes",
            Self::Requests => "requests",
        }
    }

    const fn counter(self) -> Counter {
        match self {
            Self::Messages => Counter::LimitedMessages,
            Self::Typing => Counter::LimitedTyping,
            Self::Changes => Counter::LimitedChanges,
            Self::Requests => Counter::LimitedRequests,
        }
    }
}

/// So many events at once, and as many again within `window`.
#[derive(Clone, Copy, Debug)]
struct Quota {
    window: Duration,
    /// The time between two events at the pace.
    step: Duration,
}

impl Quota {
    /// Returns `None` if nothing is limited.
    fn new(limit: Option<u32>, window: Duration) -> Option<Self> {
        let step = window / NonZeroU32::new(limit?)?.get();
        Some(Self { window, step })
    }
}

/// The limits of all users.
pub(crate) struct Users {
    /// By class; none where nothing is limited.
    quotas: [Option<Quota>; Class::ALL.len()],
    max_connections: u32,
    shards: Shards<Shard>,
    spending: Spending,
    /// Users without connections that a generation of a shard may have.
    generation: usize,
    started: Instant,
    metrics: Arc<Metrics>,
}

/// Users with connections, and two generations of users without.
#[derive(Default)]
struct Shard {
    connected: Entries,
    young: Entries,
    old: Entries,
}

/// Users by the hash of their id.
type Entries = ByHash<User>;

struct User {
    connections: u32,
    allowance: Arc<Allowance>,
}

impl User {
    fn new(name: &str) -> Self {
        let allowance = Allowance {
            name: name.into(),
            rested: Default::default(),
            told: OnceLock::new(),
            untold: Untold::default(),
        };
        Self {
            connections: 0,
            allowance: Arc::new(allowance),
        }
    }
}

/// What a user may do at this moment, shared by all its connections.
#[derive(Debug)]
pub(crate) struct Allowance {
    /// The user whose allowance it is.
    pub(super) name: Arc<str>,
    /// By class: when all events of its quota are there again, since the start of [`Users`].
    rested: [SharedRested; Class::ALL.len()],
    /// By class: how often the user is told of it. Only for those who have been.
    told: OnceLock<Box<[LogThrottle; Class::ALL.len()]>>,
    pub(super) untold: Untold,
}

/// How often users are forgotten of whom nothing is left to remember.
const SWEEP: Duration = Duration::from_secs(10);

impl Users {
    pub(crate) fn new(limits: &Limits, metrics: Arc<Metrics>) -> Self {
        let limits = limits.in_force();
        let per_minute = |limit| Quota::new(limit, Duration::from_secs(60));
        let per_second = |limit| Quota::new(limit, Duration::from_secs(1));
        Self {
            quotas: Class::ALL.map(|class| match class {
                Class::Messages => per_minute(limits.messages_per_minute),
                Class::Typing => per_second(limits.typing_per_second),
                Class::Changes => per_minute(limits.changes_per_minute),
                Class::Requests => per_second(limits.requests_per_second),
            }),
            max_connections: limits.connections_per_user.unwrap_or_default(),
            shards: Shards::new(),
            spending: Spending::default(),
            generation: (limits.users / SHARDS / 2).max(1),
            started: Instant::now(),
            metrics,
        }
    }

    /// Whether a user may do one more thing of this class.
    ///
    /// # Errors
    ///
    /// How long to wait before it may.
    pub(crate) fn check(&self, class: Class, user: &str) -> Result<(), Duration> {
        self.take(class, &self.allowance(user))
    }

    /// What a user may do, connected or not.
    pub(super) fn allowance(&self, name: &str) -> Arc<Allowance> {
        let found = |shard: &mut Shard, user| match shard.connected.get(&user) {
            Some(entry) => Arc::clone(&entry.allowance),
            None => Arc::clone(&self.find(shard, user, name).allowance),
        };
        self.shards.with(name, found)
    }

    /// What a user may do, if this server knows the user.
    pub(super) fn known(&self, name: &str) -> Option<Arc<Allowance>> {
        self.shards.with(name, |shard, user| {
            let Shard {
                connected,
                young,
                old,
            } = shard;
            let mut entries = [connected, young, old].into_iter();
            let entry = entries.find_map(|entries| entries.get(&user));
            entry.map(|entry| Arc::clone(&entry.allowance))
        })
    }

    pub(super) const fn spending(&self) -> &Spending {
        &self.spending
    }

    /// The time of one event of a class at its pace, and how many come at once; `None` if it has no limit.
    pub(super) fn pace(&self, class: Class) -> Option<(Duration, u32)> {
        let quota = self.quotas.get(class as usize).copied().flatten()?;
        let count = quota.window.as_nanos() / quota.step.as_nanos().max(1);
        Some((quota.step, u32::try_from(count).unwrap_or(u32::MAX)))
    }

    /// Charges events that have happened elsewhere, and alone would be over after `rest`.
    pub(super) fn charge_class(
        &self,
        class: Class,
        allowance: &Allowance,
        count: u32,
        rest: Option<Duration>,
    ) {
        let quota = self.quotas.get(class as usize).copied().flatten();
        if let (Some(quota), Some(rested)) = (quota, allowance.rested.get(class as usize)) {
            let cost = quota.step.saturating_mul(count);
            let rest = rest.map_or(cost, |rest| rest.min(cost));
            let most = quota.window.saturating_mul(self.spending.debt());
            rested.charge(self.now(), cost, rest, most);
        }
    }

    /// The time since the start, by which all allowances count.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Takes one from the allowance of a user, which is at hand.
    ///
    /// # Errors
    ///
    /// How long to wait before it may.
    pub(crate) fn take(&self, class: Class, allowance: &Arc<Allowance>) -> Result<(), Duration> {
        let Some(quota) = self.quotas.get(class as usize).copied().flatten() else {
            return Ok(());
        };
        let Some(rested) = allowance.rested.get(class as usize) else {
            return Ok(());
        };
        let now = self.now();
        rested
            // The allowance is one atomic number, so that an event takes no lock of other users.
            .take(now, quota.step, quota.window)
            .inspect(|()| self.spending.note(class, allowance, now, quota.step))
            .inspect_err(|_| self.metrics.count(class.counter()))
    }

    /// Whether a user may connect once more.
    pub(crate) fn may_connect(&self, user: &str) -> bool {
        let connections = self.shards.with(user, |shard, user| {
            let entry = shard.connected.get(&user);
            entry.map_or(0, |entry| entry.connections)
        });
        let may = self.max_connections == 0 || connections < self.max_connections;
        if !may {
            self.metrics.count(Counter::RefusedUser);
        }
        may
    }

    /// A user has connected. Returns the user's allowance, and `false` if the connection is one too
    /// many. It counts all the same, until [`leave`](Self::leave).
    pub(crate) fn enter(&self, name: &str) -> (Arc<Allowance>, bool) {
        let (allowance, connections) = self.shards.with(name, |shard, user| {
            // The allowance outlives the last connection: whoever is limited does not get a new one
            // by coming back.
            let known = shard.young.remove(&user);
            let known = known.or_else(|| shard.old.remove(&user));
            let entry = shard.connected.entry(user);
            let user = match entry {
                Slot::Occupied(slot) => slot.into_mut(),
                Slot::Vacant(slot) => slot.insert(known.unwrap_or_else(|| User::new(name))),
            };
            // The connection is counted first, so that two that come at once do not both take the
            // last place.
            user.connections += 1;
            (Arc::clone(&user.allowance), user.connections)
        });
        let may = self.max_connections == 0 || connections <= self.max_connections;
        (allowance, may)
    }

    /// A connection of a user has ended.
    pub(crate) fn leave(&self, user: &str) {
        self.shards.with(user, |shard, user| {
            let Some(entry) = shard.connected.get_mut(&user) else {
                return;
            };
            entry.connections = entry.connections.saturating_sub(1);
            if entry.connections == 0
                && let Some(entry) = shard.connected.remove(&user)
            {
                self.remember(shard, user, entry);
            }
        });
    }

    /// Forgets users again and again.
    pub(crate) async fn sweep(self: Arc<Self>) {
        let mut interval = tokio::time::interval(SWEEP);
        loop {
            interval.tick().await;
            self.sweep_once();
        }
    }

    fn sweep_once(&self) {
        let (mut left, now) = (0, self.now());
        for shard in self.shards.iter() {
            let mut shard = shard.lock();
            let Shard {
                connected,
                young,
                old,
            } = &mut *shard;
            for generation in [&mut *young, &mut *old] {
                // A user who may do everything again is forgotten, since a new entry says the same.
                generation.retain(|_, user| !user.rests(now));
                if generation.is_empty() && generation.capacity() > KEPT {
                    *generation = Entries::default();
                }
            }
            if connected.is_empty() && connected.capacity() > KEPT {
                *connected = Entries::default();
            }
            left += connected.len() + young.len() + old.len();
        }
        let left = i64::try_from(left).unwrap_or(i64::MAX);
        let gauge = self.metrics.gauge(Gauge::LimitedUsers);
        self.metrics.shift(Gauge::LimitedUsers, left - gauge);
    }

    /// The entry of a user who is not connected, a new one if there is none.
    fn find<'a>(&self, shard: &'a mut Shard, user: u64, name: &str) -> &'a mut User {
        if !shard.young.contains_key(&user) {
            let entry = shard.old.remove(&user).unwrap_or_else(|| User::new(name));
            self.remember(shard, user, entry);
        }
        shard.young.entry(user).or_insert_with(|| User::new(name))
    }

    fn remember(&self, shard: &mut Shard, user: u64, entry: User) {
        if shard.young.len() >= self.generation {
            // Two generations forget the longest unseen users without an order that every event
            // would have to update.
            let forgotten = std::mem::replace(&mut shard.old, std::mem::take(&mut shard.young));
            let count = forgotten.len() as u64;
            self.metrics.add(Counter::UsersEvicted, count);
        }
        shard.young.insert(user, entry);
    }
}

impl User {
    /// Whether there is nothing to remember: a new entry says the same.
    fn rests(&mut self, now: Duration) -> bool {
        // A socket that is about to go may still hold the entry, which goes another time.
        let allowance = Arc::get_mut(&mut self.allowance);
        allowance.is_some_and(|allowance| {
            let mut rested = allowance.rested.iter();
            rested.all(|rested| rested.get().time() <= now)
        })
    }
}

impl Allowance {
    /// Whether the user who does too much of this class and asked for no answer is told so: at most
    /// once a second.
    pub(crate) fn may_tell(&self, class: Class) -> bool {
        let told = self.told.get_or_init(Box::default).get(class as usize);
        told.is_none_or(|told| told.permit().is_some())
    }
}

/// Entries of room that an empty map keeps.
const KEPT: usize = 256;

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use parking_lot::Mutex;

    use super::*;

    fn users(limits: &Limits) -> Users {
        Users::new(limits, Arc::default())
    }

    #[test]
    fn a_user_has_thirty_messages_a_minute_and_five_typing_notices_a_second() {
        let users = users(&Limits::default());
        for (class, burst, wait) in [(Class::Messages, 30, 2000), (Class::Typing, 5, 200)] {
            for _ in 0..burst {
                assert_eq!(users.check(class, "ann"), Ok(()));
            }
            let retry_after = users.check(class, "ann").unwrap_err();
            assert!(
                retry_after <= Duration::from_millis(wait),
                "{retry_after:?}"
            );
            assert_eq!(users.check(class, "bob"), Ok(()));
        }
        assert_eq!(users.check(Class::Requests, "ann"), Ok(()));
        assert_eq!(users.metrics.counter(Counter::LimitedMessages), 1);
        assert_eq!(users.metrics.counter(Counter::LimitedTyping), 1);
    }

    #[test]
    fn who_does_too_much_is_told_once_a_second_for_each_class() {
        let users = users(&Limits::default());
        let (ann, _) = users.enter("ann");
        let (bob, _) = users.enter("bob");
        let count = |class, user: &Allowance| (0..100).filter(|_| user.may_tell(class)).count();
        // One more if a second ends meanwhile.
        assert!((1..=2).contains(&count(Class::Typing, &ann)));
        assert!((1..=2).contains(&count(Class::Messages, &ann)));
        assert!((1..=2).contains(&count(Class::Typing, &bob)));
    }

    #[test]
    fn a_limit_of_zero_is_none() {
        let limits = Limits {
            messages_per_minute: Some(0),
            ..Limits::default()
        };
        let users = users(&limits);
        for _ in 0..1000 {
            assert_eq!(users.check(Class::Messages, "ann"), Ok(()));
        }
    }

    #[test]
    fn a_user_does_not_get_new_buckets_by_connecting_again() {
        let users = users(&Limits::default());
        let (ann, _) = users.enter("ann");
        while users.take(Class::Messages, &ann).is_ok() {}
        users.leave("ann");
        let (ann, _) = users.enter("ann");
        assert!(users.take(Class::Messages, &ann).is_err());
        assert!(users.check(Class::Messages, "ann").is_err());
    }

    #[test]
    fn the_connections_of_a_user_share_what_it_may_do() {
        let users = users(&Limits::default());
        let (tab, _) = users.enter("ann");
        let (other, _) = users.enter("ann");
        while users.take(Class::Messages, &tab).is_ok() {}
        assert!(users.take(Class::Messages, &other).is_err());
    }

    #[test]
    fn what_is_used_up_is_remembered_while_a_connection_that_ends_still_holds_it() {
        let users = users(&Limits::default());
        let (ann, _) = users.enter("ann");
        while users.take(Class::Messages, &ann).is_ok() {}
        users.leave("ann");
        users.sweep_once();
        drop(ann);
        users.sweep_once();
        assert!(users.check(Class::Messages, "ann").is_err());
    }

    #[test]
    fn a_user_has_as_many_connections_as_the_limit_says() {
        let users = users(&Limits {
            connections_per_user: Some(2),
            ..Limits::default()
        });
        assert!(users.may_connect("ann"));
        assert!(users.enter("ann").1);
        assert!(users.enter("ann").1);
        assert!(!users.may_connect("ann"));
        assert!(!users.enter("ann").1);
        users.leave("ann");
        assert!(!users.may_connect("ann"));
        users.leave("ann");
        assert!(users.may_connect("ann"));
        assert!(users.may_connect("bob"));
        assert_eq!(users.metrics.counter(Counter::RefusedUser), 2);
    }

    #[test]
    fn users_who_are_gone_are_forgotten_once_there_is_nothing_to_remember() {
        let users = users(&Limits::default());
        users.enter("ann");
        users.leave("ann");
        users.enter("bob");
        assert_eq!(users.check(Class::Messages, "carl"), Ok(()));
        users.sweep_once();
        // Of carl it is known that he has one message less.
        assert_eq!(users.metrics.gauge(Gauge::LimitedUsers), 2);
    }

    #[test]
    fn a_hundred_thousand_users_do_not_stay() {
        let users = users(&Limits {
            requests_per_second: Some(1000),
            users: 1_000_000,
            ..Limits::default()
        });
        for n in 0..100_000 {
            assert_eq!(users.check(Class::Requests, &n.to_string()), Ok(()));
        }
        assert_eq!(users.metrics.counter(Counter::UsersEvicted), 0);
        // A millisecond later all that they may do is there again.
        let start = Instant::now();
        loop {
            users.sweep_once();
            if users.metrics.gauge(Gauge::LimitedUsers) == 0 {
                break;
            }
            assert!(start.elapsed() < Duration::from_secs(20), "they stay");
        }
        let room = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard.connected.capacity() + shard.young.capacity() + shard.old.capacity()
        };
        let room: usize = users.shards.iter().map(room).sum();
        assert!(room <= 3 * SHARDS * 2 * KEPT, "{room} entries of room");
    }

    #[test]
    fn a_hundred_thousand_users_take_no_more_room_than_was_given() {
        let users = users(&Limits {
            users: 320,
            ..Limits::default()
        });
        for n in 0..100_000 {
            assert_eq!(users.check(Class::Messages, &n.to_string()), Ok(()));
        }
        users.sweep_once();
        let remembered = users.metrics.gauge(Gauge::LimitedUsers);
        assert!(remembered <= 320, "{remembered}");
        assert!(users.metrics.counter(Counter::UsersEvicted) > 99_000);
    }
}
