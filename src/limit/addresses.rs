//! What is known of client addresses: how often each has connected, how many connections it has,
//! and how often it has broken a limit. Time is an argument.
//!
//! The table is bounded whatever comes: it has two generations, and when the young one is full the
//! old one is forgotten. An address that is seen again becomes young, so those in use stay. Open
//! connections are counted beside it, and there are never more counts than connections.
//!
//! Addresses are known by their hashes alone.

use std::{collections::hash_map::Entry as Slot, time::Duration};

use parking_lot::Mutex;

use super::{
    hashed::{ByHash, SHARDS, Shards},
    pace::Rested,
};
use crate::network::Network;

/// How often something may happen: `count` at once, and as many again within `window`.
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
    /// Addresses in one generation of a shard.
    generation: usize,
}

#[derive(Debug, Default)]
struct Shard {
    young: ByHash<Record>,
    old: ByHash<Record>,
    /// Open connections. An address without one has no entry.
    live: ByHash<u32>,
}

/// Times are since the start of the server.
#[derive(Clone, Copy, Debug, Default)]
struct Record {
    /// When all connects of the quota are there again.
    rested: Rested<Duration>,
    /// The offences of each account.
    strikes: [Strikes; Account::COUNT],
}

/// What is counted apart of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Account {
    /// Limits of rates that it has broken.
    Limits,
    /// Credentials that were refused: people mistype, and tokens end.
    Credentials,
}

impl Account {
    const COUNT: usize = 2;
}

/// How often something has happened since the first time that counts.
#[derive(Clone, Copy, Debug, Default)]
struct Strikes {
    count: u32,
    since: Duration,
}

impl Strikes {
    /// Adds one. Returns whether that was once too often; the count starts again from zero then.
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

/// Why an address may not connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// The client has connected too often, and may connect again after this time.
    Rate(Duration),
    /// The client has too many connections.
    Live,
}

impl Addresses {
    /// A table of about `capacity` addresses at most.
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            shards: Shards::new(),
            generation: (capacity / SHARDS / 2).max(1),
        }
    }

    /// An address connects. It counts as connected until [`leave`](Self::leave).
    pub(super) fn enter(
        &self,
        client: Network,
        quota: Quota,
        max_live: u32,
        now: Duration,
    ) -> Result<(), Full> {
        self.shards.with(client, |shard, client| {
            let live = shard.live.get(&client).copied().unwrap_or_default();
            if max_live > 0 && live >= max_live {
                return Err(Full::Live);
            }
            // A client with too many connections was refused above, and is not charged for the
            // attempt.
            if quota.count > 0 {
                let record = shard.record(client, self.generation);
                let step = quota.window / quota.count;
                let rested = record.rested.take(now, step, quota.window);
                record.rested = rested.map_err(Full::Rate)?;
            }
            *shard.live.entry(client).or_default() += 1;
            Ok(())
        })
    }

    /// A connection has ended.
    pub(super) fn leave(&self, client: Network) {
        self.shards.with(client, |shard, client| {
            if let Slot::Occupied(mut slot) = shard.live.entry(client) {
                // Entries are above zero, so this does not underflow.
                *slot.get_mut() -= 1;
                if *slot.get() == 0 {
                    slot.remove();
                }
            }
            if shard.live.is_empty() && shard.live.capacity() > KEPT {
                shard.live = ByHash::default();
            }
        });
    }

    /// Counts an offence of an address. Returns whether that was once too often; the count starts
    /// again from zero then.
    pub(super) fn violate(
        &self,
        client: Network,
        account: Account,
        quota: Quota,
        now: Duration,
    ) -> bool {
        if quota.count == 0 {
            return false;
        }
        self.shards.with(client, |shard, client| {
            let record = shard.record(client, self.generation);
            let strikes = record.strikes.get_mut(account as usize);
            strikes.is_some_and(|strikes| strikes.add(quota, now))
        })
    }

    /// Addresses that are remembered.
    pub(super) fn len(&self) -> usize {
        let len = |shard: &Mutex<Shard>| {
            let shard = shard.lock();
            shard.young.len() + shard.old.len()
        };
        self.shards.iter().map(len).sum()
    }

    /// Forgets the addresses of which nothing is left to remember.
    pub(super) fn sweep(&self, window: Duration, now: Duration) {
        for shard in self.shards.iter() {
            let mut shard = shard.lock();
            let Shard { young, old, .. } = &mut *shard;
            for generation in [young, old] {
                generation.retain(|_, record| {
                    let has_struck = |strikes: &Strikes| strikes.is_within(window, now);
                    record.rested.time() > now || record.strikes.iter().any(has_struck)
                });
                if generation.is_empty() && generation.capacity() > KEPT {
                    *generation = ByHash::default();
                }
            }
        }
    }
}

/// Entries of room that an empty map keeps.
const KEPT: usize = 256;

impl Shard {
    fn record(&mut self, client: u64, generation: usize) -> &mut Record {
        let is_full = self.young.len() >= generation;
        if is_full && !self.young.contains_key(&client) {
            self.old = std::mem::take(&mut self.young);
        }
        let old = &mut self.old;
        let known = self.young.entry(client);
        known.or_insert_with(|| old.remove(&client).unwrap_or_default())
    }
}

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

    fn client(text: &str) -> Network {
        Network::of_client(text.parse().unwrap())
    }

    #[test]
    fn an_address_connects_as_often_as_its_quota_says_and_then_at_its_pace() {
        let addresses = Addresses::new(1000);
        let client = client("192.0.2.1");
        for _ in 0..60 {
            assert_eq!(addresses.enter(client, STANDARD, 0, NOW), Ok(()));
        }
        let wait = Duration::from_secs(5);
        let refused = Err(Full::Rate(wait));
        assert_eq!(addresses.enter(client, STANDARD, 0, NOW), refused);
        assert_eq!(addresses.enter(client, STANDARD, 0, NOW), refused);
        assert_eq!(addresses.enter(client, STANDARD, 0, NOW + wait), Ok(()));
        assert_eq!(addresses.enter(client, STANDARD, 0, NOW + wait), refused);
    }

    #[test]
    fn the_addresses_of_one_ipv6_subnet_are_one_client_and_others_are_not() {
        let addresses = Addresses::new(1000);
        let quota = Quota {
            count: 1,
            ..STANDARD
        };
        let enter = |text| addresses.enter(client(text), quota, 0, NOW).is_ok();
        assert!(enter("2001:db8:0:1::1"));
        assert!(!enter("2001:db8:0:1:ffff::2"));
        assert!(enter("2001:db8:0:2::1"));
        assert!(enter("192.0.2.1"));
        assert!(!enter("::ffff:192.0.2.1"));
    }

    #[test]
    fn connections_are_counted_until_they_end() {
        let addresses = Addresses::new(1000);
        let client = client("192.0.2.1");
        assert_eq!(addresses.enter(client, STANDARD, 2, NOW), Ok(()));
        assert_eq!(addresses.enter(client, STANDARD, 2, NOW), Ok(()));
        assert_eq!(addresses.enter(client, STANDARD, 2, NOW), Err(Full::Live));
        addresses.leave(client);
        assert_eq!(addresses.enter(client, STANDARD, 2, NOW), Ok(()));
    }

    #[test]
    fn violations_count_within_their_window_only() {
        let addresses = Addresses::new(1000);
        let client = client("192.0.2.1");
        let quota = Quota {
            count: 3,
            window: MINUTE,
        };
        let violate = |now| addresses.violate(client, Account::Limits, quota, now);
        assert!(!violate(NOW));
        assert!(!violate(NOW + MINUTE));
        assert!(!violate(NOW + 3 * MINUTE));
        assert!(!violate(NOW + 3 * MINUTE));
        assert!(violate(NOW + 3 * MINUTE));
        assert!(!violate(NOW + 3 * MINUTE));
    }

    #[test]
    fn refused_credentials_are_counted_apart_from_broken_limits() {
        let addresses = Addresses::new(1000);
        let client = client("192.0.2.1");
        let quota = Quota {
            count: 3,
            window: MINUTE,
        };
        let violate = |account| addresses.violate(client, account, quota, NOW);
        for account in [Account::Limits, Account::Credentials] {
            assert!(!violate(account));
            assert!(!violate(account));
        }
        assert!(violate(Account::Credentials));
        assert!(violate(Account::Limits));
        // Both are remembered until they are over.
        assert!(!violate(Account::Credentials));
        addresses.sweep(MINUTE, NOW + MINUTE);
        assert_eq!(addresses.len(), 1);
        addresses.sweep(MINUTE, NOW + 2 * MINUTE);
        assert_eq!(addresses.len(), 0);
    }

    #[test]
    fn a_million_addresses_take_no_more_room_than_was_given() {
        let addresses = Addresses::new(1600);
        let quota = Quota {
            count: 1,
            ..STANDARD
        };
        let busy = client("192.0.2.1");
        assert_eq!(addresses.enter(busy, quota, 0, NOW), Ok(()));
        for subnet in 0..1_000_000_u128 {
            let address = IpAddr::V6(Ipv6Addr::from_bits((0x2001_0db8 << 96) | (subnet << 64)));
            let client = Network::of_client(address);
            assert_eq!(addresses.enter(client, quota, 0, NOW), Ok(()));
            addresses.leave(client);
            if subnet % 32 == 0 {
                // Whoever keeps trying is not forgotten.
                assert!(addresses.enter(busy, quota, 0, NOW).is_err(), "{subnet}");
            }
        }
        assert!(addresses.len() <= 1600, "{}", addresses.len());
        addresses.sweep(MINUTE, NOW + Duration::from_secs(301));
        assert_eq!(addresses.len(), 0);
    }
}
