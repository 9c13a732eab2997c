//! Limits each key to one event per interval, and holds the newest event until then.
//!
//! A sent key has an entry until its interval is over. A sender holds the *turn* of its key: events
//! of other senders wait in the entry, so that an older event is never sent after a newer one. This
//! module sends nothing; `apply` does.

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
    socket::types::{RoomName, SocketId, shrink_map},
};

/// An event that waits for the end of an interval, with everything needed to send it.
pub(crate) struct HeldEvent {
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

/// The recently sent keys of one server.
pub(crate) struct Paced<T = HeldEvent> {
    table: Mutex<Table<T>>,
    /// Notified when an event is due before all others.
    stirred: Notify,
}

struct Table<T> {
    entries: HashMap<u64, Entry<T>>,
    /// Entries whose turn is free, sorted by the end of their interval.
    due: BTreeSet<(Instant, u64)>,
    /// Whether a task calls [`Paced::next`].
    is_watched: bool,
    /// Whether events are no longer held.
    is_closed: bool,
}

struct Entry<T> {
    /// Time of the next event; `None` while a sender holds the turn.
    due: Option<Instant>,
    waiting: Option<T>,
}

/// How to process an event.
pub(crate) enum Offered<T> {
    /// Send the event now, with the turn.
    SendPermit(SendPermit<T>),
    /// Pass the event to [`Paced::hold`].
    Wait,
    /// Send the event now: there is no room for its key, or the server shuts down.
    Free,
}

/// The next due event.
pub(crate) enum Next<T> {
    Send(T, SendPermit<T>),
    Wait(Instant),
    /// No entry is left. The caller must stop calling.
    Nothing,
}

/// The action after a turn.
pub(crate) enum After<T> {
    Nothing,
    /// A task must start to call [`Paced::next`]. If that is impossible, call [`Paced::give_up`].
    Watch,
    /// The server shuts down: send this event immediately.
    Send(T, SendPermit<T>),
}

/// The exclusive right to send an event of a key.
pub(crate) struct SendPermit<T> {
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
    /// Returns the number of recently sent keys. Each may hold one event.
    pub(crate) fn len(&self) -> usize {
        self.table.lock().entries.len()
    }

    /// Decides how to process an event of this key. The next event is allowed after `interval`.
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
            None => drop(entries.insert(key, Entry::in_progress())),
        }
        drop(table);
        Offered::SendPermit(self.permit(key, interval))
    }

    /// Holds an event, and replaces the held event of its key.
    ///
    /// Returns the event as an error if it can be sent now. The turn is included unless the server
    /// shuts down or there is no room for the key.
    pub(crate) fn hold(
        self: &Arc<Self>,
        key: u64,
        interval: Duration,
        event: T,
    ) -> Result<(), (T, Option<SendPermit<T>>)> {
        let mut table = self.table.lock();
        if table.is_closed {
            return Err((event, None));
        }
        if let Some(entry) = table.entries.get_mut(&key) {
            // The replaced event is dropped without the lock.
            let before = entry.waiting.replace(event);
            drop(table);
            drop(before);
            return Ok(());
        }
        // The entry was removed since `offer`, so the event can be sent now.
        if table.entries.len() >= MOST_KEYS {
            return Err((event, None));
        }
        table.entries.insert(key, Entry::in_progress());
        drop(table);
        Err((event, Some(self.permit(key, interval))))
    }

    fn permit(self: &Arc<Self>, key: u64, interval: Duration) -> SendPermit<T> {
        SendPermit {
            paced: Arc::clone(self),
            key,
            interval,
            is_over: false,
        }
    }

    /// Returns the next due event, with the turn of its key for the event's `interval`.
    pub(crate) fn next(self: &Arc<Self>, interval: impl Fn(&T) -> Duration) -> Next<T> {
        let now = Instant::now();
        let mut table = self.table.lock();
        loop {
            let Some(&(due, key)) = table.due.first() else {
                // The holder of the last turn starts a new task when the turn ends.
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
                return Next::Send(event, self.permit(key, interval));
            }
            table.entries.remove(&key);
            shrink_map(&mut table.entries);
        }
    }

    /// Waits until this time, or until an event is due earlier.
    pub(crate) async fn wait(&self, until: Instant) {
        let _ = tokio::time::timeout_at(until, self.stirred.notified()).await;
    }

    /// Returns all held events, because no task can call [`next`](Self::next). Later events are
    /// held again.
    pub(crate) fn give_up(&self) -> Vec<T> {
        let mut table = self.table.lock();
        table.is_watched = false;
        table.take_waiting()
    }

    /// Stops holding events, and returns all held events. If a turn is held, its holder sends the
    /// waiting event.
    pub(crate) fn close(&self) -> Vec<T> {
        let mut table = self.table.lock();
        table.is_closed = true;
        table.take_waiting()
    }

    /// Ends a turn. Returns the event to send if the server shuts down, and whether no task calls
    /// [`next`](Self::next).
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
            // The task may be between `next` and `wait`. The permit of `notify_one` then ends the
            // wait immediately.
            self.stirred.notify_one();
        }
        (None, !is_watched)
    }

    /// Returns whether the caller must start the task that calls [`next`](Self::next).
    fn begin_watch(&self) -> bool {
        let mut table = self.table.lock();
        !table.due.is_empty() && !std::mem::replace(&mut table.is_watched, true)
    }
}

impl<T> Table<T> {
    /// Removes all entries whose turn is free. Returns their held events in due order.
    fn take_waiting(&mut self) -> Vec<T> {
        let due = std::mem::take(&mut self.due);
        let entries = due
            .into_iter()
            .filter_map(|(_, key)| self.entries.remove(&key));
        entries.filter_map(|entry| entry.waiting).collect()
    }
}

impl<T> Entry<T> {
    fn in_progress() -> Self {
        Self {
            due: None,
            waiting: None,
        }
    }

    /// Returns whether the interval is over and no event is held.
    fn is_over(&self, now: Instant) -> bool {
        self.waiting.is_none() && self.due.is_some_and(|due| due <= now)
    }
}

impl<T> SendPermit<T> {
    /// Ends the turn after its event was sent. The next event of the key may be sent after the
    /// interval.
    pub(crate) fn end(mut self) -> After<T> {
        self.is_over = true;
        let (waiting, is_unwatched) = self.paced.end(self.key, self.interval);
        if let Some(event) = waiting {
            let again = self.paced.permit(self.key, self.interval);
            return After::Send(event, again);
        }
        if is_unwatched && self.paced.begin_watch() {
            return After::Watch;
        }
        After::Nothing
    }
}

impl<T> Drop for SendPermit<T> {
    fn drop(&mut self) {
        // The turn is dropped without `end` only if sending panicked. The held event is sent when
        // it is due, or at the end of the next turn of any key.
        if !self.is_over {
            let _ = self.paced.end(self.key, self.interval);
        }
    }
}

/// Returns the end of an interval that starts now. It is rounded up by at most an eighth, so that
/// keys that were sent at about the same time share one write per client.
fn due(now: Instant, interval: Duration) -> Instant {
    static START: LazyLock<Instant> = LazyLock::new(Instant::now);
    let interval = interval.min(LONGEST);
    let step = (interval / 8).as_nanos().max(1);
    let end = (now.saturating_duration_since(*START) + interval).as_nanos();
    let late = end.next_multiple_of(step) - end;
    now + interval + Duration::from_nanos(u64::try_from(late).unwrap_or(0))
}

/// Maximum number of entries. Events of further keys are sent immediately.
const MOST_KEYS: usize = 65_536;
/// Maximum interval.
const LONGEST: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use tokio::time::{advance, sleep};

    use super::*;

    type Numbers = Arc<Paced<u32>>;

    const TENTH: Duration = Duration::from_millis(100);

    /// Sends an event like `apply`, to a list instead of clients.
    fn send(paced: &Numbers, key: u64, event: u32, sent: &mut Vec<u32>) {
        match paced.offer(key, TENTH) {
            Offered::Free => sent.push(event),
            Offered::SendPermit(permit) => {
                sent.push(event);
                let _ = permit.end();
            }
            Offered::Wait => assert!(paced.hold(key, TENTH, event).is_ok()),
        }
    }

    /// Sends all due events. Returns when the next one is due.
    fn send_due(paced: &Numbers, sent: &mut Vec<u32>) -> Option<Instant> {
        loop {
            match paced.next(|_| TENTH) {
                Next::Nothing => return None,
                Next::Wait(until) => return Some(until),
                Next::Send(event, permit) => {
                    sent.push(event);
                    let _ = permit.end();
                }
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn first_and_newest_event_of_an_interval_are_sent() {
        let (paced, mut sent) = (Numbers::default(), Vec::new());
        let begin = Instant::now();
        for event in 1..=25 {
            send(&paced, 1, event, &mut sent);
            advance(Duration::from_millis(10)).await;
            send_due(&paced, &mut sent);
        }
        // Two or three intervals of at most 112.5 ms are over.
        assert_eq!((sent[0], sent.len()), (1, 3), "{sent:?}");
        let next = send_due(&paced, &mut sent).unwrap();
        assert!(next <= begin + Duration::from_millis(350));
        tokio::time::sleep_until(next).await;
        let idle = send_due(&paced, &mut sent).unwrap();
        assert_eq!(sent.last(), Some(&25));
        sleep(idle - Instant::now()).await;
        assert_eq!(send_due(&paced, &mut sent), None);
        assert_eq!(sent.len(), 4);
        // After its interval a key is sent immediately again.
        send(&paced, 1, 26, &mut sent);
        assert_eq!(sent.last(), Some(&26));
    }

    #[tokio::test(start_paused = true)]
    async fn interval_is_rounded_up_by_at_most_an_eighth() {
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
    async fn events_offered_during_a_permit_are_sent_after_it() {
        let (paced, mut sent) = (Numbers::default(), Vec::new());
        let Offered::SendPermit(permit) = paced.offer(1, TENTH) else {
            panic!("a new key is sent at once");
        };
        send(&paced, 1, 2, &mut sent);
        // The turn may take any time.
        advance(TENTH * 3).await;
        send(&paced, 1, 3, &mut sent);
        assert!(matches!(paced.next(|_| TENTH), Next::Nothing));
        assert!(matches!(permit.end(), After::Watch));
        assert_eq!(sent.len(), 0);
        advance(TENTH * 2).await;
        send_due(&paced, &mut sent);
        assert_eq!(sent, [3]);
        // A turn that is dropped because sending panicked also ends.
        advance(TENTH * 2).await;
        drop(paced.offer(1, TENTH));
        send(&paced, 1, 4, &mut sent);
        advance(TENTH * 2).await;
        send_due(&paced, &mut sent);
        assert_eq!(sent, [3, 4]);
    }

    #[tokio::test(start_paused = true)]
    async fn close_returns_held_events_and_holds_no_more() {
        let (paced, mut sent) = (Numbers::default(), Vec::new());
        let Offered::SendPermit(permit) = paced.offer(3, TENTH) else {
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
        // An event held during a turn is sent after the event of the turn.
        let After::Send(later, permit) = permit.end() else {
            panic!("it waits for the end of the turn");
        };
        assert_eq!(later, 13);
        assert!(matches!(permit.end(), After::Nothing));
        send(&paced, 1, 5, &mut sent);
        send(&paced, 1, 6, &mut sent);
        assert_eq!(sent, [1, 2, 4, 5, 6]);
    }

    #[tokio::test(start_paused = true)]
    async fn keys_beyond_the_limit_are_sent_immediately_and_idle_keys_removed() {
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
        assert_eq!(send_due(&paced, &mut sent), None);
        let table = paced.table.lock();
        assert!(table.entries.is_empty() && table.due.is_empty());
        assert!(table.entries.capacity() < 100);
    }
}
