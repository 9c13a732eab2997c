//! Compares the outbox with a naive queue under random operations in any order.
//!
//! The naive queue is a list of the pushed numbers. What arrives at the client by any transport
//! must be a prefix of it, without losses, duplicates or reordering. Tasks run only when they are
//! woken, so a missing wake leaves frames unsent. After every step, the counted bytes must be
//! exactly those of the held frames.

use std::{
    collections::{BTreeMap, HashMap},
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use proptest::prelude::*;
use roomcast_protocol::engine::{CloseReason, Packet, Probe};

use self::{
    pipe::{ConcurrentStep, Kind, frame, stamp},
    session::Session,
};
use super::*;
use crate::engine::{Batch, Limits};

mod pipe;
mod session;

const BUDGET: usize = 100_000;
const TOTAL: usize = 150_000;
const LIMITS: Limits = Limits {
    messages: 60,
    bytes: 80_000,
    total: 100_000,
};
/// Number of iterations after which tasks that wake one another count as an endless loop.
const TOO_MANY: usize = 10_000;

#[derive(Clone, Debug)]
enum Step {
    Push(Kind, usize),
    /// Pushes to the outbox from which the session was taken over.
    PushBefore(usize),
    Broadcast(Kind, usize),
    Control,
    Ping,
    Pong,
    /// Flushes without need.
    Flush,
    /// Runs all woken tasks until none is left.
    Settle,
    /// Runs the driver before the flusher.
    RunDriver,
    Room(usize),
    Clog(bool),
    Break,
    Poll,
    GiveUp,
    Attach(bool),
    Upgrade(usize),
    Watch,
    Close,
    Supersede,
    Shed,
    Recover,
    ConcurrentStep(ConcurrentStep),
    Late(Kind, usize),
}

fn sizes() -> impl Strategy<Value = usize> {
    prop_oneof![6 => 0..300_usize, 2 => 300..6000_usize, 1 => 15_000..40_000_usize]
}

fn kinds() -> impl Strategy<Value = Kind> {
    prop_oneof![
        4 => Just(Kind::Reliable),
        1 => Just(Kind::Volatile),
        2 => Just(Kind::Newest),
        2 => Just(Kind::LastTwo),
        2 => Just(Kind::Replacing),
    ]
}

fn concurrent_steps() -> impl Strategy<Value = ConcurrentStep> {
    prop_oneof![
        8 => (kinds(), sizes()).prop_map(|(kind, size)| ConcurrentStep::Push(kind, size)),
        1 => Just(ConcurrentStep::Flush),
        1 => Just(ConcurrentStep::Detach),
        1 => Just(ConcurrentStep::Supersede),
    ]
}

fn steps() -> impl Strategy<Value = Vec<(usize, Step)>> {
    let step = prop_oneof![
        24 => (kinds(), sizes()).prop_map(|(kind, size)| Step::Push(kind, size)),
        4 => sizes().prop_map(Step::PushBefore),
        8 => (kinds(), sizes()).prop_map(|(kind, size)| Step::Broadcast(kind, size)),
        2 => Just(Step::Control),
        2 => Just(Step::Ping),
        2 => Just(Step::Pong),
        4 => Just(Step::Flush),
        12 => Just(Step::Settle),
        8 => Just(Step::RunDriver),
        12 => prop_oneof![0..500_usize, 500..90_000_usize].prop_map(Step::Room),
        4 => any::<bool>().prop_map(Step::Clog),
        1 => Just(Step::Break),
        8 => Just(Step::Poll),
        1 => Just(Step::GiveUp),
        3 => any::<bool>().prop_map(Step::Attach),
        4 => (0..60_000_usize).prop_map(Step::Upgrade),
        2 => Just(Step::Watch),
        1 => Just(Step::Close),
        1 => Just(Step::Supersede),
        1 => Just(Step::Shed),
        4 => Just(Step::Recover),
        8 => concurrent_steps().prop_map(Step::ConcurrentStep),
        4 => (kinds(), sizes()).prop_map(|(kind, size)| Step::Late(kind, size)),
    ];
    prop::collection::vec((0..2_usize, step), 0..120)
}

/// A client, and what it was sent and has received since its last new session.
struct Client {
    session: Session,
    before: Option<Outbox>,
    sent: Vec<u32>,
    received: Vec<u32>,
    /// The number of frames sent before the first frame of a session that was taken over.
    hello_after: Option<usize>,
    /// The last number received, of each kind.
    last: HashMap<String, u32>,
    newest: Option<u32>,
    /// The number of reliable frames sent before each frame that newer ones replace.
    replacing: BTreeMap<u32, usize>,
    is_pinged: bool,
    may_pong: bool,
    is_watching: bool,
    /// The number of frames sent when it was closed.
    closed_after: Option<usize>,
    is_spoilt: bool,
}

impl Client {
    fn new(outbox: Outbox, numbers: &Arc<AtomicU32>) -> Self {
        outbox.retain_for_replay(1, None, LIMITS);
        Self {
            session: Session::new(outbox, numbers),
            before: None,
            sent: Vec::new(),
            received: Vec::new(),
            hello_after: None,
            last: HashMap::new(),
            newest: None,
            replacing: BTreeMap::new(),
            is_pinged: false,
            may_pong: false,
            is_watching: false,
            closed_after: None,
            is_spoilt: false,
        }
    }

    fn record(&mut self, kind: Kind, number: u32, push: Push) {
        match kind {
            Kind::Reliable => {
                assert_ne!(push, Push::Dropped, "it must arrive");
                // Replaceable frames were dropped to make room for it.
                self.newest = None;
                self.sent.push(number);
            }
            Kind::Replacing => {
                assert_ne!(push, Push::Dropped, "it must arrive or be replaced");
                self.newest = None;
                if push == Push::Queued {
                    self.replacing.insert(number, self.sent.len());
                }
            }
            Kind::Volatile | Kind::Newest | Kind::LastTwo => {
                assert_ne!(
                    push,
                    Push::Overflow,
                    "droppable frames disconnect no client"
                );
                if kind == Kind::Newest {
                    // An older value is dropped even if there is no room for this one.
                    self.newest = (push == Push::Queued).then_some(number);
                }
            }
        }
    }

    /// Reads what has arrived, and compares it with what was sent.
    fn receive(&mut self) {
        let mut pushed = std::mem::take(&mut self.session.pushed);
        if let Some(pipe) = &self.session.pipe {
            pushed.append(&mut pipe.state().pushed);
        }
        pushed.sort_by_key(|(_, number, _)| *number);
        for (kind, number, push) in pushed {
            self.record(kind, number, push);
        }
        for text in self.session.receive() {
            if text == "2" {
                self.may_pong = self.is_pinged;
                continue;
            }
            if text == "4hello" {
                assert_eq!(self.hello_after.take(), Some(self.received.len()));
                continue;
            }
            let mut words = text.trim_start_matches('4').split(' ');
            let (kind, number) = (words.next().unwrap(), words.next());
            let Some(number) = number.map(|number| number.parse().unwrap()) else {
                assert!(matches!(kind, "6" | "control"), "{kind}");
                continue;
            };
            if kind == "Reliable" {
                assert_eq!(self.sent.get(self.received.len()), Some(&number));
                self.received.push(number);
            } else {
                if kind == "Replacing" {
                    assert_eq!(self.replacing.get(&number), Some(&self.received.len()));
                }
                let last = self.last.insert(kind.to_owned(), number);
                assert!(last < Some(number), "{kind} {number} comes after {last:?}");
            }
        }
        self.session.is_over |= self.session.outbox.lock().is_detached();
    }

    fn change_pipe(&self, change: impl FnOnce(&mut pipe::PipeState)) {
        if let Some(pipe) = &self.session.pipe {
            pipe.change(change);
        }
    }
}

struct World {
    metrics: Arc<Metrics>,
    outboxes: TestOutboxes,
    numbers: Arc<AtomicU32>,
    clients: Vec<Client>,
    /// Sessions that were taken over or abandoned.
    old: Vec<Session>,
}

impl World {
    fn new() -> Self {
        let metrics = Arc::new(Metrics::new());
        let numbers = Arc::default();
        let outboxes = TestOutboxes::limited(TOTAL, Arc::clone(&metrics));
        let mut clients: Vec<Client> = (0..2)
            .map(|_| Client::new(outboxes.outbox(random_sid(), BUDGET), &numbers))
            .collect();
        clients[0].session.upgrade(10_000);
        Self {
            metrics,
            outboxes,
            numbers,
            clients,
            old: Vec::new(),
        }
    }

    fn step(&mut self, index: usize, step: Step) {
        let client = &mut self.clients[index];
        let outbox = client.session.outbox.clone();
        match step {
            Step::Push(kind, size) => {
                let frame = self.frame(kind, size);
                let client = &mut self.clients[index];
                let push = outbox.push(&frame.0, kind.mode());
                let nothing_waits = client.received.len() == client.sent.len();
                client.record(kind, frame.1, push);
                if (kind, push) == (Kind::Volatile, Push::Queued) {
                    client.receive();
                    assert!(nothing_waits || client.received.len() == client.sent.len());
                }
            }
            Step::PushBefore(size) => {
                if let Some(before) = client.before.clone() {
                    let (frame, number) = self.frame(Kind::Reliable, size);
                    let push = before.push(&frame, Mode::Reliable);
                    let client = &mut self.clients[index];
                    client.record(Kind::Reliable, number, push);
                }
            }
            Step::Broadcast(kind, size) => {
                let (frame, number) = self.frame(kind, size);
                let mut batch = Batch::new();
                for client in &mut self.clients {
                    let outbox = &client.session.outbox;
                    let push = outbox.push_batched(&frame, kind.mode(), &mut batch);
                    client.record(kind, number, push);
                }
                batch.finish();
            }
            Step::Control => outbox.push_control(Frame::text(b"control")),
            Step::Ping => {
                if !client.is_pinged && outbox.lock().closed().is_none() {
                    client.is_pinged = true;
                    outbox.push_ping(Frame::packet(&Packet::Ping(Probe::None)));
                }
            }
            Step::Pong => {
                client.receive();
                if std::mem::take(&mut client.may_pong) {
                    client.is_pinged = false;
                    outbox.confirm(now());
                }
            }
            Step::Flush => {
                outbox.flush();
            }
            Step::Settle => self.settle(),
            Step::RunDriver => {
                client.session.run_if_woken();
            }
            Step::Room(room) => client.change_pipe(|state| state.room = room),
            Step::Clog(is_clogged) => client.change_pipe(|state| state.is_clogged = is_clogged),
            Step::Break => {
                client.is_spoilt = true;
                client.change_pipe(|state| state.is_broken = true);
            }
            Step::Poll => client.session.poll(),
            Step::GiveUp => {
                // Data in flight to it is lost.
                client.is_spoilt = true;
                client.session.give_up();
            }
            Step::Attach(true) => client.session.attach(),
            Step::Attach(false) => client.session.abandon(),
            Step::Upgrade(room) => {
                client.receive();
                client.session.upgrade(room);
            }
            Step::Watch => client.is_watching |= outbox.watch_drain(),
            Step::Close => {
                if outbox.lock().closed().is_none() {
                    client.closed_after.get_or_insert(client.sent.len());
                    outbox.close(CloseReason::ForcedClose);
                    client.session.run_if_woken();
                }
            }
            Step::Supersede => {
                client.is_spoilt = true;
                outbox.supersede();
            }
            Step::Shed => self.shed(),
            Step::Recover => self.recover(index),
            Step::ConcurrentStep(act) => {
                client.is_spoilt |=
                    matches!(act, ConcurrentStep::Detach | ConcurrentStep::Supersede);
                client.change_pipe(|state| state.concurrent_steps.push(act));
            }
            Step::Late(kind, size) => client.session.late.push((kind, size)),
        }
        self.clients.iter_mut().for_each(Client::receive);
        self.check_bytes();
    }

    fn frame(&self, kind: Kind, size: usize) -> (Frame, u32) {
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        (frame(kind, number, size), number)
    }

    /// Runs all woken tasks. Afterwards no frame that could be written is queued.
    fn settle(&mut self) {
        for _ in 0..TOO_MANY {
            let listed = self.outboxes.take_listed();
            let mut is_done = listed.is_empty();
            for outbox in listed {
                outbox.flush();
            }
            let clients = self.clients.iter_mut().map(|client| &mut client.session);
            for session in clients.chain(&mut self.old) {
                is_done &= !session.run_if_woken();
            }
            if is_done {
                for client in &mut self.clients {
                    client.receive();
                    assert!(!client.session.is_forgotten(), "somebody was not woken");
                }
                return;
            }
        }
        panic!("the tasks go on waking one another");
    }

    fn shed(&self) {
        let memory = self.outboxes.memory();
        if let Some((class, outbox)) = memory.waiting().top() {
            outbox.shed_waiting(class);
        }
        if let Some((class, outbox)) = memory.replay().top() {
            outbox.shed_replay(class);
        }
    }

    /// Reconnects the client with a new session, which resumes the old one if possible.
    fn recover(&mut self, index: usize) {
        let client = &mut self.clients[index];
        client.receive();
        let old = client.session.outbox.clone();
        old.supersede();
        let outbox = self.outboxes.outbox(random_sid(), BUDGET);
        let missed = client.received.last().and_then(|known| {
            old.hand_over(stamp(*known), &outbox, LIMITS, &Frame::text(b"hello"))
        });
        let mut session = if let Some(missed) = missed {
            assert_eq!(missed, client.sent.len() - client.received.len());
            client.hello_after = Some(client.sent.len());
            client.before = Some(old);
            client.newest = None;
            client.replacing.clear();
            (client.is_pinged, client.may_pong) = (false, false);
            (client.is_watching, client.is_spoilt) = (false, false);
            client.closed_after = None;
            std::mem::replace(&mut client.session, Session::new(outbox, &self.numbers))
        } else {
            std::mem::replace(client, Client::new(outbox, &self.numbers)).session
        };
        session.late.clear();
        if let Some(pipe) = &session.pipe {
            pipe.state().concurrent_steps.clear();
        }
        self.old.push(session);
    }

    /// Checks that exactly the frames held for slow clients are counted, each once.
    fn check_bytes(&self) {
        let mut counted = HashMap::new();
        let befores = self
            .clients
            .iter()
            .filter_map(|client| client.before.as_ref());
        let currents = self.clients.iter().map(|client| &client.session.outbox);
        let olds = self.old.iter().map(|session| &session.outbox);
        for outbox in currents.chain(befores).chain(olds) {
            for frame in outbox.lock().counted() {
                counted.insert(frame.websocket().as_ptr(), frame.len() + 256);
            }
        }
        let gauge = self.metrics.gauge(Gauge::OutboxBytes);
        assert_eq!(gauge, counted.values().sum::<usize>() as i64);
    }

    /// Lets all clients receive everything at the end.
    fn finish(mut self) {
        for index in 0..self.clients.len() {
            self.clients[index].session.abandon();
            self.clients[index].session.late.clear();
            self.clients[index].change_pipe(|state| {
                (state.room, state.is_clogged) = (usize::MAX, false);
                state.concurrent_steps.clear();
            });
            self.settle();
            // An announced upgrade may have left a poll to the driver, so one more is needed.
            for _ in 0..self.clients[index].sent.len() + 8 {
                self.clients[index].session.poll();
                self.settle();
            }
            let client = &mut self.clients[index];
            let queue = client.session.outbox.lock();
            let has_overflowed = queue.exceeded().is_some();
            let is_closed = queue.closed().is_some();
            drop(queue);
            if let Some(after) = client.closed_after
                && !has_overflowed
                && !client.is_spoilt
            {
                assert!(client.session.is_over, "it was closed");
                assert_eq!(
                    client.received.len(),
                    after,
                    "all that was sent before the end"
                );
            }
            if !is_closed {
                assert_eq!(client.received, client.sent);
                assert_eq!(client.hello_after, None);
                let newest = client.replacing.last_key_value();
                if let Some((newest, _)) = newest {
                    assert_eq!(client.last.get("Replacing"), Some(newest));
                }
                if let Some(newest) = client.newest {
                    assert!(client.last.get("Newest") >= Some(&newest));
                }
                assert!(!client.is_watching || client.session.drained > 0);
            }
        }
        let clients = self.clients.iter_mut().map(|client| &mut client.session);
        for session in clients.chain(&mut self.old) {
            if !session.is_over {
                session.end();
            }
        }
        assert_eq!(self.metrics.gauge(Gauge::OutboxBytes), 0);
        let metrics = Arc::clone(&self.metrics);
        self.outboxes.forget();
        drop(self);
        assert_eq!(metrics.gauge(Gauge::RecoveryBytes), 0);
    }
}

fn run(steps: impl IntoIterator<Item = (usize, Step)>) {
    let mut world = World::new();
    for (index, step) in steps {
        world.step(index, step);
    }
    world.finish();
}

#[test]
fn batch_of_detached_session_is_not_counted() {
    let steps = [
        Step::Room(100),
        Step::Push(Kind::Reliable, 5000),
        Step::ConcurrentStep(ConcurrentStep::Detach),
        Step::Settle,
    ];
    run(steps.map(|step| (0, step)));
}

#[test]
fn value_dropped_for_a_reliable_frame_is_not_expected() {
    let steps = [
        Step::Push(Kind::Reliable, 33_000),
        Step::Push(Kind::Reliable, 33_000),
        Step::Push(Kind::Newest, 0),
        Step::Late(Kind::Reliable, 28_000),
        Step::Settle,
        Step::Push(Kind::Newest, 5000),
    ];
    run(steps.map(|step| (0, step)));
}

#[test]
fn irreplaceable_value_is_not_expected() {
    let steps = [
        Step::Push(Kind::Reliable, 33_000),
        Step::Push(Kind::Reliable, 33_000),
        Step::Push(Kind::Newest, 0),
        Step::Push(Kind::Newest, 40_000),
    ];
    run(steps.map(|step| (1, step)));
}

proptest! {
    #![proptest_config(ProptestConfig {
        cases: 512,
        failure_persistence: None,
        ..ProptestConfig::default()
    })]

    #[test]
    fn reliable_frames_arrive_once_and_in_order_after_any_steps(steps in steps()) {
        run(steps);
    }
}
