//! Events of which each key is sent at most once in an interval, and the newest meanwhile waits for its turn.
//!
//! A key that was sent has an entry until its interval is over. Whoever sends has the *turn* of the key: what
//! others have to send then waits in the entry, so that an older event never comes behind a newer one. Nothing is
//! sent here: `apply` does that.

use std::{
    collections::{BTreeSet, HashMap},
    sync::{Arc, LazyLock},
    time::Duration,
};

use parking_lot::Mutex;
use roomcast_protocol::socket::{Args, Nsp};
use tokio::{sync::Notify, time::Instant};

use crate::{
    adapter::{Audience, Flags},
    socket::types::{RoomName, SocketId, give_back},
};

/// An event that waits for the end of an interval, with all that is needed to send it.
pub(crate) struct Held {
    pub(crate) namespace: Nsp,
    pub(crate) rooms: Audience<'static>,
    pub(crate) except: Vec<RoomName<'static>>,
    pub(crate) sender: Option<SocketId>,
    pub(crate) local: bool,
    pub(crate) flags: Flags,
    pub(crate) stream: Option<Box<str>>,
    pub(crate) event: Box<str>,
    pub(crate) args: Args,
    pub(crate) interval: Duration,
}

/// The keys of one server that were sent lately.
pub(crate) struct Paced<T = Held> {
    table: Mutex<Table<T>>,
    /// Notified when something is due before all that was there.
    stirred: Notify,
}

struct Table<T> {
    entries: HashMap<u64, Entry<T>>,
    /// The entries that nobody has the turn of, by the time at which their interval is over.
    due: BTreeSet<(Instant, u64)>,
    /// Whether a task calls [`Paced::next`].
    is_watched: bool,
    /// Whether nothing waits any more.
    is_closed: bool,
}

struct Entry<T> {
    /// When the next event may be sent; `None` while somebody has the turn.
    due: Option<Instant>,
    waiting: Option<T>,
}

/// What is to be done with an event.
pub(crate) enum Offered<T> {
    /// To be sent now, with the turn.
    Turn(Turn<T>),
    /// To be given to [`Paced::hold`].
    Wait,
    /// To be sent now: there is no room for its key, or the server closes.
    Free,
}

/// What is due.
pub(crate) enum Next<T> {
    Send(T, Turn<T>),
    Wait(Instant),
    /// There is no entry left; whoever asks must ask no more.
    Nothing,
}

/// What is to be done at the end of a turn.
pub(crate) enum After<T> {
    Nothing,
    /// A task must begin to call [`Paced::next`]; if it cannot, [`Paced::give_up`] must be called.
    Watch,
    /// The server closes: this is to be sent at once.
    Send(T, Turn<T>),
}

/// The right to send an event of a key.
pub(crate) struct Turn<T> {
    paced: Arc<Paced<T>>,
    key: u64,
    interval: Duration,
    is_over: bool,
}

impl<T> Default for Paced<T> {
    fn default() -> Self {
        Self {
            table: Mutex::new(Table {
                entries: HashMap::new(),
                due: BTreeSet::new(),
                is_watched: false,
                is_closed: false,
            }),
            stirred: Notify::new(),
        }
    }
}

impl<T> Paced<T> {
    /// What is to be done with an event of this key, which may be sent again after `interval`.
    pub(crate) fn offer(self: &Arc<Self>, key: u64, interval: Duration) -> Offered<T> {
        let mut table = self.table.lock();
        if table.is_closed {
            return Offered::Free;
        }
        let Table { entries, due, .. } = &mut *table;
        let is_full = entries.len() >= MOST_KEYS;
        match entries.get_mut(&key) {
            Some(entry) if entry.is_over(Instant::now()) => {
                if let Some(over) = entry.due.take() {
                    due.remove(&(over, key));
                }
            }
            Some(_) => return Offered::Wait,
            None if is_full => return Offered::Free,
            None => drop(entries.insert(key, Entry::in_turn())),
        }
        drop(table);
        Offered::Turn(self.turn(key, interval))
    }

    /// Lets an event wait in the place of the one that waits. One that need not wait any more is given back,
    /// with the turn if the key has one.
    pub(crate) fn hold(
        self: &Arc<Self>,
        key: u64,
        interval: Duration,
        event: T,
    ) -> Result<(), (T, Option<Turn<T>>)> {
        let mut table = self.table.lock();
        if table.is_closed {
            return Err((event, None));
        }
        if let Some(entry) = table.entries.get_mut(&key) {
            // The event that is replaced is dropped without the lock.
            let before = entry.waiting.replace(event);
            drop(table);
            drop(before);
            return Ok(());
        }
        // The entry has gone since `offer`, so that the event need not wait any more.
        if table.entries.len() >= MOST_KEYS {
            return Err((event, None));
        }
        table.entries.insert(key, Entry::in_turn());
        drop(table);
        Err((event, Some(self.turn(key, interval))))
    }

    fn turn(self: &Arc<Self>, key: u64, interval: Duration) -> Turn<T> {
        Turn {
            paced: Arc::clone(self),
            key,
            interval,
            is_over: false,
        }
    }

    /// What is due now, with the turn of its key for as long as `interval` says.
    pub(crate) fn next(self: &Arc<Self>, interval: impl Fn(&T) -> Duration) -> Next<T> {
        let now = Instant::now();
        let mut table = self.table.lock();
        loop {
            let Some(&(due, key)) = table.due.first() else {
                // Whoever has the last turn has a task begin anew at the end of the turn.
                table.is_watched = false;
                return Next::Nothing;
            };
            if due > now {
                return Next::Wait(due);
            }
            table.due.pop_first();
            let Some(entry) = table.entries.get_mut(&key) else {
                continue;
            };
            entry.due = None;
            if let Some(event) = entry.waiting.take() {
                drop(table);
                let interval = interval(&event);
                return Next::Send(event, self.turn(key, interval));
            }
            table.entries.remove(&key);
            give_back(&mut table.entries);
        }
    }

    /// Waits until then, or until something is due before.
    pub(crate) async fn wait(&self, until: Instant) {
        let _ = tokio::time::timeout_at(until, self.stirred.notified()).await;
    }

    /// No task can call [`next`](Self::next): gives back all that waits. Events wait again as soon as one can.
    pub(crate) fn give_up(&self) -> Vec<T> {
        let mut table = self.table.lock();
        table.is_watched = false;
        table.take_waiting()
    }

    /// From now on nothing waits: gives back all that does. What waits behind somebody's turn is sent at its end.
    pub(crate) fn close(&self) -> Vec<T> {
        let mut table = self.table.lock();
        table.is_closed = true;
        table.take_waiting()
    }

    /// Ends a turn. Says what waited behind it if the server closes, and whether nobody calls [`next`](Self::next).
    fn end(&self, key: u64, interval: Duration) -> (Option<T>, bool) {
        let mut table = self.table.lock();
        let is_closed = table.is_closed;
        let Some(entry) = table.entries.get_mut(&key) else {
            return (None, false);
        };
        if is_closed {
            let waiting = entry.waiting.take();
            if waiting.is_none() {
                table.entries.remove(&key);
            }
            return (waiting, false);
        }
        let due = due(Instant::now(), interval);
        entry.due = Some(due);
        table.due.insert((due, key));
        let is_first = table.due.first() == Some(&(due, key));
        let is_watched = table.is_watched;
        drop(table);
        if is_first && is_watched {
            // The task may be between `next` and `wait`: `notify_one` leaves a permit that ends this wait at once.
            self.stirred.notify_one();
        }
        (None, !is_watched)
    }

    /// Whether whoever asks has to have [`next`](Self::next) called from now on.
    fn begin_watch(&self) -> bool {
        let mut table = self.table.lock();
        !table.due.is_empty() && !std::mem::replace(&mut table.is_watched, true)
    }
}

impl<T> Table<T> {
    /// Forgets all entries that nobody has the turn of, and gives back what waits in them, in the order of its times.
    fn take_waiting(&mut self) -> Vec<T> {
        let due = std::mem::take(&mut self.due);
        let entries = due
            .into_iter()
            .filter_map(|(_, key)| self.entries.remove(&key));
        entries.filter_map(|entry| entry.waiting).collect()
    }
}

impl<T> Entry<T> {
    fn in_turn() -> Self {
        Self {
            due: None,
            waiting: None,
        }
    }

    /// Whether the interval is over and nothing waits.
    fn is_over(&self, now: Instant) -> bool {
        self.waiting.is_none() && self.due.is_some_and(|due| due <= now)
    }
}

impl<T> Turn<T> {
    /// The event was sent: the next one of its key may be when the interval is over.
    pub(crate) fn end(mut self) -> After<T> {
        self.is_over = true;
        let (waiting, is_unwatched) = self.paced.end(self.key, self.interval);
        if let Some(event) = waiting {
            let again = self.paced.turn(self.key, self.interval);
            return After::Send(event, again);
        }
        if is_unwatched && self.paced.begin_watch() {
            return After::Watch;
        }
        After::Nothing
    }
}

impl<T> Drop for Turn<T> {
    fn drop(&mut self) {
        // The turn is dropped unended only if sending has panicked. What waits is sent in its time, or at the end of the next
        // turn of any key.
        if !self.is_over {
            let _ = self.paced.end(self.key, self.interval);
        }
    }
}

/// When an interval is over that begins now. It is rounded up by at most an eighth of it, so that keys that were
/// sent at about the same time are sent together, and each client gets them in one write.
fn due(now: Instant, interval: Duration) -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let interval = interval.min(LONGEST);
    let step = (interval / 8).as_nanos().max(1);
    let end = (now.saturating_duration_since(*START) + interval).as_nanos();
    let late = end.next_multiple_of(step) - end;
    now + interval + Duration::from_nanos(u64::try_from(late).unwrap_or(0))
}

/// Keys that were sent lately; the events of further keys are sent at once.
const MOST_KEYS: usize = 65_536;
/// The longest interval.
const LONGEST: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    type Numbers = Arc<Paced<u32>>;

    const TENTH: Duration = Duration::from_millis(100);

    /// Offers an event as `apply` does, to a list in the place of clients.
    fn send(paced: &Numbers, key: u64, event: u32, sent: &mut Vec<u32>) {
        match paced.offer(key, TENTH) {
            Offered::Free => sent.push(event),
            Offered::Turn(turn) => {
                sent.push(event);
                let _ = turn.end();
            }
            Offered::Wait => assert!(paced.hold(key, TENTH, event).is_ok()),
        }
    }

    /// What is due now, and when the next is.
    fn due_now(paced: &Numbers, sent: &mut Vec<u32>) -> Option<Instant> {
        loop {
            match paced.next(|_| TENTH) {
                Next::Nothing => return None,
                Next::Wait(until) => return Some(until),
                Next::Send(event, turn) => {
                    sent.push(event);
                    let _ = turn.end();
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_is_sent_at_once_those_between_are_folded_and_the_last_comes() {
        let (paced, mut sent) = (Numbers::default(), Vec::new());
        let begin = Instant::now();
        for event in 1..=25 {
            send(&paced, 1, event, &mut sent);
            advance(Duration::from_millis(10)).await;
            due_now(&paced, &mut sent);
        }
        // Three intervals of at most 112.5 ms are over, or two.
        assert_eq!((sent[0], sent.len()), (1, 3), "{sent:?}");
        let next = due_now(&paced, &mut sent).unwrap();
        assert!(next <= begin + Duration::from_millis(350));
        tokio::time::sleep_until(next).await;
        let idle = due_now(&paced, &mut sent).unwrap();
        assert_eq!(sent.last(), Some(&25));
        sleep(idle - Instant::now()).await;
        assert_eq!(due_now(&paced, &mut sent), None);
        assert_eq!(sent.len(), 4);
        // A key that has rested is sent at once again.
        send(&paced, 1, 26, &mut sent);
        assert_eq!(sent.last(), Some(&26));
    }

    #[tokio::test(start_paused = true)]
    async fn an_interval_is_never_shorter_and_at_most_an_eighth_longer() {
        for millis in 0..50 {
            advance(Duration::from_millis(millis)).await;
            let now = Instant::now();
            for interval in [1, 7, 100, 60_000].map(Duration::from_millis) {
                let waited = due(now, interval) - now;
                assert!(waited >= interval && waited <= interval + interval / 8);
            }
        }
        let longest = due(Instant::now(), Duration::MAX) - Instant::now();
        assert!(longest <= LONGEST + LONGEST / 8);
    }

    #[tokio::test(start_paused = true)]
    async fn while_somebody_sends_what_others_have_waits_and_comes_behind() {
        let (paced, mut sent) = (Numbers::default(), Vec::new());
        let Offered::Turn(turn) = paced.offer(1, TENTH) else {
            panic!("a new key is sent at once");
        };
        send(&paced, 1, 2, &mut sent);
        // However long it takes.
        advance(TENTH * 3).await;
        send(&paced, 1, 3, &mut sent);
        assert!(matches!(paced.next(|_| TENTH), Next::Nothing));
        assert!(matches!(turn.end(), After::Watch));
        assert_eq!(sent.len(), 0);
        advance(TENTH * 2).await;
        due_now(&paced, &mut sent);
        assert_eq!(sent, [3]);
        // A turn that is never ended, since sending has panicked, ends all the same.
        advance(TENTH * 2).await;
        drop(paced.offer(1, TENTH));
        send(&paced, 1, 4, &mut sent);
        advance(TENTH * 2).await;
        due_now(&paced, &mut sent);
        assert_eq!(sent, [3, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_waits_is_given_back_at_the_end_and_then_nothing_waits() {
        let (paced, mut sent) = (Numbers::default(), Vec::new());
        let Offered::Turn(turn) = paced.offer(3, TENTH) else {
            panic!("a new key is sent at once");
        };
        for event in 1..=4 {
            send(&paced, event.into(), event, &mut sent);
            send(&paced, event.into(), event + 10, &mut sent);
        }
        assert_eq!(sent, [1, 2, 4]);
        let mut waited = paced.close();
        waited.sort_unstable();
        assert_eq!(waited, [11, 12, 14]);
        // What waits behind somebody's turn comes behind what is sent in it.
        let After::Send(behind, turn) = turn.end() else {
            panic!("it waits for the end of the turn");
        };
        assert_eq!(behind, 13);
        assert!(matches!(turn.end(), After::Nothing));
        send(&paced, 1, 5, &mut sent);
        send(&paced, 1, 6, &mut sent);
        assert_eq!(sent, [1, 2, 4, 5, 6]);
    }

    #[tokio::test(start_paused = true)]
    async fn further_keys_are_sent_at_once_and_all_are_forgotten_after_their_interval() {
        let (paced, mut sent) = (Numbers::default(), Vec::new());
        let most = u32::try_from(MOST_KEYS).unwrap();
        for event in 0..most {
            send(&paced, event.into(), event, &mut sent);
        }
        sent.clear();
        for event in [1, 2] {
            send(&paced, u64::MAX, event, &mut sent);
        }
        assert_eq!(sent, [1, 2]);
        advance(TENTH * 2).await;
        assert_eq!(due_now(&paced, &mut sent), None);
        let table = paced.table.lock();
        assert!(table.entries.is_empty() && table.due.is_empty());
        assert!(table.entries.capacity() < 100);
    }
}
