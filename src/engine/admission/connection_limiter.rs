//! Limits the number of connections without a complete first request, and the rate at which
//! sessions open.
//!
//! Both limits apply before the server allocates anything for a client, so that a storm of new
//! connections affects existing sessions as little as possible.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use crate::limit::{RetryAfter, SharedTokenBucket, WaitingLine};

/// The limiter for new connections and sessions of one server.
#[derive(Debug)]
pub(in crate::engine) struct ConnectionLimiter {
    /// The time between two sessions at the configured rate; zero for no limit.
    step: Duration,
    max_pending: usize,
    started: Instant,
    /// When the full burst is available again, relative to `started`.
    rested: SharedTokenBucket,
    line: WaitingLine,
    pending_connections: AtomicUsize,
}

/// A connection that has not yet sent a complete request. It counts until it is dropped.
#[derive(Debug)]
pub(in crate::engine) struct PendingConnection(Arc<ConnectionLimiter>);

/// The burst of sessions, as the time in which the rate permits that many.
const BURST: Duration = Duration::from_secs(2);
/// The range of `Retry-After` in refusals for which no rate is known.
const RANGE: Duration = Duration::from_secs(5);

impl ConnectionLimiter {
    /// Creates a limiter. `rate` is in sessions per second, 0 for no limit.
    pub(in crate::engine) fn new(rate: u32, max_pending: usize, now: Instant) -> Self {
        let step = Duration::from_secs(1).checked_div(rate);
        Self {
            step: step.unwrap_or_default(),
            max_pending,
            started: now,
            rested: SharedTokenBucket::default(),
            line: WaitingLine::default(),
            pending_connections: AtomicUsize::new(0),
        }
    }

    /// Admits a new connection, or returns `None` if too many connections have not sent their first
    /// request.
    pub(in crate::engine) fn try_admit(self: &Arc<Self>) -> Option<PendingConnection> {
        // The connection is counted first, so that two concurrent connections cannot both take the
        // last slot. `Relaxed` is enough, because the count guards no other memory.
        let before = self.pending_connections.fetch_add(1, Ordering::Relaxed);
        let pending = PendingConnection(Arc::clone(self));
        // Dropping a refused connection decrements the count again.
        (before < self.max_pending).then_some(pending)
    }

    /// Checks whether a session may open now, without charging the rate. The error is the time
    /// after which the client may retry.
    pub(in crate::engine) fn check_session(&self, now: Instant) -> Result<(), RetryAfter> {
        let now = now.saturating_duration_since(self.started);
        let rested = self.rested.get().take(now, self.step, BURST);
        rested.map(drop).map_err(|wait| self.advise(now, wait))
    }

    /// Charges the rate for one session. The error is the time after which the client may retry.
    pub(in crate::engine) fn take_session(&self, now: Instant) -> Result<(), RetryAfter> {
        let now = now.saturating_duration_since(self.started);
        let taken = self.rested.take(now, self.step, BURST);
        taken.map_err(|wait| self.advise(now, wait))
    }

    fn advise(&self, now: Duration, wait: Duration) -> RetryAfter {
        self.line.advise(now, wait, self.step, BURST)
    }
}

/// Returns the advice for a client that is refused for a reason other than a rate.
pub(in crate::engine) fn retry_later() -> RetryAfter {
    RetryAfter::spread(Duration::ZERO, RANGE)
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        self.0.pending_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Responds with 503 and closes the connection. The server does not wait for the request, so a
/// client whose request arrives late may see a reset instead.
pub(in crate::engine) fn reject_full(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let answer = format!(
        "HTTP/1.1 503 Service Unavailable\r\nRetry-After: {}\r\n\
         Connection: close\r\nContent-Length: 0\r\n\r\n",
        retry_later().seconds()
    );
    let _ = socket.send(answer.as_bytes());
    let _ = socket.shutdown(std::net::Shutdown::Write);
    // Closing a socket with unread input sends a reset, which could overtake the response. The
    // socket is non-blocking, so this only discards available input. It discards at most 32 KiB,
    // because other connections wait for the listener.
    let mut unread = [0; 4096];
    for _ in 0..8 {
        match std::io::Read::read(&mut &*socket, &mut unread) {
            Ok(0) | Err(_) => return,
            Ok(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(limiter: &ConnectionLimiter, milliseconds: u64) -> Instant {
        limiter.started + Duration::from_millis(milliseconds)
    }

    #[test]
    fn sessions_are_admitted_at_their_rate_after_a_burst_of_2s() {
        let limiter = ConnectionLimiter::new(10, 1, Instant::now());
        let enter = |time| {
            (0..100)
                .filter(|_| limiter.take_session(at(&limiter, time)).is_ok())
                .count()
        };
        assert_eq!(enter(0), 20);
        assert_eq!(enter(99), 0);
        assert_eq!(enter(100), 1);
        assert_eq!(enter(1100), 10);
        assert_eq!(enter(60_000), 20);
    }

    #[test]
    fn checks_are_free_and_each_refused_client_has_its_own_time() {
        let limiter = ConnectionLimiter::new(1, 1, Instant::now());
        for _ in 0..10 {
            assert_eq!(limiter.check_session(at(&limiter, 0)), Ok(()));
        }
        assert_eq!(limiter.take_session(at(&limiter, 0)), Ok(()));
        assert_eq!(limiter.take_session(at(&limiter, 0)), Ok(()));
        let delays: Vec<u64> = (0..6)
            .filter_map(|_| limiter.check_session(at(&limiter, 0)).err())
            .map(RetryAfter::seconds)
            .collect();
        assert_eq!(delays, [1, 2, 3, 4, 5, 6]);
    }

    #[test]
    fn zero_rate_admits_all_sessions() {
        let limiter = ConnectionLimiter::new(0, 1, Instant::now());
        assert!((0..10_000).all(|_| limiter.take_session(at(&limiter, 0)).is_ok()));
    }

    #[test]
    fn pending_connections_are_limited() {
        let limiter = Arc::new(ConnectionLimiter::new(0, 2, Instant::now()));
        let first = limiter.try_admit();
        let second = limiter.try_admit();
        assert!(first.is_some() && second.is_some());
        assert!(limiter.try_admit().is_none());
        drop(first);
        assert!(limiter.try_admit().is_some());
    }
}
