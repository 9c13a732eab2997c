//! Which events have been handled, and what they were answered with.

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
        types::{Expiring, Refusal, give_back, sweep},
    },
    tasks::Tasks,
};

/// How much is remembered.
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

/// The answers of one handler. Its lock is a leaf.
#[derive(Default)]
pub(super) struct Table {
    entries: Mutex<Entries>,
    prints: Prints,
}

/// No event is in both `running` and `done`.
#[derive(Default)]
struct Entries {
    running: HashMap<Print, watch::Receiver<Option<Verdict>>>,
    done: Expiring<Print, Done>,
    /// What is done, by user, the oldest first.
    users: HashMap<Print, VecDeque<Print>>,
    bytes: usize,
}

/// A hash of what may be long.
type Print = [u64; 2];

/// Makes hashes of 128 bits: SipHash with two secret keys of this table. Who does not know the keys
/// can find no two texts with one hash but by chance, which is as good as none for so few.
#[derive(Default)]
struct Prints([RandomState; 2]);

impl Prints {
    fn of(&self, parts: &[&str]) -> Print {
        // Each text is hashed with a byte behind it that is in none, so that no text can end in another.
        self.0.each_ref().map(|key| key.hash_one(parts))
    }
}

struct Done {
    answered: Answered,
    user: Print,
    bytes: usize,
}

/// What a handler answered with.
#[derive(Clone, Debug)]
pub(super) enum Answered {
    Nothing,
    With(Args),
}

impl Answered {
    fn size(&self) -> usize {
        match self {
            Self::Nothing => 0,
            Self::With(args) => args.size() + args.len() * size_of::<u64>(),
        }
    }
}

/// How a handler has ended.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Answered(Answered),
    Refused(Refusal),
}

/// What is to be done with an event.
pub(super) enum Begun {
    /// The event is handled now.
    First(Ticket),
    /// Another one like it is at work.
    Running(watch::Receiver<Option<Verdict>>),
    /// Another one like it has been answered.
    Done(Answered),
}

/// A handler at work. Dropped without a verdict, it was never there.
pub(super) struct Ticket {
    table: Arc<Table>,
    print: Print,
    user: Print,
    bounds: Bounds,
    verdict: watch::Sender<Option<Verdict>>,
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
    ) -> Begun {
        let namespace = event.socket.nsp();
        let principal = event.principal();
        let id = event.socket.id();
        // A client without a name is known by its socket alone.
        let (kind, who) = match principal.subject.as_str() {
            "" => ("socket", id.as_str()),
            subject => ("user", subject),
        };
        let user = self.prints.of(&[kind, who]);
        let print = self.prints.of(&[namespace, kind, who, key]);
        // Looking and beginning happen under one lock, so that of two equal events one is the first.
        let mut entries = self.entries.lock();
        entries.expire(metrics);
        if let Some(done) = entries.done.get(&print) {
            return Begun::Done(done.answered.clone());
        }
        if let Some(verdict) = entries.running.get(&print) {
            return Begun::Running(verdict.clone());
        }
        let (sender, receiver) = watch::channel(None);
        entries.running.insert(print, receiver);
        Begun::First(Ticket {
            table: Arc::clone(self),
            print,
            user,
            bounds,
            verdict: sender,
            metrics: Arc::clone(metrics),
            tasks: event.socket.io().tasks().clone(),
            is_settled: false,
        })
    }
}

impl Ticket {
    /// The handler has answered.
    pub(super) fn answer(mut self, answered: Answered) {
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
                    entries.done.look_again()
                })
            };
            runtime.spawn(self.tasks.clone().keep("sweep of answers", sweeping));
        }
        drop(entries);
        // The waiting repeats are told last, so that no event comes in between.
        let _ = self.verdict.send(Some(Verdict::Answered(answered)));
    }

    /// The handler has refused: the event may be tried again.
    pub(super) fn refuse(self, refusal: Refusal) {
        // The event counts as not handled before the waiting repeats are told, because they may be tried at once.
        let verdict = self.verdict.clone();
        drop(self);
        let _ = verdict.send(Some(Verdict::Refused(refusal)));
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
    /// A handler is at work no more.
    fn ends(&mut self, print: &Print) {
        self.running.remove(print);
        give_back(&mut self.running);
    }

    fn expire(&mut self, metrics: &Metrics) {
        let now = Instant::now();
        while let Some((print, done)) = self.done.pop_due(now) {
            self.forget(&print, &done, metrics);
        }
    }

    fn make_room(&mut self, user: &Print, bounds: Bounds, metrics: &Metrics) {
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

    /// An answer has gone.
    fn forget(&mut self, print: &Print, done: &Done, metrics: &Metrics) {
        metrics.shift(Gauge::IdempotentAnswers, -1);
        self.bytes -= done.bytes;
        if let Some(own) = self.users.get_mut(&done.user) {
            // All are remembered for the same time, so the oldest of all is its user's, too.
            let oldest = own.pop_front();
            debug_assert_eq!(oldest.as_ref(), Some(print));
            if own.is_empty() {
                self.users.remove(&done.user);
            }
        }
        give_back(&mut self.users);
    }
}
