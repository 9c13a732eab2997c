//! Sends the pings of all WebSocket sessions of a worker, batching those that are due within a
//! tenth of a second.
//!
//! A session registers its heartbeat when it uses a WebSocket. From then on its driver is woken
//! only for pongs, which it reads like any packet, and when a pong is overdue. A pong only records
//! in the outbox when the next ping is due; the wheel checks that at the planned time.
//!
//! The task knows sessions only through [`PingTarget`], and must not know outboxes or drivers.

use std::time::{Duration, Instant};

use parking_lot::Mutex;
use roomcast_protocol::{
    Frame,
    engine::{Packet, Probe},
};
use tokio::sync::Notify;

use super::timer_wheel::{DueEntry, TimerId, TimerWheel};
use crate::engine::primitives::now;

/// An item with a heartbeat.
pub(in crate::engine) trait PingTarget: Clone {
    /// Records that the first ping is due at this time.
    fn begin(&self, at: Instant);

    /// Handles a due session, and returns when to check it again. Pongs that arrive later never
    /// make a ping due earlier than one interval from now.
    fn beat(&self, now: Instant, rhythm: &PingTiming) -> Instant;

    /// Ends the session after its heartbeat has panicked.
    fn give_up(&self);
}

/// The ping interval, the pong timeout, and the ping frame.
pub(in crate::engine) struct PingTiming {
    pub(in crate::engine::outbox) interval: Duration,
    pub(in crate::engine::outbox) timeout: Duration,
    /// A frame per worker: each ping updates its reference count, which would otherwise be shared
    /// between cores.
    pub(in crate::engine::outbox) ping: Frame,
}

/// The heartbeats of the sessions of one flusher.
pub(in crate::engine) struct Heartbeats<T> {
    state: Mutex<Schedule<T>>,
    rhythm: PingTiming,
    /// Notified when there is work earlier than planned.
    changed: Notify,
}

struct Schedule<T> {
    wheel: TimerWheel<T>,
    /// The session whose heartbeat has panicked.
    broken: Option<T>,
    /// When the task will run without a notification.
    planned: Option<Instant>,
    stopped: bool,
}

/// Pings are delayed by at most this fraction of the shorter of interval and timeout.
const PRECISION: u32 = 20;
/// Maximum tick, which also limits the delay of pings.
const MAX_TICK: Duration = Duration::from_millis(100);
/// Minimum tick, the resolution of tokio's timers.
const MIN_TICK: Duration = Duration::from_millis(1);
/// Number of slots: 51 seconds with the longest tick. Later entries are checked in between.
const SLOTS: usize = 512;
/// Number of pings sent before the task yields.
const BATCH: usize = 64;

impl<T: PingTarget> Heartbeats<T> {
    pub(in crate::engine) fn new(interval: Duration, timeout: Duration, now: Instant) -> Self {
        let tick = (interval.min(timeout) / PRECISION).clamp(MIN_TICK, MAX_TICK);
        Self {
            state: Mutex::new(Schedule {
                wheel: TimerWheel::new(now, tick, SLOTS),
                broken: None,
                planned: None,
                stopped: false,
            }),
            rhythm: PingTiming {
                interval,
                timeout,
                ping: Frame::packet(&Packet::Ping(Probe::None)),
            },
            changed: Notify::new(),
        }
    }

    /// Sends the pings of a session from now on, the first at this time. Returns `None` if the
    /// wheel is full; the driver must then send them itself. Otherwise the driver must remove its
    /// session later.
    pub(in crate::engine) fn add(&self, session: &T, at: Instant) -> Option<TimerId> {
        // The session is updated first, because the task may check it as soon as it is in the
        // wheel.
        session.begin(at);
        let mut state = self.state.lock();
        let timer = state.wheel.add(session.clone(), at)?;
        // The task sleeps until the earliest ping that it knows, and then checks all sessions.
        let is_earlier = state.planned.is_none_or(|planned| at < planned);
        drop(state);
        if is_earlier {
            self.changed.notify_one();
        }
        Some(timer)
    }

    /// Stops sending pings for a session.
    pub(in crate::engine) fn remove(&self, timer: TimerId) {
        let session = self.state.lock().wheel.remove(timer);
        drop(session);
    }

    /// Stops the task.
    pub(super) fn stop(&self) {
        self.state.lock().stopped = true;
        self.changed.notify_one();
    }

    /// Sends pings until stopped. After a panic it can be run again: it ends the session that
    /// caused the panic and continues with the rest.
    pub(super) async fn run(&self) {
        let broken = self.state.lock().broken.take();
        if let Some(session) = broken {
            session.give_up();
        }
        let mut batch = Vec::with_capacity(BATCH);
        loop {
            while self.ping_batch(now(), &mut batch) {
                tokio::task::yield_now().await;
            }
            let planned = {
                let mut state = self.state.lock();
                if state.stopped {
                    return;
                }
                state.planned = state.wheel.next();
                state.planned
            };
            // A notification since the lock was released has left a permit, so it is not lost.
            let changed = self.changed.notified();
            match planned {
                // Both the time and the notification start another check.
                Some(planned) => {
                    let _ = tokio::time::timeout_at(planned.into(), changed).await;
                }
                None => changed.await,
            }
        }
    }

    /// Handles some of the due sessions. Returns whether there may be more.
    fn ping_batch(&self, now: Instant, batch: &mut Vec<DueEntry<T>>) -> bool {
        // The lock is not held while sessions are handled, because they lock their outboxes. A
        // driver may remove its session in the meantime, which `put_back` detects.
        self.state.lock().wheel.take_due(now, batch, BATCH);
        let is_full = batch.len() >= BATCH;
        let mut beating = PingBatch {
            of: self,
            batch,
            done: 0,
        };
        for taken in &mut *beating.batch {
            taken.again = taken.item.beat(now, &self.rhythm);
            beating.done += 1;
        }
        is_full
    }
}

/// Sessions being handled. They are put back even after a panic.
struct PingBatch<'a, T: Clone> {
    of: &'a Heartbeats<T>,
    batch: &'a mut Vec<DueEntry<T>>,
    /// The number of handled sessions in the batch.
    done: usize,
}

impl<T: Clone> Drop for PingBatch<'_, T> {
    fn drop(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        let mut state = self.of.state.lock();
        if let Some(broken) = self.batch.get_mut(self.done) {
            broken.again += self.of.rhythm.interval;
            state.broken = Some(broken.item.clone());
        }
        let batch = self.batch.iter();
        batch.for_each(|taken| state.wheel.put_back(taken));
        drop(state);
        // The handles are dropped without the lock, because the last handle of an outbox may be
        // among them.
        self.batch.clear();
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io::{ErrorKind, Read as _},
        net::{TcpListener, TcpStream},
        sync::{
            Arc,
            atomic::{AtomicBool, Ordering},
        },
        task::{Context, Wake},
    };

    use roomcast_protocol::{Sid, Stamp, engine::CloseReason};
    use tokio::time::sleep_until;

    use super::*;
    use crate::{
        engine::{
            Limits, Mode, Outbox, Push, TestOutboxes,
            outbox::{
                IterationRemains,
                test_outboxes::{INTERVAL, TIMEOUT},
            },
        },
        metrics::{Metrics, Size},
    };

    const MOMENT: Duration = Duration::from_millis(100);
    const SECOND: Duration = Duration::from_secs(1);
    /// `2` in a WebSocket frame.
    const PING: [u8; 3] = [0x81, 1, b'2'];

    /// Sessions that write to one stream, and the other end of the stream.
    struct Fixture {
        outboxes: Vec<Outbox>,
        bells: Vec<Arc<Bell>>,
        timers: Vec<TimerId>,
        client: TcpStream,
        metrics: Arc<Metrics>,
        start: Instant,
        unattended: TestOutboxes,
    }

    impl Fixture {
        async fn with(sessions: u8) -> Self {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let (accepted, _) = listener.accept().unwrap();
            accepted.set_nonblocking(true).unwrap();
            let accepted = tokio::net::TcpStream::from_std(accepted).unwrap();
            accepted.writable().await.unwrap();
            let metrics = Arc::new(Metrics::new());
            let unattended = TestOutboxes::websocket(accepted, Arc::clone(&metrics));
            let start = now();
            let outboxes: Vec<Outbox> = (0..sessions)
                .map(|id| unattended.outbox(Sid::from_random([id; 15]), 100_000))
                .collect();
            let bells: Vec<Arc<Bell>> = outboxes.iter().map(|_| Arc::default()).collect();
            for (outbox, bell) in outboxes.iter().zip(&bells) {
                park(outbox, bell);
            }
            let timers = outboxes
                .iter()
                .map(|outbox| outbox.heartbeats().add(outbox, start + INTERVAL).unwrap())
                .collect();
            Self {
                outboxes,
                bells,
                timers,
                client,
                metrics,
                start,
                unattended,
            }
        }

        /// Runs one iteration of the wheel at a time after the start. Returns whether there is more
        /// to do.
        fn ping_batch(&self, at: Duration) -> bool {
            let heartbeats = self.outboxes[0].heartbeats();
            heartbeats.ping_batch(self.start + at, &mut Vec::new())
        }

        /// Reads what was written for the sessions.
        fn written(&mut self, bytes: usize) -> Vec<u8> {
            let mut written = vec![0; bytes];
            let deadline = Some(10 * SECOND);
            self.client.set_read_timeout(deadline).unwrap();
            self.client.read_exact(&mut written).unwrap();
            self.assert_nothing_more();
            written
        }

        fn assert_nothing_more(&self) {
            self.client.set_nonblocking(true).unwrap();
            let more = self.client.peek(&mut [0; 10]);
            self.client.set_nonblocking(false).unwrap();
            assert_eq!(more.unwrap_err().kind(), ErrorKind::WouldBlock);
        }

        fn pinged(&self) -> Vec<bool> {
            let is_pinged = |outbox: &Outbox| outbox.pinged_at().is_some();
            self.outboxes.iter().map(is_pinged).collect()
        }

        fn is_woken(&self, session: usize) -> bool {
            let is_woken = self.bells[session].0.swap(false, Ordering::Relaxed);
            park(&self.outboxes[session], &self.bells[session]);
            is_woken
        }
    }

    /// Set when the driver of a session is woken.
    #[derive(Default)]
    struct Bell(AtomicBool);

    impl Wake for Bell {
        fn wake(self: Arc<Self>) {
            self.0.store(true, Ordering::Relaxed);
        }
    }

    fn park(outbox: &Outbox, bell: &Arc<Bell>) {
        let waker = Arc::clone(bell).into();
        outbox.end_iteration(&Context::from_waker(&waker), &IterationRemains::default());
    }

    #[tokio::test]
    async fn pings_due_together_are_sent_in_one_batch_and_not_earlier() {
        let mut fixture = Fixture::with(50).await;
        assert!(!fixture.ping_batch(INTERVAL - MOMENT));
        assert_eq!(fixture.pinged(), [false; 50]);
        assert!(!fixture.ping_batch(INTERVAL + 2 * MOMENT));
        assert_eq!(fixture.pinged(), [true; 50]);
        assert_eq!(fixture.written(150), PING.repeat(50));
        assert_eq!(fixture.metrics.sized(Size::Queued), 50);
        // No ping is sent twice.
        assert!(!fixture.ping_batch(INTERVAL + SECOND));
        fixture.assert_nothing_more();
    }

    #[tokio::test]
    async fn other_tasks_run_between_batches() {
        let mut fixture = Fixture::with(150).await;
        let at = INTERVAL + 2 * MOMENT;
        assert!(fixture.ping_batch(at));
        assert_eq!(fixture.written(BATCH * 3), PING.repeat(BATCH));
        assert!(fixture.ping_batch(at));
        assert!(!fixture.ping_batch(at));
        let rest = 150 - BATCH;
        assert_eq!(fixture.written(rest * 3), PING.repeat(rest));
    }

    #[tokio::test]
    async fn the_next_ping_follows_an_interval_after_the_pong() {
        let mut fixture = Fixture::with(1).await;
        let mut pong = Duration::ZERO;
        for _ in 0..10 {
            let ping = pong + INTERVAL + 2 * MOMENT;
            assert!(!fixture.ping_batch(pong + INTERVAL - MOMENT));
            fixture.assert_nothing_more();
            fixture.ping_batch(ping);
            assert_eq!(fixture.written(3), PING);
            pong = ping + 7 * SECOND;
            let next = fixture.start + pong + INTERVAL;
            let sent = fixture.outboxes[0].confirm(next).unwrap();
            assert_eq!(sent, fixture.start + ping);
            // A second pong is ignored, because no ping is pending.
            assert_eq!(fixture.outboxes[0].confirm(next + SECOND), None);
            assert_eq!(fixture.outboxes[0].pinged_at(), None);
        }
        assert!(!fixture.is_woken(0));
    }

    #[tokio::test]
    async fn a_driver_is_woken_when_its_pong_is_overdue_and_not_before() {
        let fixture = Fixture::with(2).await;
        let ping = INTERVAL + 2 * MOMENT;
        fixture.ping_batch(ping);
        fixture.outboxes[1].confirm(fixture.start + ping + INTERVAL);
        fixture.ping_batch(ping + TIMEOUT - MOMENT);
        assert!(!fixture.is_woken(0));
        fixture.ping_batch(ping + TIMEOUT + 2 * MOMENT);
        assert!(fixture.is_woken(0));
        assert!(!fixture.is_woken(1));
    }

    #[tokio::test]
    async fn ended_session_is_not_pinged_and_dropped_immediately() {
        let mut fixture = Fixture::with(2).await;
        fixture.outboxes[0].lock().seal(CloseReason::ForcedClose);
        fixture.ping_batch(INTERVAL + 2 * MOMENT);
        assert_eq!(fixture.written(3), PING);
        assert_eq!(fixture.pinged(), [false, true]);
        let heartbeats = fixture.outboxes[1].heartbeats();
        heartbeats.remove(fixture.timers[0]);
        assert_eq!(Arc::strong_count(fixture.outboxes[0].inner()), 1);
    }

    #[tokio::test]
    async fn ping_is_sent_after_queued_frames() {
        let mut fixture = Fixture::with(1).await;
        let push = fixture.outboxes[0].push(&Frame::text(b"before"), Mode::Reliable);
        assert_eq!(push, Push::Queued);
        fixture.ping_batch(INTERVAL + 2 * MOMENT);
        // The outbox is in the list of a flusher, which writes the ping as well.
        fixture.assert_nothing_more();
        fixture.outboxes[0].flush();
        let mut expected = b"\x81\x074before".to_vec();
        expected.extend(PING);
        assert_eq!(fixture.written(expected.len()), expected);
    }

    #[tokio::test]
    async fn pong_confirms_frames_before_the_ping_of_the_wheel() {
        let fixture = Fixture::with(1).await;
        let outbox = &fixture.outboxes[0];
        let limits = Limits {
            messages: 100,
            bytes: 10_000,
            total: 100_000,
        };
        outbox.retain_for_replay(1, None, limits);
        let stamp = |number| Stamp { channel: 1, number };
        let frame = |number| Frame::text(b"2[]").with_stamp(stamp(number));
        let _ = outbox.push(&frame(1), Mode::Reliable);
        fixture.ping_batch(INTERVAL + 2 * MOMENT);
        let _ = outbox.push(&frame(2), Mode::Reliable);
        assert!(outbox.has_all_after(stamp(1)));
        outbox.confirm(fixture.start + 2 * INTERVAL + SECOND);
        assert!(outbox.has_all_after(stamp(1)));
        outbox.lock().seal(CloseReason::TransportClose);
        let successor = fixture.unattended.outbox(Sid::from_random([9; 15]), 1000);
        let missed = outbox.hand_over(stamp(1), &successor, limits, &Frame::text(b"0"));
        assert_eq!(missed, Some(1));
    }

    #[tokio::test(start_paused = true)]
    async fn wheel_sends_pings_until_it_is_stopped() {
        let mut fixture = Fixture::with(2).await;
        let flusher = fixture.unattended.flusher();
        let running = tokio::spawn(Arc::clone(&flusher).beat());
        // The paused clock does not advance while a task has work.
        sleep_until((fixture.start + INTERVAL - MOMENT).into()).await;
        fixture.assert_nothing_more();
        sleep_until((fixture.start + INTERVAL + 2 * MOMENT).into()).await;
        assert_eq!(fixture.written(6), PING.repeat(2));
        let mut next = now() + INTERVAL;
        let answer = |fixture: &Fixture, next| {
            for outbox in &fixture.outboxes {
                assert!(outbox.confirm(next).is_some(), "it has a ping to answer");
            }
        };
        answer(&fixture, next);
        sleep_until((next + 2 * MOMENT).into()).await;
        assert_eq!(fixture.written(6), PING.repeat(2));
        next = now() + INTERVAL;
        answer(&fixture, next);
        flusher.stop();
        running.await.unwrap();
        sleep_until((next + SECOND).into()).await;
        fixture.assert_nothing_more();
    }
}
