//! Whether certainly nobody else listens, for adapters whose servers all say that they are there.
//!
//! What a lonely server publishes costs more than what it sends to a small room, and nobody hears it. So nothing is
//! published while no other server can be listening. Three things make that certain:
//!
//! - **Every server that listens greets the others**, and a greeting is answered. This server has listened for longer than
//!   all others together may be silent, and has heard nobody in that time, nor anybody in the time after which
//!   one that was there is forgotten. That is much longer than the silence after which a server has left.
//! - **What others say is taken in here.** This server hears its own word every second, by the same way and behind all
//!   that was said before it. That word counts for two seconds. Whoever does not hear itself publishes.
//! - **One word of another server ends it.** From the moment at which a greeting is read everything is published again.
//!
//! A server that comes can therefore miss what was sent before its greeting was heard, as it misses what was sent before it
//! listened, and nothing after. One that was cut off and did not notice greets nobody, and is heard when it speaks next.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::{Instant, sleep_until};

/// Whether certainly no other server listens.
#[derive(Debug)]
pub(in crate::adapter) struct Alone {
    /// How long this server must have listened.
    settling: Duration,
    /// How long no other server may have been heard.
    forgetting: Duration,
    made: Instant,
    /// Milliseconds from `made` on until which nobody else listens; zero while that is not certain.
    until: AtomicU64,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    /// Since when this server listens to all that it listens to now.
    listens: Option<Instant>,
    /// Since when it listens to anything on the connection there is.
    connected: Option<Instant>,
    /// When another server was heard last.
    other: Option<Instant>,
}

impl Alone {
    pub(in crate::adapter) fn new(settling: Duration, forgetting: Duration) -> Self {
        Self {
            settling,
            forgetting,
            made: Instant::now(),
            until: AtomicU64::new(0),
            known: Mutex::default(),
        }
    }

    /// Notes that this server listens from now on, maybe again or to more than before: nobody is known there yet.
    pub(in crate::adapter) fn listens(&self) {
        let now = Instant::now();
        let mut known = self.known.lock();
        known.listens = Some(now);
        known.connected.get_or_insert(now);
        self.until.store(0, Ordering::Release);
    }

    /// Notes that this server hears nothing any more.
    pub(in crate::adapter) fn cut_off(&self) {
        let mut known = self.known.lock();
        (known.listens, known.connected) = (None, None);
        self.until.store(0, Ordering::Release);
    }

    /// Waits until others that are alone have had time to read that this server has come. Without a connection nobody knows
    /// when that will be, and nothing is waited for.
    pub(in crate::adapter) async fn until_known(&self) {
        let connected = self.known.lock().connected;
        if let Some(connected) = connected.filter(|then| then.elapsed() < GREETING) {
            sleep_until(connected + GREETING).await;
        }
    }

    /// Notes a word of another server.
    pub(in crate::adapter) fn hears_another(&self) {
        let mut known = self.known.lock();
        known.other = Some(Instant::now());
        self.until.store(0, Ordering::Release);
    }

    /// Notes a word of this server itself, behind which nothing waits that others have said before.
    pub(in crate::adapter) fn hears_itself(&self) {
        let now = Instant::now();
        let known = self.known.lock();
        let is_past = |then: Option<Instant>, least| {
            then.is_some_and(|then| now.duration_since(then) >= least)
        };
        let is_alone = is_past(known.listens, self.settling)
            && (known.other.is_none() || is_past(known.other, self.forgetting));
        let until = match is_alone {
            true => self.millis(now + VALID),
            false => 0,
        };
        // The lock is still held: a greeting that comes meanwhile must not be overwritten by this.
        self.until.store(until, Ordering::Release);
    }

    /// Whether nobody else listens now.
    pub(in crate::adapter) fn is_certain(&self) -> bool {
        let until = self.until.load(Ordering::Acquire);
        until > 0 && self.millis(Instant::now()) < until
    }

    fn millis(&self, now: Instant) -> u64 {
        let since = now.duration_since(self.made);
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }
}

/// How long servers that are there may take to read the greeting of one that has come, and to answer.
pub(in crate::adapter) const GREETING: Duration = Duration::from_millis(300);
/// How long this server's own word counts. It is said every second.
const VALID: Duration = Duration::from_secs(2);

#[cfg(test)]
mod tests {
    use tokio::time::advance;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn alone() -> Alone {
        Alone::new(15 * SECOND, 300 * SECOND)
    }

    /// Lets time pass while this server hears itself.
    async fn pass(alone: &Alone, seconds: u32) {
        for _ in 0..seconds {
            advance(SECOND).await;
            alone.hears_itself();
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_listened_for_long_and_heard_nobody_is_alone() {
        let alone = alone();
        pass(&alone, 20).await;
        assert!(!alone.is_certain(), "it does not listen");
        alone.listens();
        pass(&alone, 14).await;
        assert!(!alone.is_certain(), "others may be silent for that long");
        pass(&alone, 1).await;
        assert!(alone.is_certain());
        alone.listens();
        assert!(!alone.is_certain(), "it listens to more than before");
        pass(&alone, 15).await;
        assert!(alone.is_certain());
    }

    #[tokio::test(start_paused = true)]
    async fn who_was_cut_off_begins_anew() {
        let alone = alone();
        alone.until_known().await;
        alone.listens();
        pass(&alone, 20).await;
        assert!(alone.is_certain());
        alone.cut_off();
        assert!(!alone.is_certain());
        pass(&alone, 20).await;
        assert!(!alone.is_certain(), "it does not listen");
        alone.listens();
        let before = Instant::now();
        alone.until_known().await;
        assert!(
            before.elapsed() >= GREETING,
            "others read its greeting first"
        );
        pass(&alone, 15).await;
        assert!(alone.is_certain());
    }

    #[tokio::test(start_paused = true)]
    async fn one_word_of_another_ends_it_for_as_long_as_that_one_may_come_back() {
        let alone = alone();
        alone.listens();
        pass(&alone, 20).await;
        assert!(alone.is_certain());
        alone.hears_another();
        assert!(!alone.is_certain());
        pass(&alone, 299).await;
        assert!(!alone.is_certain());
        pass(&alone, 1).await;
        assert!(alone.is_certain());
    }

    #[tokio::test(start_paused = true)]
    async fn who_does_not_hear_itself_does_not_know() {
        let alone = alone();
        alone.listens();
        pass(&alone, 20).await;
        advance(SECOND * 2 - Duration::from_millis(1)).await;
        assert!(alone.is_certain());
        advance(Duration::from_millis(1)).await;
        assert!(!alone.is_certain(), "a greeting may have come by unheard");
        alone.hears_itself();
        assert!(alone.is_certain(), "what came before its word was taken in");
    }
}
