//! How many may knock at the same time, and how fast sessions are opened.
//!
//! Both are asked before anything is made for a client. Those who are in are not concerned: a storm
//! of others costs them as little as can be.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use tokio::net::TcpStream;

use crate::limit::SharedRested;

/// The door of one server.
#[derive(Debug)]
pub(in crate::engine) struct Door {
    /// Between two sessions at the rate allowed; zero for no limit.
    step: Duration,
    max_knocking: usize,
    started: Instant,
    /// When the whole burst is there again, since `started`.
    rested: SharedRested,
    knocking: AtomicUsize,
    /// Clients turned away, so that they can be told different times to come back.
    turned_away: AtomicUsize,
}

/// A connection that has not brought a whole request yet.
#[derive(Debug)]
pub(in crate::engine) struct Knock(Arc<Door>);

/// Sessions may be opened at once as in so much time.
const BURST: Duration = Duration::from_secs(2);
/// Those who are turned away are told to come back spread over so many seconds.
const SPREAD: usize = 5;
/// What is said to those for whom there is not even room to hear them out.
const FULL: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nRetry-After: 5\r\n\
Connection: close\r\nContent-Length: 0\r\n\r\n";

impl Door {
    /// `rate` is in sessions a second, 0 for no limit.
    pub(in crate::engine) fn new(rate: u32, max_knocking: usize, now: Instant) -> Self {
        let step = Duration::from_secs(1).checked_div(rate);
        Self {
            step: step.unwrap_or_default(),
            max_knocking,
            started: now,
            rested: SharedRested::default(),
            knocking: AtomicUsize::new(0),
            turned_away: AtomicUsize::new(0),
        }
    }

    /// A connection has come in. `None`: too many have that have not said what they want.
    pub(in crate::engine) fn knock(self: &Arc<Self>) -> Option<Knock> {
        // Counted first, so that two who come at once do not both take the last place.
        let before = self.knocking.fetch_add(1, Ordering::Relaxed);
        let knock = Knock(Arc::clone(self));
        (before < self.max_knocking).then_some(knock)
    }

    /// Whether a session may be opened now. An error is when to come back, in seconds.
    pub(in crate::engine) fn check(&self, now: Instant) -> Result<(), u64> {
        let now = now.saturating_duration_since(self.started);
        let rested = self.rested.get().take(now, self.step, BURST);
        rested.map(drop).map_err(|wait| self.turn_away(wait))
    }

    /// Opens a session. An error is when to come back, in seconds.
    pub(in crate::engine) fn enter(&self, now: Instant) -> Result<(), u64> {
        let now = now.saturating_duration_since(self.started);
        let taken = self.rested.take(now, self.step, BURST);
        taken.map_err(|wait| self.turn_away(wait))
    }

    /// When somebody may come back who could after this time, in seconds.
    pub(in crate::engine) fn turn_away(&self, wait: Duration) -> u64 {
        let number = self.turned_away.fetch_add(1, Ordering::Relaxed);
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        seconds.max(1) + (number % SPREAD) as u64
    }
}

impl Drop for Knock {
    fn drop(&mut self) {
        self.0.knocking.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Says that there is no room and hangs up. Nothing waits for the client, so it may see a reset
/// instead if its request comes late.
pub(in crate::engine) fn hang_up(stream: &TcpStream) {
    let socket = socket2::SockRef::from(stream);
    let _ = socket.send(FULL);
    let _ = socket.shutdown(std::net::Shutdown::Write);
    // Unread input would turn the answer into a reset.
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

    fn at(door: &Door, milliseconds: u64) -> Instant {
        door.started + Duration::from_millis(milliseconds)
    }

    #[test]
    fn sessions_come_in_at_their_rate_after_a_burst_of_two_seconds() {
        let door = Door::new(10, 1, Instant::now());
        let enter = |time| {
            (0..100)
                .filter(|_| door.enter(at(&door, time)).is_ok())
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
        let door = Door::new(1, 1, Instant::now());
        for _ in 0..10 {
            assert_eq!(door.check(at(&door, 0)), Ok(()));
        }
        assert_eq!(door.enter(at(&door, 0)), Ok(()));
        assert_eq!(door.enter(at(&door, 0)), Ok(()));
        let told: Vec<u64> = (0..6)
            .filter_map(|_| door.check(at(&door, 0)).err())
            .collect();
        assert_eq!(told, [1, 2, 3, 4, 5, 1]);
    }

    #[test]
    fn without_a_rate_everybody_comes_in() {
        let door = Door::new(0, 1, Instant::now());
        assert!((0..10_000).all(|_| door.enter(at(&door, 0)).is_ok()));
    }

    #[test]
    fn so_many_may_knock_and_no_more() {
        let door = Arc::new(Door::new(0, 2, Instant::now()));
        let first = door.knock();
        let second = door.knock();
        assert!(first.is_some() && second.is_some());
        assert!(door.knock().is_none());
        drop(first);
        assert!(door.knock().is_some());
    }
}
