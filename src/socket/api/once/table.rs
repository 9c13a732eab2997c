//! The handled events and their answers.
//!
//! Answers are stored as arguments and not as frames, because a repeated event has another
//! acknowledgement id.

use std::{
    collections::{HashMap, VecDeque},
    hash::{BuildHasher as _, RandomState},
    sync::Arc,
    time::Duration,
};

use parking_lot::Mutex;
use roomcast_protocol::socket::Args;
use tokio::{sync::watch, time::Instant};

use crate::{
    metrics::{Gauge, Metrics},
    socket::{
        core::Event,
        types::{Expiring, Refusal, shrink_map, sweep},
    },
    tasks::Tasks,
};

/// The limits of a table.
#[derive(Clone, Copy, Debug)]
pub(super) struct Bounds {
    pub(super) window: Duration,
    pub(super) keys: usize,
    pub(super) keys_of_user: usize,
    pub(super) bytes: usize,
}

impl Default for Bounds {
    fn default() -> Self {
        Self {
            window: Duration::from_secs(600),
            keys: 100_000,
            keys_of_user: 1000,
            bytes: 64 << 20,
        }
    }
}

/// The answers of one handler. Its lock is a leaf lock.
#[derive(Default)]
pub(super) struct Table {
    entries: Mutex<Entries>,
    prints: KeyHashes,
}

/// No event is in both `running` and `done`.
#[derive(Default)]
struct Entries {
    running: HashMap<KeyHash, watch::Receiver<Option<HandlerOutcome>>>,
    done: Expiring<KeyHash, Done>,
    /// The finished events of each user, oldest first.
    users: HashMap<KeyHash, VecDeque<KeyHash>>,
    bytes: usize,
}

/// A hash of a key of any length.
type KeyHash = [u64; 2];

/// Computes 128-bit hashes: SipHash with two secret keys per table. Without the keys, an attacker
/// cannot construct a collision, and an accidental collision is negligibly likely.
#[derive(Default)]
struct KeyHashes([RandomState; 2]);

impl KeyHashes {
    fn of(&self, parts: &[&str]) -> KeyHash {
        // Each string is hashed with a terminator byte, so that different lists cannot concatenate
        // to equal input.
        self.0.each_ref().map(|key| key.hash_one(parts))
    }
}

struct Done {
    answered: StoredAnswer,
    user: KeyHash,
    bytes: usize,
}

/// The answer of a handler.
#[derive(Clone, Debug)]
pub(super) enum StoredAnswer {
    Nothing,
    With(Args),
}

impl StoredAnswer {
    fn size(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::With(args) => args.size() + args.len() * size_of::<u64>(),
        }
    }
}

/// The outcome of a handler.
#[derive(Clone, Debug)]
pub(super) enum HandlerOutcome {
    StoredAnswer(StoredAnswer),
    Refused(Refusal),
}

/// How to process an event.
pub(super) enum BeginOutcome {
    /// The event is new and must be handled.
    First(Ticket),
    /// An equal event is being handled.
    Running(watch::Receiver<Option<HandlerOutcome>>),
    /// An equal event has been answered.
    Done(StoredAnswer),
}

/// A running handler. If it is dropped without an outcome, the event counts as never handled.
pub(super) struct Ticket {
    table: Arc<Table>,
    print: KeyHash,
    user: KeyHash,
    bounds: Bounds,
    outcome: watch::Sender<Option<HandlerOutcome>>,
    metrics: Arc<Metrics>,
    tasks: Tasks,
    is_settled: bool,
}

impl Table {
    pub(super) fn begin(
        self: &Arc<Self>,
        event: &Event,
        key: &str,
        bounds: Bounds,
        metrics: &Arc<Metrics>,
    ) -> BeginOutcome {
        let namespace = event.socket.nsp();
        let principal = event.principal();
        let id = event.socket.id();
        // An anonymous client is identified by its socket only.
        let (kind, owner) = match principal.subject.as_str() {
            "" => ("socket", id.as_str()),
            subject => ("user", subject),
        };
        let user = self.prints.of(&[kind, owner]);
        let print = self.prints.of(&[namespace, kind, owner, key]);
        // The lookup and the insertion share one lock, so that exactly one of two equal events is
        // first.
        let mut entries = self.entries.lock();
        entries.expire(metrics);
        if let Some(done) = entries.done.get(&print) {
            return BeginOutcome::Done(done.answered.clone());
        }
        if let Some(outcome) = entries.running.get(&print) {
            return BeginOutcome::Running(outcome.clone());
        }
        let (sender, receiver) = watch::channel(None);
        entries.running.insert(print, receiver);
        BeginOutcome::First(Ticket {
            table: Arc::clone(self),
            print,
            user,
            bounds,
            outcome: sender,
            metrics: Arc::clone(metrics),
            tasks: event.socket.io().tasks().clone(),
            is_settled: false,
        })
    }
}

impl Ticket {
    /// Stores the answer of the handler.
    pub(super) fn answer(mut self, answered: StoredAnswer) {
        self.is_settled = true;
        let done = Done {
            answered: answered.clone(),
            user: self.user,
            bytes: size_of::<Done>() + answered.size(),
        };
        let mut entries = self.table.entries.lock();
        entries.ends(&self.print);
        entries.bytes += done.bytes;
        let until = Instant::now() + self.bounds.window;
        entries.done.insert(self.print, done, until);
        entries
            .users
            .entry(self.user)
            .or_default()
            .push_back(self.print);
        self.metrics.shift(Gauge::IdempotentAnswers, 1);
        entries.make_room(&self.user, self.bounds, &self.metrics);
        if let Ok(runtime) = tokio::runtime::Handle::try_current()
            && entries.done.must_sweep()
        {
            let (table, metrics) = (Arc::downgrade(&self.table), Arc::clone(&self.metrics));
            let sweeping = move || {
                let metrics = Arc::clone(&metrics);
                sweep(table.clone(), move |table: &Table| {
                    let mut entries = table.entries.lock();
                    entries.expire(&metrics);
                    entries.done.next_sweep()
                })
            };
            runtime.spawn(self.tasks.clone().keep("sweep of answers", sweeping));
        }
        drop(entries);
        // Waiting repeats are notified last, after the answer is stored.
        let _ = self
            .outcome
            .send(Some(HandlerOutcome::StoredAnswer(answered)));
    }

    /// Notifies waiting repeats of a refusal. The event may be tried again.
    pub(super) fn refuse(self, refusal: Refusal) {
        // The event is removed before waiting repeats are notified, because they may be retried
        // immediately.
        let outcome = self.outcome.clone();
        drop(self);
        let _ = outcome.send(Some(HandlerOutcome::Refused(refusal)));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_settled {
            self.table.entries.lock().ends(&self.print);
        }
    }
}

impl Entries {
    /// Removes a handler that has ended.
    fn ends(&mut self, print: &KeyHash) {
        self.running.remove(print);
        shrink_map(&mut self.running);
    }

    fn expire(&mut self, metrics: &Metrics) {
        let now = Instant::now();
        while let Some((print, done)) = self.done.pop_due(now) {
            self.forget(&print, &done, metrics);
        }
    }

    fn make_room(&mut self, user: &KeyHash, bounds: Bounds, metrics: &Metrics) {
        while let Some(own) = self.users.get(user)
            && own.len() > bounds.keys_of_user
            && let Some(print) = own.front().copied()
            && let Some((_, done)) = self.done.remove(&print)
        {
            self.forget(&print, &done, metrics);
        }
        while (self.done.len() > bounds.keys || self.bytes > bounds.bytes)
            && let Some((print, done)) = self.done.pop()
        {
            self.forget(&print, &done, metrics);
        }
    }

    /// Subtracts a removed answer from the totals.
    fn forget(&mut self, print: &KeyHash, done: &Done, metrics: &Metrics) {
        metrics.shift(Gauge::IdempotentAnswers, -1);
        self.bytes -= done.bytes;
        if let Some(own) = self.users.get_mut(&done.user) {
            // All answers have the same lifetime, so the oldest of the table is also the oldest of
            // its user.
            let oldest = own.pop_front();
            debug_assert_eq!(oldest.as_ref(), Some(print));
            if own.is_empty() {
                self.users.remove(&done.user);
            }
        }
        shrink_map(&mut self.users);
    }
}
