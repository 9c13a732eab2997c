//! Rate limit for log lines about single client addresses: for each address a burst of lines, then
//! one line per second. The caller passes the time.

use std::time::{Duration, Instant};

use super::{
    debts::Debts,
    hashed::{SHARDS, Shards},
    pace::TokenBucket,
};
use crate::network::Network;

/// The limit of the lines about clients that connect and disconnect.
#[derive(Debug)]
pub(crate) struct AddressLog {
    since: Instant,
    shards: Shards<Shard>,
}

#[derive(Debug, Default)]
struct Shard {
    known: Debts<Lines>,
    /// The lines about addresses that do not fit in the table.
    shared: Lines,
}

/// The lines about one address.
#[derive(Clone, Copy, Debug, Default)]
struct Lines {
    rested: TokenBucket<Duration>,
    /// The number of lines suppressed since the last permitted one.
    suppressed: u64,
}

/// The number of lines about one address in a burst.
const BURST: u32 = 100;
/// The time between two lines after the burst.
const PACE: Duration = Duration::from_secs(1);
/// The number of addresses in a shard.
const CAPACITY: usize = 16_384 / SHARDS;

impl AddressLog {
    /// Makes a log without addresses.
    pub(crate) fn new() -> Self {
        Self {
            since: now(),
            shards: Shards::new(),
        }
    }

    /// Returns `Some` if a line about this address may be written now, with the number of lines
    /// left out since the last one.
    pub(crate) fn permit(&self, address: Network) -> Option<u64> {
        self.permit_at(address, now().saturating_duration_since(self.since))
    }

    fn permit_at(&self, address: Network, now: Duration) -> Option<u64> {
        self.shards.with(address, |shard, address| {
            let Shard { known, shared } = shard;
            let debt = |lines: &Lines| {
                let owed = lines.rested.time().saturating_sub(now);
                owed.as_secs_f64() / (BURST * PACE).as_secs_f64()
            };
            let is_known = known.get_mut(address).is_some();
            if !is_known && known.make_room(CAPACITY, now, debt).is_ok() {
                known.insert(address, Lines::default());
            }
            known.get_mut(address).unwrap_or(shared).permit(now)
        })
    }
}

impl Lines {
    fn permit(&mut self, now: Duration) -> Option<u64> {
        if let Ok(rested) = self.rested.take(now, PACE, BURST * PACE) {
            self.rested = rested;
            Some(std::mem::take(&mut self.suppressed))
        } else {
            self.suppressed += 1;
            None
        }
    }
}

/// Returns the time of tokio's clock, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use super::*;

    fn address(number: u32) -> Network {
        Network::of_client(IpAddr::V4(Ipv4Addr::from_bits(number)))
    }

    #[test]
    fn an_address_writes_a_burst_and_then_a_line_a_second() {
        let log = AddressLog::new();
        let written = |second: u64| {
            let at = |n| Duration::from_millis(second * 1000 + n);
            let lines = (0..1000).filter_map(|n| log.permit_at(address(1), at(n)));
            lines.collect::<Vec<_>>()
        };
        assert_eq!(written(0).len(), 100);
        assert_eq!(written(1), [900]);
        assert_eq!(written(2), [999]);
        assert_eq!(log.permit_at(address(2), Duration::from_secs(2)), Some(0));
    }

    #[test]
    fn a_flood_of_addresses_gives_none_of_them_a_new_burst() {
        let log = AddressLog::new();
        let now = Duration::ZERO;
        while log.permit_at(address(0), now).is_some() {}
        for number in 1..200_000 {
            assert_eq!(log.permit_at(address(number), now), Some(0));
        }
        assert_eq!(log.permit_at(address(0), now), None);
        let known: usize = log
            .shards
            .iter()
            .map(|shard| shard.lock().known.len())
            .sum();
        assert!(known <= CAPACITY * SHARDS, "{known}");
    }
}
