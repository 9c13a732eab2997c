//! Writes what outboxes have queued: one task per worker, first in, first out.
//!
//! A broadcast appends to every member's queue and then wakes each flusher once. The
//! flusher takes everything queued for a session and writes it in one call.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::Instant,
};

use parking_lot::Mutex;

use super::{clock::now, heartbeats::Heartbeats, outbox::Outbox, pressure::Pressure};
use crate::metrics::Timing;

/// Sessions written before other tasks get their turn. With fewer, clients that are served in between
/// have their own copies long before others have theirs, and send on.
const SESSIONS_PER_TURN: usize = 1024;
/// Bytes written before other tasks get their turn; one session may exceed it.
const BYTES_PER_TURN: usize = 2 * 1024 * 1024;

/// The list of sessions that have something to write.
pub(crate) struct Flusher {
    list: Mutex<List>,
    pressure: Arc<Pressure>,
    heartbeats: Heartbeats,
    poll_bytes: usize,
}

#[derive(Default)]
struct List {
    dirty: Vec<Outbox>,
    /// How often something came into the list when it was empty.
    rounds: u32,
    /// When that was last, of one round in [`SAMPLED`].
    since: Option<Instant>,
    waker: Option<Waker>,
    stopped: bool,
}

impl Flusher {
    /// `poll_bytes`: how many bytes the answer to one poll may have.
    pub(super) fn new(pressure: Arc<Pressure>, heartbeats: Heartbeats, poll_bytes: usize) -> Self {
        Self {
            list: Mutex::default(),
            pressure,
            heartbeats,
            poll_bytes,
        }
    }

    /// The heartbeats of the sessions that this flusher writes for.
    pub(super) fn heartbeats(&self) -> &Heartbeats {
        &self.heartbeats
    }

    pub(super) fn poll_bytes(&self) -> usize {
        self.poll_bytes
    }

    /// What waits for slow clients in all sessions together.
    pub(super) fn pressure(&self) -> &Pressure {
        &self.pressure
    }

    #[cfg(test)]
    pub(super) fn pressure_arc(&self) -> Arc<Pressure> {
        Arc::clone(&self.pressure)
    }

    pub(super) fn enqueue(&self, outbox: Outbox) {
        let mut list = self.list.lock();
        list.begin_round();
        list.dirty.push(outbox);
        let waker = list.waker.take();
        drop(list);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn enqueue_all(&self, outboxes: &mut Vec<Outbox>) {
        let mut list = self.list.lock();
        list.begin_round();
        if list.dirty.is_empty() {
            std::mem::swap(&mut list.dirty, outboxes);
        } else {
            list.dirty.append(outboxes);
        }
        let waker = list.waker.take();
        drop(list);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Empties the list without writing.
    pub(super) fn forget(&self) {
        self.list.lock().dirty.clear();
    }

    /// Lets the task of this flusher end.
    pub(super) fn stop(&self) {
        let mut list = self.list.lock();
        list.stopped = true;
        if let Some(waker) = list.waker.take() {
            waker.wake();
        }
        drop(list);
        self.heartbeats.stop();
    }

    /// Writes until stopped.
    pub(super) async fn run(self: Arc<Self>) {
        let mut work = Work::default();
        poll_fn(|cx| self.turn(&mut work, cx)).await;
    }

    fn turn(&self, work: &mut Work, cx: &mut Context<'_>) -> Poll<()> {
        let outboxes = &mut work.outboxes;
        {
            let mut list = self.list.lock();
            outboxes.extend(list.dirty.drain(..));
            if work.timed.is_none() {
                work.timed = list.since.take().map(|since| (since, outboxes.len()));
            }
            if outboxes.is_empty() {
                if list.stopped {
                    return Poll::Ready(());
                }
                give_back(&mut list.dirty);
                list.waker = Some(cx.waker().clone());
                return Poll::Pending;
            }
        }
        let (mut written, mut bytes) = (0, 0);
        while written < SESSIONS_PER_TURN
            && bytes < BYTES_PER_TURN
            && let Some(outbox) = outboxes.pop_front()
        {
            written += 1;
            bytes += outbox.flush();
        }
        if outboxes.is_empty() && outboxes.capacity() > KEPT {
            *outboxes = VecDeque::new();
        }
        if let Some((since, left)) = work.timed.take() {
            if left <= written {
                let took = now() - since;
                self.pressure.metrics().time(Timing::Queue, took);
            } else {
                work.timed = Some((since, left - written));
            }
        }
        cx.waker().wake_by_ref();
        Poll::Pending
    }
}

/// What a flusher has taken out of its list.
#[derive(Default)]
struct Work {
    outboxes: VecDeque<Outbox>,
    /// When a round that is timed began, and how many are left up to its end.
    timed: Option<(Instant, usize)>,
}

/// Of so many rounds one is timed.
const SAMPLED: u32 = 16;

impl List {
    /// Somebody is about to be put into it.
    fn begin_round(&mut self) {
        if self.dirty.is_empty() {
            self.rounds = self.rounds.wrapping_add(1);
            if self.rounds % SAMPLED == 1 {
                self.since = Some(now());
            }
        }
    }
}

/// Entries of room that an empty list keeps.
const KEPT: usize = 4096;

fn give_back(list: &mut Vec<Outbox>) {
    if list.capacity() > KEPT {
        *list = Vec::new();
    }
}

impl std::fmt::Debug for Flusher {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Flusher").finish_non_exhaustive()
    }
}

/// The sessions that one broadcast has made dirty, by flusher. Handed over by
/// [`finish`](Self::finish) after the room's lock is released, or when dropped.
#[derive(Debug, Default)]
pub(crate) struct Batch {
    lists: Lists,
}

type Lists = Vec<(Arc<Flusher>, Vec<Outbox>)>;

/// Batches a thread keeps: one for a broadcast and one for a broadcast inside of it.
const MAX_SPARE: usize = 2;
/// Flushers a kept batch remembers; a thread that saw more has served several servers.
const MAX_LISTS: usize = 64;

thread_local! {
    static SPARE: RefCell<Vec<Lists>> = const { RefCell::new(Vec::new()) };
}

impl Batch {
    /// An empty batch; its lists are reused from an earlier one of this thread.
    pub(crate) fn new() -> Self {
        Self {
            lists: SPARE.with_borrow_mut(Vec::pop).unwrap_or_default(),
        }
    }

    pub(super) fn add(&mut self, flusher: &Arc<Flusher>, outbox: Outbox) {
        for (known, list) in &mut self.lists {
            if Arc::ptr_eq(known, flusher) {
                list.push(outbox);
                return;
            }
        }
        self.lists.push((Arc::clone(flusher), vec![outbox]));
    }

    /// Gives every flusher its sessions, with one wake each.
    pub(crate) fn finish(self) {
        drop(self);
    }
}

impl Drop for Batch {
    fn drop(&mut self) {
        for (flusher, list) in &mut self.lists {
            if !list.is_empty() {
                flusher.enqueue_all(list);
                give_back(list);
            }
        }
        if self.lists.len() > MAX_LISTS {
            self.lists.clear();
        }
        // While a thread ends its batches are gone already: then this one is just dropped.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < MAX_SPARE {
                spare.push(std::mem::take(&mut self.lists));
            }
        });
    }
}
