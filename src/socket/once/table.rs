//! Which events have been handled, and what they were answered with.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, hash_map::Entry},
    sync::{Arc, Weak},
};

use bytes::Bytes;
use parking_lot::Mutex;
use roomcast_protocol::socket::Args;
use sha2::{Digest as _, Sha256};
use tokio::{
    sync::watch,
    time::{Instant, sleep_until},
};

use super::Bounds;
use crate::{
    metrics::{Gauge, Metrics},
    socket::{Event, Refusal},
};

/// The answers of one handler. Its lock is a leaf.
#[derive(Default)]
pub(super) struct Table(Mutex<State>);

#[derive(Default)]
struct State {
    places: HashMap<Print, Place>,
    /// Those that are answered, the oldest first.
    order: BTreeMap<Expiry, Print>,
    /// The same by user.
    users: HashMap<Print, BTreeSet<Expiry>>,
    bytes: usize,
    last: u64,
    is_swept: bool,
}

/// A hash of what may be long.
type Print = [u8; 32];
/// A time, and a number that makes it unique.
type Expiry = (Instant, u64);

enum Place {
    Running(watch::Receiver<Option<Verdict>>),
    Done {
        answered: Answered,
        user: Print,
        bytes: usize,
    },
}

/// What a handler answered with.
#[derive(Clone, Debug)]
pub(super) enum Answered {
    Nothing,
    With(Args),
}

/// How a handler has ended.
#[derive(Clone, Debug)]
pub(super) enum Verdict {
    Answered(Answered),
    Refused(Refusal),
}

/// What is to be done with an event.
pub(super) enum Begun {
    /// It is handled now.
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
        // Of somebody without a name only the socket is known.
        let (kind, who) = match principal.subject.as_str() {
            "" => ("socket", id.as_str()),
            subject => ("user", subject),
        };
        let user = print(&[kind, who]);
        let print = print(&[namespace, kind, who, key]);
        let mut state = self.0.lock();
        state.expire(Instant::now(), metrics);
        match state.places.entry(print) {
            Entry::Occupied(entry) => match entry.get() {
                Place::Running(verdict) => Begun::Running(verdict.clone()),
                Place::Done { answered, .. } => Begun::Done(answered.clone()),
            },
            Entry::Vacant(entry) => {
                let (sender, receiver) = watch::channel(None);
                entry.insert(Place::Running(receiver));
                Begun::First(Ticket {
                    table: Arc::clone(self),
                    print,
                    user,
                    bounds,
                    verdict: sender,
                    metrics: Arc::clone(metrics),
                    is_settled: false,
                })
            }
        }
    }

    /// Forgets answers in time, as long as there are any.
    async fn sweep(table: Weak<Self>, metrics: Arc<Metrics>) {
        while let Some(strong) = table.upgrade() {
            let next = {
                let mut state = strong.0.lock();
                state.expire(Instant::now(), &metrics);
                let next = state.order.first_key_value().map(|((at, _), _)| *at);
                state.is_swept = next.is_some();
                next
            };
            drop(strong);
            let Some(next) = next else { return };
            sleep_until(next).await;
        }
    }
}

impl Ticket {
    /// The handler has answered.
    pub(super) fn answer(mut self, answered: Answered) {
        self.is_settled = true;
        let mut state = self.table.0.lock();
        state.last += 1;
        let expiry = (Instant::now() + self.bounds.window, state.last);
        let bytes = size_of::<Place>() + size_of_answer(&answered);
        let done = Place::Done {
            answered: answered.clone(),
            user: self.user,
            bytes,
        };
        state.places.insert(self.print, done);
        state.order.insert(expiry, self.print);
        state.users.entry(self.user).or_default().insert(expiry);
        state.bytes += bytes;
        self.metrics.shift(Gauge::IdempotentAnswers, 1);
        state.make_room(self.user, self.bounds, &self.metrics);
        let must_sweep = !state.order.is_empty() && !state.is_swept;
        let runtime = tokio::runtime::Handle::try_current();
        state.is_swept |= must_sweep && runtime.is_ok();
        drop(state);
        if must_sweep && let Ok(runtime) = runtime {
            let table = Arc::downgrade(&self.table);
            runtime.spawn(Table::sweep(table, Arc::clone(&self.metrics)));
        }
        // Those who wait are told last, so that nobody comes in between.
        let _ = self.verdict.send(Some(Verdict::Answered(answered)));
    }

    /// The handler has refused: the event may be tried again.
    pub(super) fn refuse(self, refusal: Refusal) {
        let verdict = self.verdict.clone();
        drop(self);
        let _ = verdict.send(Some(Verdict::Refused(refusal)));
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        if !self.is_settled {
            self.table.0.lock().places.remove(&self.print);
        }
    }
}

impl State {
    fn expire(&mut self, now: Instant, metrics: &Metrics) {
        while let Some((first, _)) = self.order.first_key_value()
            && first.0 <= now
        {
            let first = *first;
            self.forget(first, metrics);
        }
    }

    fn make_room(&mut self, user: Print, bounds: Bounds, metrics: &Metrics) {
        while let Some(own) = self.users.get(&user)
            && own.len() > bounds.keys_of_user
            && let Some(oldest) = own.first().copied()
        {
            self.forget(oldest, metrics);
        }
        while (self.order.len() > bounds.keys || self.bytes > bounds.bytes)
            && let Some((oldest, _)) = self.order.first_key_value()
        {
            let oldest = *oldest;
            self.forget(oldest, metrics);
        }
    }

    fn forget(&mut self, expiry: Expiry, metrics: &Metrics) {
        let Some(print) = self.order.remove(&expiry) else {
            return;
        };
        metrics.shift(Gauge::IdempotentAnswers, -1);
        if let Some(Place::Done { user, bytes, .. }) = self.places.remove(&print) {
            self.bytes -= bytes;
            if let Some(own) = self.users.get_mut(&user) {
                own.remove(&expiry);
                if own.is_empty() {
                    self.users.remove(&user);
                }
            }
        }
        if self.places.len() < self.places.capacity() / 4 {
            let kept = self.places.len() * 2;
            self.places.shrink_to(kept);
        }
        if self.users.len() < self.users.capacity() / 4 {
            let kept = self.users.len() * 2;
            self.users.shrink_to(kept);
        }
    }
}

fn print(parts: &[&str]) -> Print {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hash.finalize().into()
}

fn size_of_answer(answered: &Answered) -> usize {
    match answered {
        Answered::Nothing => 0,
        Answered::With(args) => {
            let json: usize = args.iter().map(<[u8]>::len).sum();
            json + args.attachments().iter().map(Bytes::len).sum::<usize>()
        }
    }
}
