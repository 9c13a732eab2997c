//! What an operator needs to find a client or a room that causes trouble: the most active users,
//! addresses and rooms, connects and disconnects of the last hour, the latest refusals and cuts,
//! the clients that were seen recently, and the channels with the most events.
//!
//! The memory is fixed: about 1 MiB, and less than 8 MiB with the longest names. Nothing is stored,
//! and a restart begins anew. Connects, disconnects and refused connections are counted exactly.
//! Events of clients are sampled above [`EXACT_EVENTS`] a second, and an event or its refusal is
//! left out if another thread counts at that moment, so that counting delays no message.

mod history;
mod incidents;
mod sketch;

use std::collections::VecDeque;
use std::fmt;
use std::hash::{BuildHasher as _, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::SystemTime;

use parking_lot::Mutex;
use roomcast::DisconnectReason;

pub(crate) use history::{STEP_S, Steps};
pub(crate) use incidents::{Incident, IncidentKind, MAX_INCIDENTS, Seen};

use history::{Change, History};
use incidents::{Incidents, RecentClients};
use sketch::{Sketch, Window};

/// The findings of one server. Clones share them.
#[derive(Clone)]
pub(crate) struct Diagnosis(Arc<Inner>);

struct Inner {
    /// When counting began, in seconds since 1970.
    started: u64,
    /// The number of events so far.
    seen: AtomicU64,
    /// One event in `1 << shift` is counted.
    shift: AtomicU32,
    events: Mutex<Events>,
    clients: Mutex<Clients>,
    /// Events that were published to channels, by the room of the channel.
    channels: Mutex<Window<Arc<str>>>,
}

/// Events of clients.
struct Events {
    /// The second of the last count, and the number of events then.
    counted: (u64, u64),
    users: Window<Arc<str>>,
    addresses: Window<IpAddr>,
    rooms: Window<Arc<str>>,
}

/// Connections of clients, and refusals.
struct Clients {
    history: History,
    connects_of_users: Window<Arc<str>>,
    connects_of_addresses: Window<IpAddr>,
    refusals_of_users: Window<Arc<str>>,
    refusals_of_addresses: Window<IpAddr>,
    incidents: Incidents,
    recent: RecentClients,
    /// Keyed hashes of users that were erased. Their sockets may disconnect afterwards.
    erased: VecDeque<u64>,
    hasher: RandomState,
}

/// The number of an event in the sample.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    number: u64,
    shift: u32,
}

/// A client, as far as it is known.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Culprit<'a> {
    pub(crate) user: Option<&'a str>,
    pub(crate) address: Option<IpAddr>,
}

/// The most active users, addresses and rooms, the most active first. Values are lower bounds.
#[derive(Debug, Default)]
pub(crate) struct Tops {
    /// Events a second in the last minute.
    pub(crate) event_rates: Subjects<f64>,
    /// Connects in the last minute.
    pub(crate) connects: Subjects<u64>,
    /// Refusals in the last hour.
    pub(crate) refusals: Subjects<u64>,
}

#[derive(Debug, Default)]
pub(crate) struct Subjects<V> {
    pub(crate) users: Vec<(Arc<str>, V)>,
    pub(crate) addresses: Vec<(IpAddr, V)>,
    pub(crate) rooms: Vec<(Arc<str>, V)>,
}

impl Default for Diagnosis {
    fn default() -> Self {
        let started = seconds();
        Self(Arc::new(Inner {
            started,
            seen: AtomicU64::new(0),
            shift: AtomicU32::new(0),
            events: Mutex::new(Events {
                counted: (started, 0),
                users: Window::new(RATE_SLOT_S),
                addresses: Window::new(RATE_SLOT_S),
                rooms: Window::new(RATE_SLOT_S),
            }),
            clients: Mutex::new(Clients {
                history: History::new(started),
                connects_of_users: Window::new(RATE_SLOT_S),
                connects_of_addresses: Window::new(RATE_SLOT_S),
                refusals_of_users: Window::new(REFUSAL_SLOT_S),
                refusals_of_addresses: Window::new(REFUSAL_SLOT_S),
                incidents: Incidents::default(),
                recent: RecentClients::default(),
                erased: VecDeque::new(),
                hasher: RandomState::new(),
            }),
            channels: Mutex::new(Window::new(RATE_SLOT_S)),
        }))
    }
}

impl Diagnosis {
    /// Numbers an event. Returns `None` if it is not in the sample.
    pub(crate) fn sample(&self) -> Option<Sample> {
        let number = self.0.seen.fetch_add(1, Ordering::Relaxed);
        let shift = self.0.shift.load(Ordering::Relaxed);
        is_sampled(number, shift).then_some(Sample { number, shift })
    }

    /// Counts an event in the sample.
    pub(crate) fn event(&self, sample: Sample, of: Culprit<'_>, room: Option<Arc<str>>) {
        let (Self(inner), Sample { number, shift }) = (self, sample);
        let Some(mut events) = inner.events.try_lock() else {
            return;
        };
        let now = seconds();
        let (last, before) = events.counted;
        if now != last {
            events.counted = (now, number);
            let rate = number.saturating_sub(before) / now.abs_diff(last).max(1);
            inner.shift.store(shift_of(rate), Ordering::Relaxed);
        }
        let weight = 1 << shift;
        if let Some(user) = of.user {
            events
                .users
                .add(now, user, || shortened(user).into(), weight);
        }
        if let Some(address) = of.address {
            events.addresses.add(now, &address, || address, weight);
        }
        if let Some(room) = room {
            events.rooms.add(now, &*room, || Arc::clone(&room), weight);
        }
    }

    /// Counts an event that a service sent to rooms.
    pub(crate) fn emitted<'a>(&self, by: &'a str, rooms: impl Iterator<Item = &'a str>) {
        let [mut of, unknown] = [Some(by), None].map(|user| Culprit {
            user,
            address: None,
        });
        for room in rooms {
            if let Some(sample) = self.sample() {
                self.event(sample, of, Some(shortened(room).into()));
            }
            of = unknown;
        }
    }

    /// Counts an event that was published to a channel, which `room` identifies.
    pub(crate) fn published(&self, room: &str) {
        let mut channels = self.0.channels.lock();
        channels.add(seconds(), room, || room.into(), 1);
    }

    /// Returns the rooms of the channels with the most events, and events a second in the last
    /// minute: a lower bound. The highest rate is first.
    pub(crate) fn channel_rates(&self, limit: usize) -> Vec<(Arc<str>, f64)> {
        let (now, started) = (seconds(), self.0.started);
        let channels = self.0.channels.lock();
        let covered = channels.covered(now, started) as f64;
        rates(channels.top(now, limit), covered)
    }

    /// Counts a socket of the chat that connected.
    pub(crate) fn connected(&self, user: &str, address: IpAddr) {
        let mut clients = self.0.clients.lock();
        let now = seconds();
        clients.history.count(now, Change::Connected);
        clients
            .connects_of_addresses
            .add(now, &address, || address, 1);
        if !clients.is_erased(user) {
            clients
                .connects_of_users
                .add(now, user, || shortened(user).into(), 1);
        }
    }

    /// Counts a socket of the chat that disconnected. `description` explains a cut.
    pub(crate) fn disconnected(
        &self,
        user: &str,
        name: &str,
        address: IpAddr,
        reason: DisconnectReason,
        description: Option<&str>,
    ) {
        let mut clients = self.0.clients.lock();
        let at = milliseconds();
        clients
            .history
            .count(at / 1000, Change::Disconnected(reason));
        if clients.is_erased(user) {
            return;
        }
        let user: Arc<str> = shortened(user).into();
        if reason == DisconnectReason::Overflow {
            let incident = Incident {
                kind: IncidentKind::Cut,
                category: "slowClient".to_owned(),
                reason: shortened(description.unwrap_or(reason.as_str())).to_owned(),
                user: Some(Arc::clone(&user)),
                address: Some(address),
                at,
                count: 1,
            };
            clients.incidents.add(incident);
        }
        clients.recent.add(Seen {
            user: Some(user),
            name: Some(shortened(name).to_owned()),
            address: Some(address),
            at,
            what: reason.as_str().to_owned(),
        });
    }

    /// Records a connection or a socket that was refused.
    pub(crate) fn refused_connection(&self, of: Culprit<'_>, category: &str, reason: &str) {
        let mut clients = self.0.clients.lock();
        let at = milliseconds();
        clients.history.count(at / 1000, Change::Refused);
        if !clients.refused(of, category, reason, at) {
            return;
        }
        clients.recent.add(Seen {
            user: of.user.map(|user| shortened(user).into()),
            name: None,
            address: of.address,
            at,
            what: format!("refused: {}", shortened(reason)),
        });
    }

    /// Records an event or a call that was refused.
    pub(crate) fn refused(&self, of: Culprit<'_>, category: &str, reason: &str) {
        if let Some(mut clients) = self.0.clients.try_lock() {
            clients.refused(of, category, reason, milliseconds());
        }
    }

    /// Removes a user that is erased.
    pub(crate) fn forget(&self, user: &str) {
        let mut events = self.0.events.lock();
        events.users.remove(user);
        events.rooms.remove(&*format!("user:{user}"));
        drop(events);
        let mut clients = self.0.clients.lock();
        clients.connects_of_users.remove(user);
        clients.refusals_of_users.remove(user);
        clients.incidents.forget(user);
        clients.recent.forget(user);
        let hash = clients.hasher.hash_one(user);
        if !clients.erased.contains(&hash) {
            clients.erased.push_back(hash);
        }
        if clients.erased.len() > MAX_ERASED {
            clients.erased.pop_front();
        }
    }

    /// Returns the connects, refusals and disconnects of the last hour.
    pub(crate) fn steps(&self) -> Steps {
        self.0.clients.lock().history.steps(seconds())
    }

    /// Returns the latest refusals and cuts, the newest first.
    pub(crate) fn incidents(&self) -> Vec<Incident> {
        self.0.clients.lock().incidents.latest()
    }

    /// Returns the clients of the last hour that match, the newest first.
    pub(crate) fn find(&self, limit: usize, matches: impl Fn(&Seen) -> bool) -> Vec<Seen> {
        let oldest = milliseconds().saturating_sub(RECENT_MS);
        let clients = self.0.clients.lock();
        let is_found = |seen: &Seen| seen.at >= oldest && matches(seen);
        clients.recent.find(limit, is_found)
    }

    /// Returns the most active users, addresses and rooms, at most `limit` of each.
    pub(crate) fn tops(&self, limit: usize) -> Tops {
        let (now, started) = (seconds(), self.0.started);
        let events = self.0.events.lock();
        let covered = events.users.covered(now, started) as f64;
        let event_rates = Subjects {
            users: rates(events.users.top(now, limit), covered),
            addresses: rates(events.addresses.top(now, limit), covered),
            rooms: rates(events.rooms.top(now, limit), covered),
        };
        drop(events);
        let clients = self.0.clients.lock();
        Tops {
            event_rates,
            connects: Subjects {
                users: clients.connects_of_users.top(now, limit),
                addresses: clients.connects_of_addresses.top(now, limit),
                rooms: Vec::new(),
            },
            refusals: Subjects {
                users: clients.refusals_of_users.top(now, limit),
                addresses: clients.refusals_of_addresses.top(now, limit),
                rooms: Vec::new(),
            },
        }
    }
}

/// The bytes that wait to be sent, by user, address and room.
#[derive(Debug, Default)]
pub(crate) struct QueuedBytes {
    users: Sketch<Arc<str>>,
    addresses: Sketch<IpAddr>,
    rooms: Sketch<Arc<str>>,
}

impl QueuedBytes {
    /// Adds the queue of a socket.
    pub(crate) fn add<'a>(
        &mut self,
        user: &str,
        address: IpAddr,
        rooms: impl Iterator<Item = &'a str>,
        bytes: u64,
    ) {
        self.users.add(user, || user.into(), bytes);
        self.addresses.add(&address, || address, bytes);
        for room in rooms {
            self.rooms.add(room, || room.into(), bytes);
        }
    }

    /// Returns the largest sums, the largest first.
    pub(crate) fn top(&self, limit: usize) -> Subjects<u64> {
        Subjects {
            users: self.users.top(limit),
            addresses: self.addresses.top(limit),
            rooms: self.rooms.top(limit),
        }
    }
}

impl Clients {
    /// Records a refusal, unless its user is erased.
    fn refused(&mut self, of: Culprit<'_>, category: &str, reason: &str, at: u64) -> bool {
        let now = at / 1000;
        if let Some(address) = of.address {
            self.refusals_of_addresses.add(now, &address, || address, 1);
        }
        if of.user.is_some_and(|user| self.is_erased(user)) {
            return false;
        }
        if let Some(user) = of.user {
            self.refusals_of_users
                .add(now, user, || shortened(user).into(), 1);
        }
        self.incidents.add(Incident {
            kind: IncidentKind::Refusal,
            category: category.to_owned(),
            reason: shortened(reason).to_owned(),
            user: of.user.map(|user| shortened(user).into()),
            address: of.address,
            at,
            count: 1,
        });
        true
    }

    fn is_erased(&self, user: &str) -> bool {
        !self.erased.is_empty() && self.erased.contains(&self.hasher.hash_one(user))
    }
}

impl fmt::Debug for Diagnosis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Diagnosis").finish_non_exhaustive()
    }
}

fn rates<K>(counts: Vec<(K, u64)>, seconds: f64) -> Vec<(K, f64)> {
    let rate = |(key, count): (K, u64)| (key, count as f64 / seconds);
    counts.into_iter().map(rate).collect()
}

/// Returns whether an event is in the sample. The numbers are scattered, so that clients that send
/// in turn are sampled evenly.
const fn is_sampled(number: u64, shift: u32) -> bool {
    shift == 0 || number.wrapping_mul(GOLDEN_RATIO) >> (64 - shift) == 0
}

/// Returns the shift with which at most [`EXACT_EVENTS`] a second are counted.
fn shift_of(rate: u64) -> u32 {
    let parts = rate.div_ceil(EXACT_EVENTS).max(1);
    parts.next_power_of_two().trailing_zeros().min(MAX_SHIFT)
}

/// Cuts a text that a client or an operator chooses.
fn shortened(text: &str) -> &str {
    &text[..text.floor_char_boundary(MAX_BYTES)]
}

fn milliseconds() -> u64 {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    now.map_or(0, |now| u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
}

fn seconds() -> u64 {
    milliseconds() / 1000
}

/// Seconds of a slot of the windows of rates, which have the last minute.
const RATE_SLOT_S: u64 = 10;
/// Seconds of a slot of the windows of refusals, which have the last hour.
const REFUSAL_SLOT_S: u64 = 600;
/// Events a second up to which each is counted.
const EXACT_EVENTS: u64 = 4096;
/// Maximum shift: one event in 65,536.
const MAX_SHIFT: u32 = 16;
/// Scatters consecutive numbers: 2^64 divided by the golden ratio.
const GOLDEN_RATIO: u64 = 0x9e37_79b9_7f4a_7c15;
/// Maximum bytes of a name or reason: those of the longest user id.
const MAX_BYTES: usize = 512;
/// The age in milliseconds up to which clients are found.
const RECENT_MS: u64 = 3_600_000;
/// Maximum number of erased users whose disconnects are ignored.
const MAX_ERASED: usize = 256;

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const HOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn of(user: &str) -> Culprit<'_> {
        Culprit {
            user: Some(user),
            address: Some(HOST),
        }
    }

    #[test]
    fn samples_are_even_and_rates_are_kept_below_the_limit() {
        for (rate, shift) in [
            (0, 0),
            (4096, 0),
            (4097, 1),
            (100_000, 5),
            (u64::MAX / 2, 16),
        ] {
            assert_eq!(shift_of(rate), shift, "{rate}");
        }
        // Three clients send in turn.
        let mut sampled = [0; 3];
        for number in 0..300_000_u64 {
            sampled[(number % 3) as usize] += u32::from(is_sampled(number, 4));
        }
        for count in sampled {
            assert!((5_900..6_600).contains(&count), "{sampled:?}");
        }
    }

    #[test]
    fn active_users_are_found_with_their_address_and_room() {
        let diagnosis = Diagnosis::default();
        for n in 0..100 {
            let user = if n < 90 { "ann" } else { "bob" };
            let sample = diagnosis.sample().unwrap();
            diagnosis.event(sample, of(user), Some("conversation:1".into()));
            diagnosis.connected(user, HOST);
        }
        diagnosis.refused(of("bob"), "rateLimit", "too many");
        diagnosis.refused_connection(of("bob"), "connection", "blocked");
        let tops = diagnosis.tops(1);
        assert_eq!(&*tops.event_rates.users[0].0, "ann");
        assert!(tops.event_rates.users[0].1 > tops.event_rates.rooms[0].1 / 2.0);
        assert_eq!(tops.connects.users, [(Arc::from("ann"), 90)]);
        assert_eq!(tops.connects.addresses, [(HOST, 100)]);
        assert_eq!(tops.refusals.users, [(Arc::from("bob"), 2)]);
        assert_eq!(diagnosis.incidents().len(), 2);
    }

    #[test]
    fn erased_users_disappear_and_do_not_return() {
        let diagnosis = Diagnosis::default();
        let leave = |user: &str| {
            let reason = DisconnectReason::Overflow;
            diagnosis.disconnected(user, "Name", HOST, reason, Some("too slow"));
        };
        for user in ["ann", "bob"] {
            let sample = diagnosis.sample().unwrap();
            diagnosis.event(sample, of(user), Some(format!("user:{user}").into()));
            diagnosis.connected(user, HOST);
            diagnosis.refused(of(user), "rateLimit", "too many");
            leave(user);
        }
        diagnosis.forget("ann");
        leave("ann");
        diagnosis.refused_connection(of("ann"), "authentication", "revoked");
        let found = format!(
            "{:?} {:?} {:?}",
            diagnosis.tops(99),
            diagnosis.incidents(),
            diagnosis.find(99, |_| true)
        );
        assert!(!found.contains("ann") && found.contains("bob"), "{found}");
    }
}
