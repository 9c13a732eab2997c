//! Limits how many connections may wait for their first whole request, and how fast sessions open.
//!
//! Both limits apply before the server allocates anything for a client, so that a storm of new
//! connections costs those with a session as little as possible.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use crate::limit::SharedRested;

/// The limiter of new connections and sessions of one server.
#[derive(Debug)]
pub(in crate::engine) struct ConnectionLimiter {
    /// The time between two sessions at the permitted rate; zero for no limit.
    step: Duration,
    max_pending: usize,
    started: Instant,
    /// When the whole burst is available again, counted from `started`.
    rested: SharedRested,
    pending_connections: AtomicUsize,
    /// Clients turned away. The number spreads the times at which they are told to come back.
    turned_away: AtomicUsize,
}

/// A connection that has not brought a whole request yet. The limiter counts it until it is dropped.
#[derive(Debug)]
pub(in crate::engine) struct PendingConnection(Arc<ConnectionLimiter>);

/// As many sessions may open at once as the rate permits in this time.
const BURST: Duration = Duration::from_secs(2);
/// The seconds over which the clients that are turned away are told to come back.
const SPREAD: usize = 5;
/// The answer to connections whose request the server does not even read.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\
Connection: close\r\nContent-Length: 0\r\n\r\n";

impl ConnectionLimiter {
    /// `rate` is in sessions per second, 0 for no limit.
    pub(in crate::engine) fn new(rate: u32, max_pending: usize, now: Instant) -> Self {
        let step = Duration::from_secs(1).checked_div(rate);
        Self {
            step: step.unwrap_or_default(),
            max_pending,
            started: now,
            rested: SharedRested::default(),
            pending_connections: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
        }
    }

    /// Admits a new connection, or returns `None` if too many connections wait for their first
    /// request.
    pub(in crate::engine) fn try_admit(self: &Arc<Self>) -> Option<PendingConnection> {
        // The connection is counted first, so that two that come at once do not both take the last
        // place. `Relaxed` is enough, since the count guards no other memory.
        let before = self.pending_connections.fetch_add(1, Ordering::Relaxed);
        let pending = PendingConnection(Arc::clone(self));
        // A connection that is refused is dropped here, which takes it out of the count again.
        (before < self.max_pending).then_some(pending)
    }

    /// Whether a session may open now. Nothing is taken from the rate. The error tells in how many
    /// seconds the client may come back.
    pub(in crate::engine) fn check_session(&self, now: Instant) -> Result<(), u64> {
        let now = now.saturating_duration_since(self.started);
        let rested = self.rested.get().take(now, self.step, BURST);
        rested.map(drop).map_err(|wait| self.turn_away(wait))
    }

    /// Takes one session from the rate. The error tells in how many seconds the client may come
    /// back.
    pub(in crate::engine) fn take_session(&self, now: Instant) -> Result<(), u64> {
        let now = now.saturating_duration_since(self.started);
        let taken = self.rested.take(now, self.step, BURST);
        taken.map_err(|wait| self.turn_away(wait))
    }

    /// In how many seconds a client is told to come back who could after `wait`.
    pub(in crate::engine) fn turn_away(&self, wait: Duration) -> u64 {
        let number = self.turned_away.fetch_add(1, Ordering::Relaxed);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        seconds.max(1) + (number % SPREAD) as u64
    }
}

impl Drop for PendingConnection {
    fn drop(&mut self) {
        self.0.pending_connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Answers that the server is full and closes the connection. The server does not wait for the
/// request, so a client whose request comes late may see a reset instead.
pub(in crate::engine) fn hang_up(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let _ = socket.send(FULL);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    // Closing a socket with unread input sends a reset, which could overtake the answer. The socket
    // does not block, so this takes only what has come already, and at most 32 KiB: others wait for
    // the listener.
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
    fn sessions_come_in_at_their_rate_after_a_burst_of_two_seconds() {
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
    fn asking_takes_nothing_and_who_is_turned_away_comes_back_at_another_time() {
        let limiter = ConnectionLimiter::new(1, 1, Instant::now());
        for _ in 0..10 {
            assert_eq!(limiter.check_session(at(&limiter, 0)), Ok(()));
        }
        assert_eq!(limiter.take_session(at(&limiter, 0)), Ok(()));
        assert_eq!(limiter.take_session(at(&limiter, 0)), Ok(()));
        let told: Vec<u64> = (0..6)
            .filter_map(|_| limiter.check_session(at(&limiter, 0)).err())
            .collect();
        assert_eq!(told, [1, 2, 3, 4, 5, 1]);
    }

    #[test]
    fn without_a_rate_everybody_comes_in() {
        let limiter = ConnectionLimiter::new(0, 1, Instant::now());
        assert!((0..10_000).all(|_| limiter.take_session(at(&limiter, 0)).is_ok()));
    }

    #[test]
    fn so_many_may_knock_and_no_more() {
        let limiter = Arc::new(ConnectionLimiter::new(0, 2, Instant::now()));
        let first = limiter.try_admit();
        let second = limiter.try_admit();
        assert!(first.is_some() && second.is_some());
        assert!(limiter.try_admit().is_none());
        drop(first);
        assert!(limiter.try_admit().is_some());
    }
}
