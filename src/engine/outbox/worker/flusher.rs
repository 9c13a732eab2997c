//! Writes queued frames: one task per worker, in the order in which sessions were listed.
//!
//! A broadcast appends to the queue of every member and then wakes each flusher once. The flusher
//! writes everything queued for a session in one call.
//!
//! A flusher knows listed sessions only through [`Flush`], and must not know outboxes.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
    thread,
    time::Instant,
};

use parking_lot::Mutex;
use roomcast_protocol::websocket::deflate::Settings;

use super::heartbeats::{Heartbeats, PingTarget};
use crate::{
    engine::{
        outbox::waiting::MemoryBudget,
        primitives::{StallGate, now},
    },
    metrics::Timing,
};

/// Number of sessions written before the task yields. With a smaller number, clients that are
/// served early receive their copies long before other clients, and send further messages.
const SESSIONS_PER_YIELD: usize = 1024;
/// Number of bytes written before the task yields; one session may exceed it.
const BYTES_PER_YIELD: usize = 2 * 1024 * 1024;

/// An item that a flusher writes.
pub(in crate::engine) trait Flush {
    /// Writes what is queued. Returns the number of bytes sent.
    fn flush(&self) -> usize;

    /// Ends the session after writing it has panicked.
    fn give_up(&self);
}

/// The list of sessions with queued frames.
pub(crate) struct Flusher<T> {
    list: Mutex<List<T>>,
    memory: Arc<MemoryBudget>,
    stalls: Arc<StallGate>,
    heartbeats: Heartbeats<T>,
    poll_bytes: usize,
    deflate: Settings,
}

struct List<T> {
    dirty: Vec<T>,
    /// The session whose write has panicked.
    broken: Option<T>,
    /// The number of times that the empty list received a session.
    rounds: u32,
    /// The start of the last round that is timed, one in [`SAMPLED`].
    since: Option<Instant>,
    waker: Option<Waker>,
    stopped: bool,
}

impl<T> Flusher<T> {
    /// Creates a flusher for sessions whose polling responses have at most `poll_bytes` bytes, and
    /// whose messages are compressed with these settings if a client negotiates that.
    pub(in crate::engine) fn new(
        memory: Arc<MemoryBudget>,
        stalls: Arc<StallGate>,
        heartbeats: Heartbeats<T>,
        poll_bytes: usize,
        deflate: Settings,
    ) -> Self {
        Self {
            list: Mutex::new(List {
                dirty: Vec::new(),
                broken: None,
                rounds: 0,
                since: None,
                waker: None,
                stopped: false,
            }),
            memory,
            stalls,
            heartbeats,
            poll_bytes,
            deflate,
        }
    }

    /// Returns the heartbeats of this flusher's sessions.
    pub(in crate::engine::outbox) fn heartbeats(&self) -> &Heartbeats<T> {
        &self.heartbeats
    }

    pub(in crate::engine::outbox) fn poll_bytes(&self) -> usize {
        self.poll_bytes
    }

    /// Returns how messages are compressed for clients that have negotiated it.
    pub(in crate::engine::outbox) fn deflate(&self) -> &Settings {
        &self.deflate
    }

    /// Returns the memory account of slow clients of all sessions.
    pub(in crate::engine::outbox) fn memory(&self) -> &MemoryBudget {
        &self.memory
    }

    /// Returns whether sessions may be written now.
    #[inline]
    pub(in crate::engine::outbox) fn may_write(&self) -> bool {
        self.stalls.is_open()
    }

    #[cfg(test)]
    pub(in crate::engine::outbox) fn memory_arc(&self) -> Arc<MemoryBudget> {
        Arc::clone(&self.memory)
    }

    pub(in crate::engine::outbox) fn enqueue(&self, session: T) {
        self.extend(|dirty| dirty.push(session));
    }

    pub(in crate::engine::outbox) fn enqueue_all(&self, sessions: &mut Vec<T>) {
        self.extend(|dirty| {
            if dirty.is_empty() {
                std::mem::swap(dirty, sessions);
            } else {
                dirty.append(sessions);
            }
        });
    }

    /// Adds sessions to the list and wakes the task.
    #[inline]
    fn extend(&self, add: impl FnOnce(&mut Vec<T>)) {
        let mut list = self.list.lock();
        if list.dirty.is_empty() {
            list.rounds = list.rounds.wrapping_add(1);
            if list.rounds % SAMPLED == 1 {
                list.since = Some(now());
            }
        }
        add(&mut list.dirty);
        // The waker is called without the lock, because the flusher may immediately run on another
        // thread and take the list.
        let waker = list.waker.take();
        drop(list);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    #[cfg(test)]
    pub(in crate::engine::outbox) fn take_listed(&self) -> Vec<T> {
        std::mem::take(&mut self.list.lock().dirty)
    }

    /// Empties the list without writing.
    #[cfg(feature = "fuzzing")]
    pub(in crate::engine::outbox) fn forget(&self) {
        self.list.lock().dirty.clear();
    }
}

impl<T: Flush> Flusher<T> {
    /// Writes until stopped. After a panic it can be run again: it ends the session that caused the
    /// panic and continues with the rest.
    pub(in crate::engine) async fn run(self: Arc<Self>) {
        let broken = self.list.lock().broken.take();
        // This outbox may remain marked as being written, so its client would receive nothing more.
        if let Some(session) = broken {
            session.give_up();
        }
        let mut work = Work {
            of: &self,
            sessions: VecDeque::new(),
            current: None,
            timed: None,
        };
        poll_fn(|cx| self.poll_work(&mut work, cx)).await;
    }

    fn poll_work(&self, work: &mut Work<'_, T>, cx: &mut Context<'_>) -> Poll<()> {
        if self.stalls.poll_open(cx).is_pending() {
            return Poll::Pending;
        }
        let sessions = &mut work.sessions;
        {
            let mut list = self.list.lock();
            sessions.extend(list.dirty.drain(..));
            if work.timed.is_none() {
                work.timed = list.since.take().map(|since| (since, sessions.len()));
            }
            if sessions.is_empty() {
                if list.stopped {
                    return Poll::Ready(());
                }
                give_back(&mut list.dirty);
                // Stored under the lock under which the list was found empty: a task that adds a
                // session later finds the waker, so no wake is lost.
                list.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        let (mut written, mut bytes) = (0, 0);
        while written < SESSIONS_PER_YIELD
            && bytes < BYTES_PER_YIELD
            && let Some(session) = sessions.pop_front()
        {
            written += 1;
            // Stored in `Work`, where it is found if writing panics.
            bytes += work.current.insert(session).flush();
        }
        work.current = None;
        if sessions.is_empty() && sessions.capacity() > RETAINED_CAPACITY {
            *sessions = VecDeque::new();
        }
        if let Some((since, left)) = work.timed.take() {
            if left <= written {
                let took = now() - since;
                self.memory.metrics().time(Timing::Queue, took);
            } else {
                work.timed = Some((since, left - written));
            }
        }
        // Other tasks of the worker continue before the rest, and before newly listed sessions.
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// The sessions that a flusher has taken out of its list.
struct Work<'a, T> {
    of: &'a Flusher<T>,
    sessions: VecDeque<T>,
    /// The session being written.
    current: Option<T>,
    /// The start of a timed round, and the number of its sessions that are left.
    timed: Option<(Instant, usize)>,
}

impl<T> Drop for Work<'_, T> {
    fn drop(&mut self) {
        // Without a panic, either nothing is left to write or the runtime is shutting down.
        if thread::panicking() {
            let mut list = self.of.list.lock();
            list.broken = self.current.take();
            list.dirty.extend(self.sessions.drain(..));
        }
    }
}

/// One round in this many is timed.
const SAMPLED: u32 = 16;

/// The capacity up to which an empty list keeps its allocation.
const RETAINED_CAPACITY: usize = 4096;

/// Frees the allocation of an empty list if it is large.
pub(in crate::engine::outbox) fn give_back<T>(list: &mut Vec<T>) {
    if list.capacity() > RETAINED_CAPACITY {
        *list = Vec::new();
    }
}

impl<T: PingTarget> Flusher<T> {
    /// Stops the tasks of this flusher.
    pub(in crate::engine) fn stop(&self) {
        let mut list = self.list.lock();
        list.stopped = true;
        if let Some(waker) = list.waker.take() {
            waker.wake();
        }
        drop(list);
        self.heartbeats.stop();
    }

    /// Sends pings until stopped.
    pub(in crate::engine) async fn beat(self: Arc<Self>) {
        self.heartbeats.run().await;
    }
}

#[cfg(test)]
mod tests {
    use std::{
        sync::atomic::{AtomicBool, AtomicUsize, Ordering},
        time::Duration,
    };

    use super::*;
    use crate::{metrics::Metrics, tasks::Tasks};

    /// A session that counts its calls.
    #[derive(Clone, Default)]
    struct Session(Arc<Done>);

    #[derive(Default)]
    struct Done {
        is_bad: AtomicBool,
        flushed: AtomicUsize,
        given_up: AtomicUsize,
    }

    impl Session {
        fn bad() -> Self {
            let session = Self::default();
            session.0.is_bad.store(true, Ordering::Relaxed);
            session
        }

        fn done(&self) -> (usize, usize) {
            let of = |count: &AtomicUsize| count.load(Ordering::Relaxed);
            (of(&self.0.flushed), of(&self.0.given_up))
        }
    }

    impl Flush for Session {
        fn flush(&self) -> usize {
            assert!(!self.0.is_bad.load(Ordering::Relaxed), "cannot be written");
            self.0.flushed.fetch_add(1, Ordering::Relaxed);
            1
        }

        fn give_up(&self) {
            self.0.given_up.fetch_add(1, Ordering::Relaxed);
        }
    }

    impl PingTarget for Session {
        fn begin(&self, _at: Instant) {}

        fn beat(&self, now: Instant, rhythm: &super::super::heartbeats::PingTiming) -> Instant {
            self.flush();
            now + rhythm.interval
        }

        fn give_up(&self) {
            Flush::give_up(self);
        }
    }

    const INTERVAL: Duration = Duration::from_millis(20);

    fn flusher() -> Arc<Flusher<Session>> {
        let memory = Arc::new(MemoryBudget::new(usize::MAX, Arc::new(Metrics::new())));
        let heartbeats = Heartbeats::new(INTERVAL, INTERVAL, now());
        Arc::new(Flusher::new(
            memory,
            Arc::default(),
            heartbeats,
            usize::MAX,
            Settings::default(),
        ))
    }

    #[tokio::test]
    async fn panicking_flusher_restarts_and_ends_only_faulty_session() {
        let flusher = flusher();
        let (first, bad, last) = (Session::default(), Session::bad(), Session::default());
        flusher.enqueue_all(&mut vec![first.clone(), bad.clone(), last.clone()]);
        let writing = Arc::clone(&flusher);
        let tasks = Tasks::new(Arc::default());
        let write = move || Arc::clone(&writing).run();
        let running = tokio::spawn(tasks.clone().keep("flusher", write));
        while last.done() != (1, 0) {
            tokio::task::yield_now().await;
        }
        assert_eq!((first.done(), bad.done()), ((1, 0), (0, 1)));
        assert!(tasks.ended()[0].is_restarted);
        flusher.enqueue(first.clone());
        flusher.stop();
        running.await.unwrap();
        assert_eq!(first.done(), (2, 0));
    }

    #[tokio::test]
    async fn panicking_heartbeats_restart_and_end_only_faulty_session() {
        let flusher = flusher();
        let (first, bad, last) = (Session::default(), Session::bad(), Session::default());
        for session in [&first, &bad, &last] {
            flusher.heartbeats().add(session, now()).unwrap();
        }
        let beating = Arc::clone(&flusher);
        let tasks = Tasks::new(Arc::default());
        let beat = move || Arc::clone(&beating).beat();
        let running = tokio::spawn(tasks.clone().keep("heartbeats", beat));
        while bad.done() != (0, 1) {
            tokio::task::yield_now().await;
        }
        bad.0.is_bad.store(false, Ordering::Relaxed);
        // All of them continue, including the ended session until it is removed.
        while [&first, &bad, &last]
            .iter()
            .any(|session| session.done().0 < 3)
        {
            tokio::task::yield_now().await;
        }
        assert_eq!((first.done().1, last.done().1), (0, 0));
        flusher.stop();
        running.await.unwrap();
    }
}
