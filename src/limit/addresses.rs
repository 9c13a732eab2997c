//! State of client addresses: recent connects, open connections and limit violations. The caller
//! passes the time.
//!
//! The table is bounded, and never evicts addresses with large debts ([`Debts`]). When it is full
//! of such addresses, new ones share one record, and their violations are not counted. Open
//! connections are counted separately, and there are never more counts than connections.
//!
//! Addresses are stored only as hashes.

use std::{collections::hash_map::Entry as Slot, time::Duration};

use parking_lot::Mutex;

use super::{
    debts::Debts,
    hashed::{ByHash, SHARDS, Shards},
    pace::{RetryAfter, TokenBucket, WaitingLine},
};
use crate::network::Network;

/// A rate limit: a burst of `count`, and `count` more within each `window`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Quota {
    /// 0 for no limit.
    pub(super) count: u32,
    pub(super) window: Duration,
}

/// The table of addresses.
#[derive(Debug)]
pub(super) struct Addresses {
    shards: Shards<Shard>,
    /// The maximum number of addresses in a shard.
    capacity: usize,
    budgets: Budgets,
}

/// The quotas of an address, which also scale its debts.
#[derive(Clone, Copy, Debug)]
pub(super) struct Budgets {
    pub(super) connects: Quota,
    pub(super) joins: Quota,
    pub(super) lookups: Quota,
    /// The number of offences of each account after which an address is blocked.
    pub(super) offences: [Quota; Account::COUNT],
}

#[derive(Debug, Default)]
struct Shard {
    known: Debts<Record>,
    /// The record that new addresses share while the table is full of debts.
    shared: Record,
    /// The number of open connections. Addresses without connections have no entry.
    live: ByHash<u32>,
}

/// The state of one address. Times are relative to the start of the server.
#[derive(Debug, Default)]
struct Record {
    /// When the quota of connects is fully restored.
    rested: TokenBucket<Duration>,
    /// When the quota of joins is fully restored.
    joined: TokenBucket<Duration>,
    /// The clients of the address that are refused a connect or a join.
    connecting: WaitingLine,
    joining: WaitingLine,
    /// When the quota of lookups is fully restored.
    looked_up: TokenBucket<Duration>,
    /// The offences of each account.
    strikes: [Strikes; Account::COUNT],
}

/// The kinds of offences, which are counted separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// Exceeded rate limits.
    Limits,
    /// Refused credentials. Counted separately because users mistype passwords and tokens expire.
    Credentials,
}

impl Account {
    pub(super) const COUNT: usize = 2;
}

impl Quota {
    /// Returns the time that one use costs, or `None` if nothing is limited.
    fn step(self) -> Option<Duration> {
        (self.count > 0).then(|| self.window / self.count)
    }

    /// Returns the fraction of the quota that is still owed.
    fn debt(self, rested: TokenBucket<Duration>, now: Duration) -> f64 {
        let owed = rested.time().saturating_sub(now);
        if self.count == 0 || owed.is_zero() {
            return 0.0;
        }
        owed.as_secs_f64() / self.window.as_secs_f64()
    }
}

impl Record {
    /// Returns the largest fraction of a quota that the address owes.
    fn debt(&self, budgets: &Budgets, now: Duration) -> f64 {
        let strikes = self.strikes.iter().zip(&budgets.offences);
        let offences = strikes.map(|(strikes, quota)| {
            let counts = quota.count > 0 && strikes.is_within(quota.window, now);
            f64::from(if counts { strikes.count } else { 0 }) / f64::from(quota.count.max(1))
        });
        let connects = budgets.connects.debt(self.rested, now);
        let joins = budgets.joins.debt(self.joined, now);
        let lookups = budgets.lookups.debt(self.looked_up, now);
        offences.fold(connects.max(joins).max(lookups), f64::max)
    }
}

/// The number of offences since the first one in the window.
#[derive(Clone, Copy, Debug, Default)]
struct Strikes {
    count: u32,
    since: Duration,
}

impl Strikes {
    /// Adds an offence. Returns whether the quota is reached; the count then restarts at zero.
    fn add(&mut self, quota: Quota, now: Duration) -> bool {
        if !self.is_within(quota.window, now) {
            *self = Self {
                count: 0,
                since: now,
            };
        }
        self.count += 1;
        let is_over = self.count >= quota.count;
        if is_over {
            self.count = 0;
        }
        is_over
    }

    fn is_within(&self, window: Duration, now: Duration) -> bool {
        self.count > 0 && now.saturating_sub(self.since) <= window
    }
}

/// The reason why an address is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The client connected too often, and may connect again after this time.
    Rate(RetryAfter),
    /// The client has too many open connections.
    Live,
}

impl Addresses {
    /// Creates a table of at most about `capacity` addresses.
    pub(super) fn new(capacity: usize, budgets: Budgets) -> Self {
        Self {
            shards: Shards::new(),
            capacity: (capacity / SHARDS).max(1),
            budgets,
        }
    }

    /// Registers a connection of an address, until [`leave`](Self::leave).
    pub(super) fn enter(&self, client: Network, max_live: u32, now: Duration) -> Result<(), Full> {
        let quota = self.budgets.connects;
        self.shards.with(client, |shard, client| {
            let live = shard.live.get(&client).copied().unwrap_or_default();
            if max_live > 0 && live >= max_live {
                return Err(Full::Live);
            }
            // A client with too many connections was refused above and is not charged for the
            // attempt.
            if let Some(step) = quota.step() {
                let (record, _) = self.record(shard, client, now);
                let rested = record.rested.take(now, step, quota.window);
                record.rested = rested.map_err(|wait| {
                    let line = &record.connecting;
                    Full::Rate(line.advise(now, wait, step, quota.window))
                })?;
            }
            *shard.live.entry(client).or_default() += 1;
            Ok(())
        })
    }

    /// Charges an address for a request to join a namespace.
    ///
    /// # Errors
    ///
    /// Returns the time to wait before the next join.
    pub(super) fn join(&self, client: Network, now: Duration) -> Result<(), RetryAfter> {
        let quota = self.budgets.joins;
        let Some(step) = quota.step() else {
            return Ok(());
        };
        self.shards.with(client, |shard, client| {
            let (record, _) = self.record(shard, client, now);
            let joined = record.joined.take(now, step, quota.window);
            record.joined =
                joined.map_err(|wait| record.joining.advise(now, wait, step, quota.window))?;
            Ok(())
        })
    }

    /// Charges an address for a lookup on other servers.
    ///
    /// # Errors
    ///
    /// Returns the time to wait before the next lookup.
    pub(super) fn look_up(&self, client: Network, now: Duration) -> Result<(), Duration> {
        let quota = self.budgets.lookups;
        let Some(step) = quota.step() else {
            return Ok(());
        };
        self.shards.with(client, |shard, client| {
            let (record, _) = self.record(shard, client, now);
            record.looked_up = record.looked_up.take(now, step, quota.window)?;
            Ok(())
        })
    }

    /// Removes a connection of an address.
    pub(super) fn leave(&self, client: Network) {
        self.shards.with(client, |shard, client| {
            if let Slot::Occupied(mut slot) = shard.live.entry(client) {
                // Entries are above zero, so this does not underflow.
                *slot.get_mut() -= 1;
                if *slot.get() == 0 {
                    slot.remove();
                }
            }
            if shard.live.is_empty() && shard.live.capacity() > RETAINED_CAPACITY {
                shard.live = ByHash::default();
            }
        });
    }

    /// Counts an offence of an address. Returns whether its quota is reached; the count then
    /// restarts at zero.
    pub(super) fn violate(&self, client: Network, account: Account, now: Duration) -> bool {
        let Some(quota) = self.budgets.offences.get(account as usize).copied() else {
            return false;
        };
        if quota.count == 0 {
            return false;
        }
        self.shards.with(client, |shard, client| {
            let (record, is_own) = self.record(shard, client, now);
            let strikes = record.strikes.get_mut(account as usize);
            // A shared record contains offences of other addresses, which must not cause a block.
            let strikes = strikes.filter(|_| is_own);
            strikes.is_some_and(|strikes| strikes.add(quota, now))
        })
    }

    /// Returns the number of tracked addresses.
    pub(super) fn len(&self) -> usize {
        let len = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard.known.len()
        };
        self.shards.iter().map(len).sum()
    }

    /// Removes the addresses that owe nothing.
    pub(super) fn sweep(&self, now: Duration) {
        for shard in self.shards.iter() {
            let debt = |record: &Record| record.debt(&self.budgets, now);
            shard.lock().known.sweep(debt);
        }
    }

    /// Returns the record of an address and `true`, or the shared record and `false` if the table
    /// is full.
    fn record<'a>(
        &self,
        shard: &'a mut Shard,
        client: u64,
        now: Duration,
    ) -> (&'a mut Record, bool) {
        let Shard { known, shared, .. } = shard;
        if known.get_mut(client).is_none() {
            let debt = |record: &Record| record.debt(&self.budgets, now);
            if known.make_room(self.capacity, now, debt).is_err() {
                return (shared, false);
            }
            known.insert(client, Record::default());
        }
        match known.get_mut(client) {
            Some(record) => (record, true),
            None => (shared, false),
        }
    }
}

/// The capacity up to which an empty map is retained.
const RETAINED_CAPACITY: usize = 256;

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv6Addr};

    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);
    const NOW: Duration = Duration::ZERO;
    const STANDARD: Quota = Quota {
        count: 60,
        window: Duration::from_secs(300),
    };

    fn table(capacity: usize, connects: Quota) -> Addresses {
        let joins = Quota {
            count: 10,
            window: MINUTE,
        };
        let offences = Quota {
            count: 3,
            window: MINUTE,
        };
        let budgets = Budgets {
            connects,
            joins,
            lookups: joins,
            offences: [offences; Account::COUNT],
        };
        Addresses::new(capacity, budgets)
    }

    fn client(text: &str) -> Network {
        Network::of_client(text.parse().unwrap())
    }

    #[test]
    fn address_connects_within_its_quota_and_then_at_its_rate() {
        let addresses = table(1000, STANDARD);
        let client = client("192.0.2.1");
        for _ in 0..60 {
            assert_eq!(addresses.enter(client, 0, NOW), Ok(()));
        }
        let wait = Duration::from_secs(5);
        let refused = |wait| Err(Full::Rate(RetryAfter::new(wait)));
        assert_eq!(addresses.enter(client, 0, NOW), refused(wait));
        assert_eq!(addresses.enter(client, 0, NOW), refused(2 * wait));
        assert_eq!(addresses.enter(client, 0, NOW + wait), Ok(()));
        assert_eq!(addresses.enter(client, 0, NOW + wait), refused(2 * wait));
    }

    #[test]
    fn addresses_of_one_ipv6_subnet_count_as_one_client() {
        let quota = Quota {
            count: 1,
            ..STANDARD
        };
        let addresses = table(1000, quota);
        let enter = |text| addresses.enter(client(text), 0, NOW).is_ok();
        assert!(enter("2001:db8:0:1::1"));
        assert!(!enter("2001:db8:0:1:ffff::2"));
        assert!(enter("2001:db8:0:2::1"));
        assert!(enter("192.0.2.1"));
        assert!(!enter("::ffff:192.0.2.1"));
    }

    #[test]
    fn connections_are_counted_until_they_end() {
        let addresses = table(1000, STANDARD);
        let client = client("192.0.2.1");
        assert_eq!(addresses.enter(client, 2, NOW), Ok(()));
        assert_eq!(addresses.enter(client, 2, NOW), Ok(()));
        assert_eq!(addresses.enter(client, 2, NOW), Err(Full::Live));
        addresses.leave(client);
        assert_eq!(addresses.enter(client, 2, NOW), Ok(()));
    }

    #[test]
    fn violations_count_within_their_window_only() {
        let addresses = table(1000, STANDARD);
        let client = client("192.0.2.1");
        let violate = |now| addresses.violate(client, Account::Limits, now);
        assert!(!violate(NOW));
        assert!(!violate(NOW + MINUTE));
        assert!(!violate(NOW + 3 * MINUTE));
        assert!(!violate(NOW + 3 * MINUTE));
        assert!(violate(NOW + 3 * MINUTE));
        assert!(!violate(NOW + 3 * MINUTE));
    }

    #[test]
    fn refused_credentials_are_counted_apart_from_broken_limits() {
        let addresses = table(1000, STANDARD);
        let client = client("192.0.2.1");
        let violate = |account| addresses.violate(client, account, NOW);
        for account in [Account::Limits, Account::Credentials] {
            assert!(!violate(account));
            assert!(!violate(account));
        }
        assert!(violate(Account::Credentials));
        assert!(violate(Account::Limits));
        // Both counts remain until they expire.
        assert!(!violate(Account::Credentials));
        addresses.sweep(NOW + MINUTE);
        assert_eq!(addresses.len(), 1);
        addresses.sweep(NOW + 2 * MINUTE);
        assert_eq!(addresses.len(), 0);
    }

    fn subnet(number: u128) -> Network {
        let bits = (0x2001_0db8 << 96) | (number << 64);
        Network::of_client(IpAddr::V6(Ipv6Addr::from_bits(bits)))
    }

    #[test]
    fn a_million_addresses_stay_within_the_configured_memory() {
        let addresses = table(1600, STANDARD);
        let busy = client("192.0.2.1");
        while addresses.enter(busy, 0, NOW).is_ok() {}
        for number in 0..1_000_000 {
            let client = subnet(number);
            assert_eq!(addresses.enter(client, 0, NOW), Ok(()));
            addresses.leave(client);
        }
        // The table evicts addresses with one connect before those with large debts.
        assert!(addresses.enter(busy, 0, NOW).is_err());
        assert!(addresses.len() <= 1600, "{}", addresses.len());
        addresses.sweep(NOW + Duration::from_secs(301));
        assert_eq!(addresses.len(), 0);
    }

    #[test]
    fn new_addresses_share_a_quota_while_the_table_is_full_of_debts() {
        let quota = Quota {
            count: 1,
            ..STANDARD
        };
        let addresses = table(1600, quota);
        let busy = client("192.0.2.1");
        assert_eq!(addresses.enter(busy, 0, NOW), Ok(()));
        let admitted =
            (0..100_000).filter(|number| addresses.enter(subnet(*number), 0, NOW).is_ok());
        assert!(admitted.count() <= 1600 + SHARDS);
        assert!(addresses.enter(busy, 0, NOW).is_err());
        // An offence does not count against an address that uses the shared record.
        let struck =
            |number| (0..100).any(|_| addresses.violate(subnet(number), Account::Limits, NOW));
        assert!((99_000..99_100).all(|number| !struck(number)));
        let later = NOW + Duration::from_secs(301);
        assert_eq!(addresses.enter(subnet(100_000), 0, later), Ok(()));
    }

    #[test]
    fn an_address_joins_as_often_as_its_quota_allows() {
        let addresses = table(1000, STANDARD);
        let client = client("192.0.2.1");
        for _ in 0..10 {
            assert_eq!(addresses.join(client, NOW), Ok(()));
        }
        let wait = MINUTE / 10;
        assert_eq!(addresses.join(client, NOW), Err(RetryAfter::new(wait)));
        assert_eq!(addresses.join(client, NOW + wait), Ok(()));
    }
}
