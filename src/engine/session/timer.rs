//! The deadlines of one session, and its timer for all of them except the pings of a WebSocket.
//!
//! A WebSocket session that waits only for its next ping or pong has no timer: a task per worker
//! sends the pings. Everything that waits has a deadline:
//!
//! | deadline | what waits |
//! |---|---|
//! | `header_timeout`, `body_timeout` | headers and bodies, in `http` |
//! | `message_timeout` | a message in progress |
//! | `upgrade_timeout` | an upgrade |
//! | `connect_timeout` | the first namespace |
//! | `ping_timeout` | a pong |
//! | `close_timeout` | the last write |
//! | one second | a peer that closes after the server |

use std::{pin::Pin, sync::LazyLock, task::Context, time::Duration};

use roomcast_protocol::{
    Frame,
    engine::{Action, Packet, Probe},
    websocket::CloseCode,
};
use tokio::time::{Instant, Sleep};

use super::{application::SessionHandler, driver::Driver, ending::End};
use crate::{engine::transport::Wire, limit::Throttle};

/// The timer of a session. Most sessions only wait for their next ping and need none.
#[derive(Debug, Default)]
pub(super) struct SessionTimer(Option<Pin<Box<Sleep>>>);

/// An unneeded timer that ends within this time is kept, because it may be needed again.
const MAX_IDLE_TIMER: Duration = Duration::from_secs(10);

impl SessionTimer {
    /// Wakes the task once at this time. Postponing takes no lock and causes no extra wake: tokio
    /// records the new time and checks it when the old one is reached.
    pub(super) fn set(
        &mut self,
        cx: &mut Context<'_>,
        now: std::time::Instant,
        next: Option<std::time::Instant>,
    ) {
        let Some(next) = next else {
            let idle_until = Instant::from(now + MAX_IDLE_TIMER);
            self.0
                .take_if(|sleep| sleep.is_elapsed() || sleep.deadline() > idle_until);
            return;
        };
        let next = Instant::from(next.max(now));
        let sleep = self
            .0
            .get_or_insert_with(|| Box::pin(tokio::time::sleep_until(next)));
        if next != sleep.deadline() || sleep.is_elapsed() {
            sleep.as_mut().reset(next);
        }
        if sleep.as_mut().poll(cx).is_ready() {
            // The deadline has just passed, so the task runs again.
            cx.waker().wake_by_ref();
        }
    }
}

impl Driver {
    pub(super) fn check_deadlines(&mut self, now: std::time::Instant) {
        // Several deadlines may have passed. Each action moves a deadline or ends something, so the
        // loop terminates.
        while self.ending.is_none()
            && let Some(at) = self.due(now)
        {
            match self.session.handle_timeout(at) {
                Action::None => break,
                // The wheel has already sent this ping.
                Action::Reply(_) if self.heartbeat.is_some() => {}
                Action::Reply(_) => self.outbox.push_ping(PING.clone()),
                Action::DropCandidate => {
                    if let Some(candidate) = self.candidate.take() {
                        self.drop_candidate(&candidate, CloseCode::NORMAL);
                    }
                }
                Action::Close(reason) => self.end(reason, End::Disconnected),
                Action::Deliver(_) | Action::Switch => {}
            }
        }
        self.release_late_poll(now);
        let late = |wire: &Wire| wire.poll_timeout().is_some_and(|at| at <= now);
        if self.ending.is_none() && self.wire.as_ref().is_some_and(late) {
            let end = End::Flush(CloseCode::POLICY_VIOLATION);
            self.fail("a message takes too long", end);
        }
        if let Some(connection) = &mut self.connection
            && connection.poll_timeout().is_some_and(|at| at <= now)
            && let Err(reason) = connection.handle_timeout(now)
        {
            self.end(reason, End::Flush(CloseCode::NORMAL));
        }
    }

    /// Returns the time to pass to the state machine, if its deadline has passed: now, or when the
    /// wheel sent the ping.
    fn due(&self, now: std::time::Instant) -> Option<std::time::Instant> {
        self.session.poll_timeout().filter(|at| *at <= now)?;
        if self.heartbeat.is_some() && self.session.next_ping().is_some() {
            return self.outbox.pinged_at();
        }
        Some(now)
    }

    /// Returns the earliest deadline. Pings that the wheel sends, and their pongs, have none here.
    pub(super) fn next_deadline(&self) -> Option<std::time::Instant> {
        if let Some(ending) = &self.ending {
            return Some(ending.deadline);
        }
        let heartbeat = match self.heartbeat {
            Some(_) => None,
            None => self.session.poll_timeout(),
        };
        let connection = self.connection.as_deref();
        [
            heartbeat,
            self.wire.as_ref().and_then(Wire::poll_timeout),
            self.throttle.as_deref().and_then(Throttle::poll_timeout),
            self.release_at(),
            self.leave_by,
            connection.and_then(SessionHandler::poll_timeout),
        ]
        .into_iter()
        .flatten()
        .min()
    }
}

/// The ping, the only packet that a session sends because of elapsed time.
static PING: LazyLock<Frame> = LazyLock::new(|| Frame::packet(&Packet::Ping(Probe::None)));

#[cfg(test)]
mod tests {
    use std::{future::poll_fn, task::Poll};

    use super::*;
    use crate::engine::primitives::now;

    const SECOND: Duration = Duration::from_secs(1);

    /// Sets the timer once and waits for its wake.
    async fn wait(timer: &mut SessionTimer, next: std::time::Instant) {
        let mut is_set = false;
        poll_fn(|cx| {
            if std::mem::replace(&mut is_set, true) {
                return Poll::Ready(());
            }
            timer.set(cx, now(), Some(next));
            Poll::Pending
        })
        .await;
    }

    /// Sets the timer without waiting.
    async fn set(timer: &mut SessionTimer, next: Option<std::time::Instant>) {
        poll_fn(|cx| {
            timer.set(cx, now(), next);
            Poll::Ready(())
        })
        .await;
    }

    #[tokio::test(start_paused = true)]
    async fn timer_wakes_at_its_time_and_at_the_next() {
        let (mut timer, start) = (SessionTimer::default(), now());
        for seconds in [5, 6, 100] {
            wait(&mut timer, start + seconds * SECOND).await;
            let elapsed = now() - start;
            assert!(elapsed >= seconds * SECOND && elapsed < (seconds + 1) * SECOND);
        }
        // A time in the past means now.
        wait(&mut timer, start).await;
        assert!(now() - start < 101 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn timer_wakes_earlier_if_set_to_an_earlier_time() {
        let (mut timer, start) = (SessionTimer::default(), now());
        set(&mut timer, Some(start + 45 * SECOND)).await;
        wait(&mut timer, start + SECOND).await;
        assert!(now() - start < 2 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn no_timer_exists_without_a_deadline() {
        let mut timer = SessionTimer::default();
        set(&mut timer, None).await;
        assert!(timer.0.is_none());
        set(&mut timer, Some(now() + 45 * SECOND)).await;
        assert!(timer.0.is_some());
        set(&mut timer, None).await;
        assert!(timer.0.is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn timer_that_ends_soon_is_reused_until_its_end() {
        let mut timer = SessionTimer::default();
        set(&mut timer, Some(now() + SECOND)).await;
        set(&mut timer, None).await;
        assert!(timer.0.is_some());
        tokio::time::sleep(2 * SECOND).await;
        set(&mut timer, None).await;
        assert!(timer.0.is_none());
    }
}
