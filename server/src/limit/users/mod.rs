//! Rate limits per user and class of event, and limits of connections per user.
//!
//! A user has one entry for all classes. Entries of users without connections are removed once
//! their budgets are full again, because a new entry is equivalent. Beyond the configured number,
//! entries with the smallest debt are evicted, but never entries that owe more than half of a
//! budget ([`Debts`]). If no entry can be evicted, new users share one allowance. Entries of
//! connected users do not count against this number.
//!
//! A connection holds its user's [`Allowance`], so that an event needs no lookup and no lock.

use std::{
    collections::hash_map::Entry as Slot,
    fmt,
    num::NonZeroU32,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU32, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::time::Instant;

use roomcast::internal::{
    ByHash, Debts, LogThrottle, MAX_EVICTABLE_DEBT, RetryAfter, SHARDS, Shards, SharedTokenBucket,
    WaitingLine,
};

use super::spending::{Spending, UnreportedEvents};
use crate::{
    config::Limits,
    metrics::{Counter, Gauge, Inventoried, Inventory, Metrics},
};

/// A class of events that share a budget.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Class {
    /// Sending, editing and deleting messages.
    Messages,
    /// Typing indicators.
    Typing,
    /// Joining, leaving, creating and changing conversations and subscriptions.
    Changes,
    /// All other events.
    Requests,
    /// Namespace joins.
    Joins,
    /// Adding text to messages that are being written.
    Appends,
    /// Following and leaving channels of declared kinds, and publishing to them.
    Channels,
}

impl Class {
    pub(super) const ALL: [Self; 7] = [
        Self::Messages,
        Self::Typing,
        Self::Changes,
        Self::Requests,
        Self::Joins,
        Self::Appends,
        Self::Channels,
    ];

    /// Returns the name of the class.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Typing => "typing",
            Self::Changes => "changes",
            Self::Requests => "requests",
            Self::Joins => "joins",
            Self::Appends => "appends",
            Self::Channels => "channels",
        }
    }

    /// Returns the time within which a burst recovers.
    const fn window(self) -> Duration {
        Duration::from_secs(match self {
            Self::Messages | Self::Changes | Self::Joins | Self::Channels => 60,
            Self::Typing | Self::Requests | Self::Appends => 1,
        })
    }

    const fn counter(self) -> Counter {
        match self {
            Self::Messages => Counter::LimitedMessages,
            Self::Typing => Counter::LimitedTyping,
            Self::Changes => Counter::LimitedChanges,
            Self::Requests => Counter::LimitedRequests,
            Self::Joins => Counter::LimitedJoins,
            Self::Appends => Counter::LimitedAppends,
            Self::Channels => Counter::LimitedChannels,
        }
    }
}

/// A burst of events, which recovers within `window`.
#[derive(Clone, Copy, Debug)]
struct Quota {
    window: Duration,
    /// The time in which one event recovers.
    step: Duration,
}

/// Who sends the events of an allowance.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Callers {
    /// One client, which waits after a refusal.
    One,
    /// Callers that do not know of each other.
    Many,
}

/// The limits of each user. A reload of the configuration replaces them.
#[derive(Default)]
struct Quotas {
    /// By class: the time in which one event recovers, in nanoseconds. 0 if there is no limit.
    steps: [AtomicU64; Class::ALL.len()],
    /// 0 if there is no limit.
    max_connections: AtomicU32,
}

impl Quotas {
    fn of(limits: &Limits) -> Self {
        let quotas = Self::default();
        quotas.set(limits);
        quotas
    }

    // Each value takes effect on its own, so relaxed ordering suffices.
    fn set(&self, limits: &Limits) {
        let limits = limits.in_force();
        for (class, step) in Class::ALL.into_iter().zip(&self.steps) {
            let limit = match class {
                Class::Messages => limits.messages_per_minute,
                Class::Typing => limits.typing_per_second,
                Class::Changes => limits.changes_per_minute,
                Class::Requests => limits.requests_per_second,
                Class::Joins => limits.joins_per_user,
                Class::Appends => limits.appends_per_second,
                Class::Channels => limits.channel_events_per_minute,
            };
            let limit = limit.and_then(NonZeroU32::new);
            let nanos = limit.map_or(0, |limit| (class.window() / limit.get()).as_nanos() as u64);
            step.store(nanos, Ordering::Relaxed);
        }
        let max_connections = limits.connections_per_user.unwrap_or_default();
        self.max_connections
            .store(max_connections, Ordering::Relaxed);
    }

    /// Returns `None` if there is no limit.
    fn of_class(&self, class: Class) -> Option<Quota> {
        let step = self.steps.get(class as usize)?.load(Ordering::Relaxed);
        (step > 0).then(|| Quota {
            window: class.window(),
            step: Duration::from_nanos(step),
        })
    }

    /// Returns whether a user may have so many connections.
    fn permit(&self, connections: u32) -> bool {
        let max = self.max_connections.load(Ordering::Relaxed);
        max == 0 || connections <= max
    }
}

/// The rate limits of all users.
pub(crate) struct Users {
    quotas: Quotas,
    shards: Shards<Shard>,
    spending: Spending,
    /// Maximum number of users without connections in a shard.
    capacity: usize,
    started: Instant,
    metrics: Arc<Metrics>,
}

/// Users with connections, and users without.
#[derive(Default)]
struct Shard {
    connected: Entries,
    idle: Debts<User>,
    /// The allowance that new users share while there is no room for their entries, until it has
    /// recovered.
    shared: Option<Arc<Allowance>>,
}

/// Users by the hash of their id.
type Entries = ByHash<User>;

struct User {
    connections: u32,
    allowance: Arc<Allowance>,
}

impl User {
    fn new(allowance: Arc<Allowance>) -> Self {
        Self {
            connections: 0,
            allowance,
        }
    }
}

/// The remaining budget of a user, shared by all its connections.
#[derive(Debug)]
pub(crate) struct Allowance {
    /// The id of the user.
    pub(super) name: Arc<str>,
    /// By class: when the whole quota has recovered, as time since the start of [`Users`].
    rested: [SharedTokenBucket; Class::ALL.len()],
    /// By class: the refused callers, if there are many. Created on first use.
    lines: OnceLock<Box<[WaitingLine; Class::ALL.len()]>>,
    /// By class: throttles notifications to the user. Created on first use.
    notice_throttles: OnceLock<Box<[LogThrottle; Class::ALL.len()]>>,
    pub(super) unreported: UnreportedEvents,
}

/// The interval between removals of entries that are no longer needed.
const SWEEP: Duration = Duration::from_secs(10);

impl Users {
    /// Returns the metrics in which events are counted.
    pub(crate) fn metrics(&self) -> &Arc<Metrics> {
        &self.metrics
    }

    pub(crate) fn new(limits: &Limits, metrics: Arc<Metrics>) -> Self {
        Self {
            quotas: Quotas::of(limits),
            shards: Shards::new(),
            spending: Spending::default(),
            capacity: (limits.users / SHARDS).max(1),
            started: Instant::now(),
            metrics,
        }
    }

    /// Replaces the rate limits and the limit of connections. A user who has used a budget up
    /// waits at most as long as under the previous limit.
    pub(crate) fn replace_limits(&self, limits: &Limits) {
        self.quotas.set(limits);
    }

    /// Charges an event of a class to a user.
    ///
    /// # Errors
    ///
    /// Returns when to retry if the limit is reached.
    pub(crate) fn check(&self, class: Class, user: &str) -> Result<(), RetryAfter> {
        self.take(class, &self.allowance(user))
    }

    /// Charges a call of the API to a user, who may send many at the same time.
    ///
    /// # Errors
    ///
    /// Returns when to retry this call if the limit is reached.
    pub(crate) fn check_call(&self, user: &str) -> Result<(), RetryAfter> {
        self.take_for(Class::Requests, &self.allowance(user), Callers::Many)
    }

    /// Returns the allowance of a user, connected or not.
    pub(super) fn allowance(&self, name: &str) -> Arc<Allowance> {
        let found = |shard: &mut Shard, user| match shard.connected.get(&user) {
            Some(entry) => Arc::clone(&entry.allowance),
            None => self.find(shard, user, name),
        };
        self.shards.with(name, found)
    }

    /// Returns the allowance of a user if the user has an entry.
    pub(super) fn known(&self, name: &str) -> Option<Arc<Allowance>> {
        self.shards.with(name, |shard, user| {
            let Shard {
                connected, idle, ..
            } = shard;
            let entry = connected.get_mut(&user).or_else(|| idle.get_mut(user));
            entry.map(|entry| Arc::clone(&entry.allowance))
        })
    }

    pub(super) const fn spending(&self) -> &Spending {
        &self.spending
    }

    /// Returns the time in which one event of a class recovers, and the size of its burst. `None`
    /// if there is no limit.
    pub(super) fn pace(&self, class: Class) -> Option<(Duration, u32)> {
        let quota = self.quotas.of_class(class)?;
        let count = quota.window.as_nanos() / quota.step.as_nanos().max(1);
        Some((quota.step, u32::try_from(count).unwrap_or(u32::MAX)))
    }

    /// Charges events that happened on another server and alone are used up after `rest`.
    pub(super) fn charge_class(
        &self,
        class: Class,
        allowance: &Allowance,
        count: u32,
        rest: Duration,
    ) {
        let quota = self.quotas.of_class(class);
        if let (Some(quota), Some(rested)) = (quota, allowance.rested.get(class as usize)) {
            let cost = quota.step.saturating_mul(count);
            let most = quota.window.saturating_mul(self.spending.debt());
            rested.charge(self.now(), cost, rest.min(cost), most);
        }
    }

    /// Returns the time since the start, on which all allowances are based.
    pub(super) fn now(&self) -> Duration {
        self.started.elapsed()
    }

    /// Charges an event of a class to an allowance.
    ///
    /// # Errors
    ///
    /// Returns when to retry if the limit is reached.
    pub(crate) fn take(&self, class: Class, allowance: &Arc<Allowance>) -> Result<(), RetryAfter> {
        // All other names are those of users, whose clients send one event at a time.
        let is_shared = allowance.name.starts_with('\0');
        let callers = if is_shared {
            Callers::Many
        } else {
            Callers::One
        };
        self.take_for(class, allowance, callers)
    }

    fn take_for(
        &self,
        class: Class,
        allowance: &Arc<Allowance>,
        callers: Callers,
    ) -> Result<(), RetryAfter> {
        let Some(quota) = self.quotas.of_class(class) else {
            return Ok(());
        };
        let Some(rested) = allowance.rested.get(class as usize) else {
            return Ok(());
        };
        let now = self.now();
        rested
            // The budget is a single atomic number, so an event takes no lock.
            .take(now, quota.step, quota.window)
            .inspect(|()| self.spending.note(class, allowance, now, quota.step))
            .map_err(|wait| {
                self.metrics.count(class.counter());
                let lines = || allowance.lines.get_or_init(Box::default);
                let lines = (callers == Callers::Many).then(lines);
                match lines.and_then(|lines| lines.get(class as usize)) {
                    Some(line) => line.advise(now, wait, quota.step, quota.window),
                    None => RetryAfter::new(wait),
                }
            })
    }

    /// Returns whether a user may open another connection.
    pub(crate) fn may_connect(&self, user: &str) -> bool {
        let connections = self.shards.with(user, |shard, user| {
            let entry = shard.connected.get(&user);
            entry.map_or(0, |entry| entry.connections)
        });
        let may = self.quotas.permit(connections.saturating_add(1));
        if !may {
            self.metrics.count(Counter::RefusedUser);
        }
        may
    }

    /// Adds a connection of a user. Returns the user's allowance, and `false` if there are too many
    /// connections. The connection is counted in any case, until [`leave`](Self::leave).
    pub(crate) fn enter(&self, name: &str) -> (Arc<Allowance>, bool) {
        let (allowance, connections) = self.shards.with(name, |shard, user| {
            // The allowance outlives the last connection, so that reconnecting does not reset a
            // limit.
            let known = shard.idle.remove(user);
            let Shard {
                connected, shared, ..
            } = shard;
            let user = match connected.entry(user) {
                Slot::Occupied(slot) => slot.into_mut(),
                Slot::Vacant(slot) => slot.insert(known.unwrap_or_else(|| {
                    // If users share an allowance, it may contain this user's debt.
                    let shared = self.indebted(shared);
                    User::new(shared.unwrap_or_else(|| Allowance::new(name)))
                })),
            };
            // The connection is counted first, so that two concurrent connections do not both take
            // the last slot.
            user.connections += 1;
            (Arc::clone(&user.allowance), user.connections)
        });
        let may = self.quotas.permit(connections);
        (allowance, may)
    }

    /// Removes a connection of a user.
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

    /// Sweeps entries periodically. Runs until dropped.
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
                idle,
                shared,
            } = &mut *shard;
            idle.sweep(|user| self.debt(&user.allowance, now));
            let _ = self.indebted(shared);
            if connected.is_empty() && connected.capacity() > MAX_CAPACITY {
                *connected = Entries::default();
            }
            left += connected.len() + idle.len();
        }
        let left = i64::try_from(left).unwrap_or(i64::MAX);
        let gauge = self.metrics.gauge(Gauge::LimitedUsers);
        self.metrics.shift(Gauge::LimitedUsers, left - gauge);
    }

    /// Returns the allowance of a user that is not connected.
    fn find(&self, shard: &mut Shard, user: u64, name: &str) -> Arc<Allowance> {
        if let Some(entry) = shard.idle.get_mut(user) {
            return Arc::clone(&entry.allowance);
        }
        if let Some(shared) = self.indebted(&mut shard.shared) {
            self.metrics.count(Counter::UsersSharing);
            return shared;
        }
        let allowance = Allowance::new(name);
        if self.make_room(shard) {
            let entry = User::new(Arc::clone(&allowance));
            shard.idle.insert(user, entry);
            return allowance;
        }
        self.metrics.count(Counter::UsersSharing);
        Arc::clone(shard.shared.get_or_insert_with(Allowance::shared))
    }

    /// Retains the entry of a user whose last connection has ended.
    fn remember(&self, shard: &mut Shard, user: u64, entry: User) {
        let is_shared = |shared| Arc::ptr_eq(shared, &entry.allowance);
        if shard.shared.as_ref().is_some_and(is_shared) {
            return;
        }
        if self.make_room(shard) {
            shard.idle.insert(user, entry);
        } else if self.debt(&entry.allowance, self.started.elapsed()) > MAX_EVICTABLE_DEBT {
            // The debt is retained: if this user returns as a new user, it shares that debt.
            let shared = shard.shared.get_or_insert_with(Allowance::shared);
            for (shared, owed) in shared.rested.iter().zip(&entry.allowance.rested) {
                let owed = owed.get().time();
                shared.charge(Duration::ZERO, owed, owed, owed);
            }
        }
    }

    /// Makes room for another user without connections. Returns `false` if that is impossible.
    fn make_room(&self, shard: &mut Shard) -> bool {
        let now = self.started.elapsed();
        let debt = |user: &User| self.debt(&user.allowance, now);
        let made = shard.idle.make_room(self.capacity, now, debt);
        if let Ok(evicted) = made {
            self.metrics.add(Counter::UsersEvicted, evicted as u64);
        }
        made.is_ok()
    }

    /// Returns the shared allowance while it has debt, and removes it afterwards.
    fn indebted(&self, shared: &mut Option<Arc<Allowance>>) -> Option<Arc<Allowance>> {
        let now = self.started.elapsed();
        shared.take_if(|shared| self.debt(shared, now) <= 0.0);
        shared.clone()
    }

    /// Returns the largest debt of an allowance, as a fraction of a budget.
    fn debt(&self, allowance: &Arc<Allowance>, now: Duration) -> f64 {
        let budgets = allowance.rested.iter().zip(Class::ALL);
        let debts = budgets.map(|(rested, class)| {
            let owed = rested.get().time().saturating_sub(now);
            let owed = owed.as_secs_f64();
            let quota = self.quotas.of_class(class);
            quota.map_or(0.0, |quota| owed / quota.window.as_secs_f64())
        });
        // A socket that is disconnecting may still charge the allowance, so it is removed later.
        let is_held = Arc::strong_count(allowance) > 1;
        debts.fold(if is_held { f64::MIN_POSITIVE } else { 0.0 }, f64::max)
    }
}

impl Allowance {
    fn new(name: &str) -> Arc<Self> {
        Arc::new(Self {
            name: name.into(),
            rested: Default::default(),
            lines: OnceLock::new(),
            notice_throttles: OnceLock::new(),
            unreported: UnreportedEvents::default(),
        })
    }

    /// Creates an allowance that several users share. No user has its name.
    fn shared() -> Arc<Self> {
        Self::new("\0shared")
    }

    /// Returns whether to notify a rate-limited user whose event requested no acknowledgement: at
    /// most once a second.
    pub(crate) fn may_notify(&self, class: Class) -> bool {
        let throttle = self
            .notice_throttles
            .get_or_init(Box::default)
            .get(class as usize);
        throttle.is_none_or(|throttle| throttle.permit().is_some())
    }
}

/// Maximum capacity that an empty map retains.
const MAX_CAPACITY: usize = 256;

impl fmt::Debug for Users {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Users").finish_non_exhaustive()
    }
}

impl Inventoried for Arc<Users> {
    fn report(&self, inventory: &mut Inventory) {
        let users = u64::try_from(self.metrics.gauge(Gauge::LimitedUsers)).unwrap_or(0);
        inventory.add("limited users", users, None);
        inventory.add(
            "users with unreported events",
            self.spending.len() as u64,
            None,
        );
    }
}

#[cfg(test)]
mod tests;
