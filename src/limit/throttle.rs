//! Limits the receive rate of one connection: packets and bytes per second, before their contents
//! are parsed. The caller passes the time.

use std::time::{Duration, Instant};

use super::pace::TokenBucket;

/// The rate limits of one connection. Excess data is read later, not dropped.
#[derive(Debug)]
pub(crate) struct Throttle {
    packets: Bucket,
    bytes: Bucket,
    timeout: Duration,
    /// The time since which the connection has been continuously over its limits.
    over_since: Option<Instant>,
    /// The time until which reading is paused.
    until: Option<Instant>,
}

/// The configured rates of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Rates {
    /// Packets per second; 0 for no limit.
    pub(crate) packets: u32,
    /// Bytes per second; 0 for no limit.
    pub(crate) bytes: u32,
    /// Maximum time that a connection may exceed its limits.
    pub(crate) timeout: Duration,
}

/// The burst, in seconds' worth of the rate.
const BURST: Duration = Duration::from_secs(2);
/// The minimum capacity before a paused connection is read again. Waking it for every packet would
/// cost more than the packet.
const GRAIN: Duration = Duration::from_millis(50);

impl Throttle {
    /// Creates the limits of a connection. Returns `None` if nothing is limited.
    pub(crate) fn new(rates: Rates, now: Instant) -> Option<Box<Self>> {
        if rates.packets == 0 && rates.bytes == 0 {
            return None;
        }
        Some(Box::new(Self {
            packets: Bucket::new(rates.packets, now),
            bytes: Bucket::new(rates.bytes, now),
            timeout: rates.timeout,
            over_since: None,
            until: None,
        }))
    }

    /// Charges a packet of any kind.
    pub(crate) fn charge_packet(&mut self, now: Instant) {
        self.packets.charge(1, now);
    }

    /// Charges received bytes.
    pub(crate) fn charge_bytes(&mut self, count: usize, now: Instant) {
        self.bytes.charge(count, now);
    }

    /// Returns the time until which reading must pause, or `None` if reading may continue.
    pub(crate) fn delay(&mut self, now: Instant) -> Option<Instant> {
        if let Some(until) = self.until.filter(|until| *until > now) {
            return Some(until);
        }
        self.until = None;
        let ready = self.ready_at()?;
        if ready <= now {
            if ready + BURST / 2 <= now {
                // The client paused long enough to regain half of its burst.
                self.over_since = None;
            }
            return None;
        }
        self.over_since.get_or_insert(now);
        self.until = Some(ready + GRAIN);
        self.until
    }

    /// Returns when [`handle_timeout`](Self::handle_timeout) must be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        let until = self.until?;
        let exhausted = self.over_since.map(|since| since + self.timeout);
        Some(exhausted.map_or(until, |exhausted| until.min(exhausted)))
    }

    /// Returns whether reading is paused.
    pub(crate) fn is_delayed(&self) -> bool {
        self.until.is_some()
    }

    /// Resumes reading if the pause has ended.
    pub(crate) fn handle_timeout(&mut self, now: Instant) {
        self.until.take_if(|until| *until <= now);
    }

    /// Records that all received data was read. This ends the excess if the rates are within the
    /// limits.
    pub(crate) fn drained(&mut self, now: Instant) {
        if self.ready_at().is_none_or(|ready| ready <= now) {
            self.over_since = None;
        }
    }

    fn ready_at(&self) -> Option<Instant> {
        self.packets.ready_at().max(self.bytes.ready_at())
    }

    /// Returns whether the connection has exceeded its limits for too long.
    pub(crate) fn is_exhausted(&self, now: Instant) -> bool {
        self.over_since
            .is_some_and(|since| now.saturating_duration_since(since) >= self.timeout)
    }
}

/// The bucket of one rate. It refuses nothing; the excess is read later.
#[derive(Debug)]
struct Bucket {
    /// Units per second; 0 for no limit.
    rate: u64,
    rested: TokenBucket<Instant>,
}

impl Bucket {
    fn new(rate: u32, now: Instant) -> Self {
        Self {
            rate: rate.into(),
            rested: TokenBucket::at(now),
        }
    }

    fn charge(&mut self, count: usize, now: Instant) {
        let nanoseconds = (count as u64).saturating_mul(1_000_000_000);
        if let Some(nanoseconds) = nanoseconds.checked_div(self.rate) {
            self.rested = self.rested.charged(now, Duration::from_nanos(nanoseconds));
        }
    }

    /// Returns when one more unit is available.
    fn ready_at(&self) -> Option<Instant> {
        if self.rate == 0 {
            return None;
        }
        self.rested.time().checked_sub(BURST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn throttle(packets: u32, bytes: u32, now: Instant) -> Box<Throttle> {
        let rates = Rates {
            packets,
            bytes,
            timeout: 10 * SECOND,
        };
        Throttle::new(rates, now).unwrap()
    }

    #[test]
    fn burst_is_twice_the_rate_and_then_the_rate_applies() {
        let now = Instant::now();
        let mut throttle = throttle(1000, 0, now);
        for _ in 0..2000 {
            assert_eq!(throttle.delay(now), None);
            throttle.charge_packet(now);
        }
        throttle.charge_packet(now);
        let later = now + Duration::from_millis(1) + GRAIN;
        assert_eq!(throttle.delay(now), Some(later));
        assert!(throttle.delay(later - GRAIN).is_some());
        for _ in 0..50 {
            assert_eq!(throttle.delay(later), None);
            throttle.charge_packet(later);
        }
        throttle.charge_packet(later);
        assert!(throttle.delay(later).is_some());
    }

    #[test]
    fn bytes_have_a_limit_of_their_own() {
        let now = Instant::now();
        let mut throttle = throttle(0, 1 << 20, now);
        throttle.charge_bytes(2 << 20, now);
        assert_eq!(throttle.delay(now), None);
        throttle.charge_bytes(1 << 20, now);
        let until = now + SECOND + GRAIN;
        assert_eq!(throttle.delay(now), Some(until));
        assert_eq!(throttle.poll_timeout(), Some(until));
        assert!(throttle.is_delayed());
        throttle.handle_timeout(until);
        assert_eq!(throttle.poll_timeout(), None);
        assert_eq!(throttle.delay(until), None);
    }

    #[test]
    fn continuous_excess_is_exhausted_unless_drained() {
        let now = Instant::now();
        let mut throttle = throttle(10, 0, now);
        assert!(!throttle.is_exhausted(now + 100 * SECOND));
        for _ in 0..30 {
            throttle.charge_packet(now);
        }
        assert!(throttle.delay(now).is_some());
        assert!(!throttle.is_exhausted(now + 9 * SECOND));
        assert!(throttle.is_exhausted(now + 10 * SECOND));
        throttle.drained(now);
        assert!(
            throttle.is_exhausted(now + 10 * SECOND),
            "it was not within the limits"
        );
        throttle.drained(now + 9 * SECOND);
        assert!(!throttle.is_exhausted(now + 10 * SECOND));
    }

    #[test]
    fn pause_resets_the_excess_timer() {
        let now = Instant::now();
        let mut throttle = throttle(10, 0, now);
        for _ in 0..30 {
            throttle.charge_packet(now);
        }
        assert!(throttle.delay(now).is_some());
        assert_eq!(throttle.delay(now + 5 * SECOND), None);
        assert!(!throttle.is_exhausted(now + 20 * SECOND));
    }

    #[test]
    fn throttle_without_limits_has_no_state() {
        let rates = Rates {
            packets: 0,
            bytes: 0,
            timeout: SECOND,
        };
        assert!(Throttle::new(rates, Instant::now()).is_none());
    }
}
