//! Holds all sessions after the process stood still, until the application has caught up.
//!
//! A process that was suspended does not know what other servers have changed in the meantime. When
//! it resumes, all its tasks are due, in any order. So tasks that read or write sessions check the
//! age of the last tick themselves. They do not rely on the ticking task to run before them.

use std::{
    collections::HashMap,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll, Waker},
    thread,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use tokio::{sync::Notify, time::timeout};

use super::now;

/// What the application does after a stall of this duration. Sessions are held until it is done.
pub(crate) type OnStall =
    Arc<dyn Fn(Duration) -> Pin<Box<dyn Future<Output = ()> + Send>> + Send + Sync>;

/// The interval of the ticks.
const TICK: Duration = Duration::from_millis(200);
/// The process stood still if the last tick is older than this.
const STALL: Duration = Duration::from_secs(1);
/// Sessions whose drivers are held for longer end, so that clients can use another server.
const MAX_HOLD: Duration = Duration::from_secs(30);

/// Determines whether sessions may be read and written.
pub(crate) struct StallGate {
    /// `None` if the gate is always open.
    on_stall: Option<OnStall>,
    origin: Instant,
    /// The time of the last tick by each clock, in milliseconds.
    ticked: [AtomicU64; 2],
    /// Whether the application is catching up.
    is_held: AtomicBool,
    /// The longest stall with which the application has not begun to catch up, in milliseconds, or
    /// zero.
    noticed: AtomicU64,
    notice: Notify,
    is_expired: AtomicBool,
    is_stopped: AtomicBool,
    /// By the address of their data, so a task that is polled again is not woken twice.
    waiting: Mutex<HashMap<usize, Waker>>,
}

impl StallGate {
    pub(in crate::engine) fn new(on_stall: Option<OnStall>) -> Self {
        Self {
            on_stall,
            origin: Instant::now(),
            ticked: [AtomicU64::new(0), AtomicU64::new(0)],
            is_held: AtomicBool::new(false),
            noticed: AtomicU64::new(0),
            notice: Notify::new(),
            is_expired: AtomicBool::new(false),
            is_stopped: AtomicBool::new(false),
            waiting: Mutex::default(),
        }
    }

    /// Returns whether stalls are watched at all.
    pub(in crate::engine) fn is_watched(&self) -> bool {
        self.on_stall.is_some()
    }

    /// Returns whether sessions may be read and written now.
    #[inline]
    pub(in crate::engine) fn is_open(&self) -> bool {
        self.on_stall.is_none() || self.is_running()
    }

    /// Compiled once, because each write of a server that watches no stalls would be longer.
    #[inline(never)]
    fn is_running(&self) -> bool {
        // The tick is checked before the flag: a stall is flagged before its tick is stored.
        (self.age(self.clocks()) <= STALL && !self.is_held.load(Ordering::Acquire))
            || self.is_stopped.load(Ordering::Acquire)
    }

    /// Ready if the gate is open. Otherwise the task is woken when it may be.
    pub(in crate::engine) fn poll_open(&self, cx: &Context<'_>) -> Poll<()> {
        if self.is_open() {
            return Poll::Ready(());
        }
        let mut waiting = self.waiting.lock();
        // The gate may have opened before the lock was taken.
        if self.is_open() {
            return Poll::Ready(());
        }
        let waker = cx.waker();
        waiting.insert(waker.data().addr(), waker.clone());
        Poll::Pending
    }

    /// Returns `None` if the gate is open. Otherwise ready if the session has been held for too
    /// long and must end.
    pub(in crate::engine) fn poll_held(&self, cx: &Context<'_>) -> Option<Poll<()>> {
        let is_held = self.poll_open(cx).is_pending();
        is_held.then(|| match self.is_expired() {
            true => Poll::Ready(()),
            false => Poll::Pending,
        })
    }

    fn is_expired(&self) -> bool {
        self.is_expired.load(Ordering::Acquire)
    }

    /// Begins to watch: the time before this call is not a stall.
    ///
    /// A thread of its own ticks, because the tasks of a busy server may wait for a second although
    /// the process runs.
    pub(in crate::engine) fn start(self: &Arc<Self>) {
        self.record(self.clocks());
        let gate = Arc::downgrade(self);
        let tick = move || {
            while let Some(gate) = gate.upgrade() {
                if gate.is_stopped.load(Ordering::Acquire) {
                    return;
                }
                gate.tick();
                drop(gate);
                thread::sleep(TICK);
            }
        };
        let ticking = thread::Builder::new().name("stalls".into()).spawn(tick);
        if let Err(error) = ticking {
            tracing::error!(%error, "could not start a thread, this server does not notice if its process stands still");
            self.stop();
        }
    }

    /// Has the application catch up after each stall until stopped. After a panic it can be run
    /// again.
    pub(in crate::engine) async fn run(self: Arc<Self>) {
        let Some(on_stall) = &self.on_stall else {
            return;
        };
        while !self.is_stopped.load(Ordering::Acquire) {
            // A predecessor that panicked may have left the gate closed.
            let was_held = self.is_held.load(Ordering::Acquire);
            let stalled = self.take_noticed();
            if let Some(stalled) = stalled.or_else(|| was_held.then_some(Duration::ZERO)) {
                self.hold(on_stall, stalled).await;
            }
            self.wake();
            let _ = timeout(TICK, self.notice.notified()).await;
        }
    }

    /// Opens the gate for good.
    pub(in crate::engine) fn stop(&self) {
        self.is_stopped.store(true, Ordering::Release);
        self.wake();
    }

    /// Holds all sessions until the application has caught up.
    async fn hold(&self, on_stall: &OnStall, stalled: Duration) {
        tracing::warn!(time = ?stalled, "this process stood still, sessions wait until it has caught up");
        let began = now();
        let mut catching_up = on_stall(stalled);
        loop {
            let is_done = timeout(TICK, &mut catching_up).await.is_ok();
            if let Some(again) = self.take_noticed() {
                // What was read may be older than this stall.
                catching_up = on_stall(again);
            } else if is_done {
                break;
            }
            if now() - began > MAX_HOLD && !self.is_expired.swap(true, Ordering::AcqRel) {
                tracing::warn!(
                    "could not catch up after this process stood still, waiting clients are disconnected"
                );
            }
            if self.is_expired() {
                self.wake();
            }
        }
        self.is_expired.store(false, Ordering::Release);
        self.is_held.store(false, Ordering::Release);
        tracing::info!(time = ?(now() - began), "caught up after this process stood still");
    }

    /// Records the time. Closes the gate if the process stood still.
    fn tick(&self) {
        // The clocks are read once: a stall after this line is left to the next tick.
        let now = self.clocks();
        let age = self.age(now);
        if age > STALL {
            let millis = u64::try_from(age.as_millis()).unwrap_or(u64::MAX);
            self.noticed.fetch_max(millis, Ordering::AcqRel);
            self.is_held.store(true, Ordering::Release);
            self.notice.notify_one();
        }
        self.record(now);
    }

    /// Returns a stall that was noticed since the last call.
    fn take_noticed(&self) -> Option<Duration> {
        let millis = self.noticed.swap(0, Ordering::AcqRel);
        (millis > 0).then(|| Duration::from_millis(millis))
    }

    fn record(&self, now: [u64; 2]) {
        for (ticked, now) in self.ticked.iter().zip(now) {
            ticked.store(now, Ordering::Release);
        }
    }

    /// Returns the time since the last tick, by the clock that has advanced more.
    fn age(&self, now: [u64; 2]) -> Duration {
        let ages = self.ticked.iter().zip(now);
        let ages = ages.map(|(ticked, now)| now.saturating_sub(ticked.load(Ordering::Acquire)));
        Duration::from_millis(ages.max().unwrap_or_default())
    }

    /// Returns the monotonic clock and the wall clock. Only the wall clock shows for how long a
    /// machine was suspended. If it is set forward, sessions wait for a moment needlessly.
    fn clocks(&self) -> [u64; 2] {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH);
        [self.origin.elapsed(), wall.unwrap_or_default()]
            .map(|time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    }

    fn wake(&self) {
        let waiting = std::mem::take(&mut *self.waiting.lock());
        waiting.into_values().for_each(Waker::wake);
    }
}

impl Default for StallGate {
    /// Returns a gate that is always open.
    fn default() -> Self {
        Self::new(None)
    }
}

#[cfg(test)]
mod tests {
    use tokio::{sync::Semaphore, time::sleep};

    use super::*;

    /// A gate whose application catches up once per permit.
    fn gate() -> (Arc<StallGate>, Arc<Semaphore>) {
        let permits = Arc::new(Semaphore::new(0));
        let granted = Arc::clone(&permits);
        let gate = StallGate::new(Some(Arc::new(move |_| {
            let granted = Arc::clone(&granted);
            Box::pin(async move { granted.acquire().await.unwrap().forget() })
        })));
        gate.record(gate.clocks());
        (Arc::new(gate), permits)
    }

    /// Lets the last tick of one clock be old.
    fn stall(gate: &StallGate, clock: usize) {
        let ticked = &gate.ticked[clock];
        ticked.store(gate.clocks()[clock].saturating_sub(5000), Ordering::Release);
    }

    async fn opened(gate: &StallGate) {
        std::future::poll_fn(|cx| gate.poll_open(cx)).await;
    }

    #[tokio::test]
    async fn stall_closes_the_gate_before_and_after_its_tick() {
        // The monotonic clock of this process is too young.
        const WALL: usize = 1;
        let (gate, _) = gate();
        gate.tick();
        assert!(gate.is_open() && gate.take_noticed().is_none());
        stall(&gate, WALL);
        assert!(!gate.is_open());
        gate.tick();
        assert!(
            gate.take_noticed()
                .is_some_and(|time| time >= Duration::from_secs(5))
        );
        gate.tick();
        assert!(!gate.is_open() && gate.take_noticed().is_none());
        let unwatched = StallGate::default();
        stall(&unwatched, WALL);
        assert!(unwatched.is_open());
    }

    #[tokio::test(start_paused = true)]
    async fn gate_opens_after_the_last_stall_is_caught_up_with() {
        let (gate, permits) = gate();
        let running = tokio::spawn(Arc::clone(&gate).run());
        for stalls in 1..=2 {
            stall(&gate, 1);
            gate.tick();
            sleep(2 * TICK).await;
            assert!(!gate.is_open(), "{stalls}");
        }
        permits.add_permits(1);
        opened(&gate).await;
        assert_eq!(permits.available_permits(), 0);
        stall(&gate, 1);
        gate.tick();
        gate.stop();
        opened(&gate).await;
        permits.add_permits(1);
        running.await.unwrap();
    }

    #[test]
    fn task_that_is_polled_again_waits_once() {
        let (gate, _) = gate();
        stall(&gate, 1);
        let cx = Context::from_waker(Waker::noop());
        for _ in 0..3 {
            assert!(gate.poll_open(&cx).is_pending());
        }
        assert_eq!(gate.waiting.lock().len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn sessions_held_for_too_long_end_until_the_gate_opens() {
        let (gate, permits) = gate();
        let running = tokio::spawn(Arc::clone(&gate).run());
        stall(&gate, 1);
        gate.tick();
        sleep(MAX_HOLD).await;
        assert!(!gate.is_open() && !gate.is_expired());
        sleep(3 * TICK).await;
        assert!(!gate.is_open() && gate.is_expired());
        permits.add_permits(1);
        opened(&gate).await;
        assert!(!gate.is_expired());
        running.abort();
    }
}
