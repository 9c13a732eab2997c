//! A circuit breaker for remote services. This module imports no other module.
//!
//! After a number of consecutive failures, the breaker opens and refuses calls, which spares
//! callers the timeout and the service the load. After a delay it admits one call. If that
//! succeeds, the breaker closes; otherwise it stays open twice as long. The owner should ensure
//! that calls are attempted.

use std::fmt;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// A circuit breaker. Transitions are logged.
pub(crate) struct Breaker {
    /// The name of the service, for the log.
    name: &'static str,
    state: Mutex<BreakerState>,
    /// Whether the state is [`BreakerState::Closed`], for readers without the lock.
    closed: AtomicBool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum BreakerState {
    /// All calls are admitted.
    Closed {
        /// Failures since the last success.
        failures: u32,
    },
    /// No call is admitted before `until`.
    Open { until: Instant, wait: Duration },
    /// One call is admitted, and others wait for its result.
    Trying { wait: Duration },
}

/// The permission for one call. Dropped without a result, it counts as not given.
#[derive(Debug)]
#[must_use = "the breaker has to learn the result"]
pub(crate) struct BreakerPermit<'a>(Option<&'a Breaker>);

impl Breaker {
    /// Creates a closed breaker.
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            state: Mutex::new(BreakerState::Closed { failures: 0 }),
            closed: AtomicBool::new(true),
        }
    }

    /// Admits a call, or returns how long to wait.
    pub(crate) fn admit(&self) -> Result<BreakerPermit<'_>, Duration> {
        let mut state = self.state.lock();
        *state = state.admit(Instant::now())?;
        Ok(BreakerPermit(Some(self)))
    }

    /// Returns how long no call will be admitted, or `None` if calls may be admitted.
    #[cfg(any(test, feature = "postgres"))]
    pub(crate) fn wait(&self) -> Option<Duration> {
        if self.is_closed() {
            return None;
        }
        match *self.state.lock() {
            BreakerState::Closed { .. } => None,
            BreakerState::Open { until, .. } => {
                Some(until.saturating_duration_since(Instant::now()))
            }
            BreakerState::Trying { wait } => Some(wait),
        }
    }

    /// Returns whether all calls are admitted.
    #[cfg(any(test, feature = "postgres"))]
    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Relaxed)
    }

    fn change(&self, next: impl FnOnce(BreakerState) -> BreakerState) {
        let mut state = self.state.lock();
        let before = *state;
        *state = next(before);
        let is_closed = matches!(*state, BreakerState::Closed { .. });
        // The flag may lag behind the state for a moment.
        self.closed.store(is_closed, Ordering::Relaxed);
        match (before, *state) {
            (BreakerState::Closed { .. }, BreakerState::Open { wait, .. }) => {
                tracing::error!(
                    name = self.name,
                    ?wait,
                    "circuit breaker opened, requests are suspended"
                );
            }
            (
                BreakerState::Trying { .. } | BreakerState::Open { .. },
                BreakerState::Closed { .. },
            ) => {
                tracing::info!(name = self.name, "circuit breaker closed, requests resume");
            }
            (BreakerState::Trying { .. }, BreakerState::Open { wait, .. }) => {
                tracing::warn!(
                    name = self.name,
                    ?wait,
                    "circuit breaker trial failed, requests stay suspended"
                );
            }
            _ => {}
        }
    }
}

impl BreakerState {
    fn admit(self, now: Instant) -> Result<Self, Duration> {
        match self {
            Self::Closed { .. } => Ok(self),
            // Only one call probes the service. If all were admitted, the full load would return
            // before the service is known to work.
            Self::Open { until, wait } if until <= now => Ok(Self::Trying { wait }),
            Self::Open { until, .. } => Err(until.saturating_duration_since(now)),
            Self::Trying { wait } => Err(wait),
        }
    }

    fn succeeded(self) -> Self {
        Self::Closed { failures: 0 }
    }

    fn failed(self, now: Instant) -> Self {
        let open = |wait| Self::Open {
            until: now + wait,
            wait,
        };
        match self {
            Self::Closed { failures } if failures + 1 >= FAILURES => open(FIRST_WAIT),
            Self::Closed { failures } => Self::Closed {
                failures: failures + 1,
            },
            Self::Trying { wait } => open((wait * 2).min(LONGEST_WAIT)),
            // The call was admitted before the breaker opened.
            Self::Open { .. } => self,
        }
    }

    fn canceled(self, now: Instant) -> Self {
        match self {
            // The call was abandoned without a result, so the next one may try immediately.
            Self::Trying { wait } => Self::Open { until: now, wait },
            Self::Closed { .. } | Self::Open { .. } => self,
        }
    }
}

impl BreakerPermit<'_> {
    /// Reports that the call succeeded.
    pub(crate) fn succeeded(mut self) {
        if let Some(breaker) = self.0.take() {
            breaker.change(BreakerState::succeeded);
        }
    }

    /// Reports that the call failed or timed out.
    pub(crate) fn failed(mut self) {
        if let Some(breaker) = self.0.take() {
            breaker.change(|state| state.failed(Instant::now()));
        }
    }
}

impl Drop for BreakerPermit<'_> {
    fn drop(&mut self) {
        if let Some(breaker) = self.0.take() {
            breaker.change(|state| state.canceled(Instant::now()));
        }
    }
}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Breaker")
            .field("name", &self.name)
            .field("state", &*self.state.lock())
            .finish()
    }
}

/// Consecutive failures that open the breaker.
const FAILURES: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    fn opened(now: Instant) -> BreakerState {
        (0..FAILURES).fold(BreakerState::Closed { failures: 0 }, |state, _| {
            state.failed(now)
        })
    }

    #[test]
    fn only_consecutive_failures_open_the_breaker() {
        let now = Instant::now();
        let mut state = BreakerState::Closed { failures: 0 };
        for _ in 1..FAILURES {
            state = state.failed(now);
            assert!(state.admit(now).is_ok());
        }
        state = state.succeeded();
        for _ in 1..FAILURES {
            state = state.failed(now);
        }
        assert!(state.admit(now).is_ok());
        assert_eq!(state.failed(now).admit(now), Err(FIRST_WAIT));
    }

    #[test]
    fn after_the_delay_one_probe_decides_whether_the_breaker_closes() {
        let now = Instant::now();
        let state = opened(now);
        let later = now + FIRST_WAIT;
        let trying = state.admit(later).unwrap();
        assert!(trying.admit(later).is_err(), "only one");
        assert!(trying.succeeded().admit(later).is_ok());
        let again = trying.failed(later);
        assert_eq!(again.admit(later), Err(FIRST_WAIT * 2));
    }

    #[test]
    fn breaker_delay_is_limited() {
        let mut now = Instant::now();
        let mut state = opened(now);
        for _ in 0..20 {
            now += LONGEST_WAIT;
            state = state.admit(now).unwrap().failed(now);
        }
        assert_eq!(state.admit(now), Err(LONGEST_WAIT));
    }

    #[test]
    fn canceled_probe_lets_the_next_caller_probe() {
        let breaker = Breaker::new("test");
        for _ in 0..FAILURES {
            breaker.admit().unwrap().failed();
        }
        assert!(breaker.admit().is_err() && !breaker.is_closed() && breaker.wait().is_some());
        breaker.change(|_| BreakerState::Open {
            until: Instant::now(),
            wait: FIRST_WAIT,
        });
        drop(breaker.admit().unwrap());
        breaker.admit().unwrap().succeeded();
        assert!(breaker.is_closed() && breaker.wait().is_none());
    }
}
