//! One thread of the generator: its clients, from the first connection to the last.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    future::poll_fn,
    io,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Context, Poll},
    time::{Duration, Instant},
};

use parking_lot::Mutex;
use roomcast_protocol::{engine::CloseReason, socket::Packet};
use tokio::{
    sync::{Barrier, Semaphore, watch},
    task::{JoinSet, LocalSet},
    time::{sleep, sleep_until, timeout},
};

use super::{
    cast, connect,
    ledger::Track,
    plan::{Plan, Scenario},
    preflight,
    stamp::Stamps,
    stats::Stats,
};
use crate::client::{ClientError, Connection, Transports};

/// What all threads of a run and the one that watches them share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) stamps: Stamps,
    /// For the eyes of whoever watches; figures come from [`Stats`].
    pub(super) progress: Progress,
    /// Set when the run is to end early.
    pub(super) stop: watch::Sender<bool>,
    /// When the first message is due; set when all clients have come together.
    pub(super) start: Mutex<Option<Instant>>,
    /// What each sender has sent.
    pub(super) totals: Mutex<Vec<Total>>,
    /// Whether a sender has got a message of its own.
    pub(super) own_seen: AtomicBool,
    barrier: Barrier,
}

/// Counters that only ever grow.
#[derive(Debug, Default)]
pub(super) struct Progress {
    pub(super) connected: AtomicU64,
    pub(super) failed: AtomicU64,
    pub(super) sent: AtomicU64,
    pub(super) arrived: AtomicU64,
}

/// What a sender has sent.
#[derive(Clone, Debug, Default)]
pub(super) struct Total {
    /// One more than its highest number.
    pub(super) sent: u64,
    /// Numbers that nobody can expect: not sent, or refused by the server. Ascending.
    pub(super) excused: Vec<u64>,
    /// Numbers whose acknowledgement has not come.
    pub(super) unanswered: Vec<u64>,
    /// Whether its connection ended, so that nobody knows what of its last messages left.
    pub(super) ended: bool,
}

impl Shared {
    pub(super) fn new(plan: &Plan, stamps: Stamps) -> Self {
        Self {
            stamps,
            progress: Progress::default(),
            stop: watch::Sender::new(false),
            start: Mutex::new(None),
            totals: Mutex::new(vec![Total::default(); plan.all_senders()]),
            own_seen: AtomicBool::new(false),
            barrier: Barrier::new(plan.threads),
        }
    }

    /// Waits for the other threads.
    pub(super) async fn meet(&self) {
        self.barrier.wait().await;
    }

    /// Waits for the other threads, and agrees with them on a start.
    pub(super) async fn meet_to_start(&self) -> Instant {
        if self.barrier.wait().await.is_leader() {
            *self.start.lock() = Some(Instant::now() + Duration::from_millis(20));
        }
        self.barrier.wait().await;
        let start = *self.start.lock();
        start.unwrap_or_else(Instant::now)
    }

    /// Waits until this time, or until the run is to end: whether it may go on.
    pub(super) async fn wait_until(&self, time: Instant) -> bool {
        let mut stop = self.stop.subscribe();
        tokio::select! {
            () = sleep_until(time.into()) => true,
            _ = stop.wait_for(|stop| *stop) => false,
        }
    }

    pub(super) fn is_stopped(&self) -> bool {
        *self.stop.borrow()
    }
}

/// One thread's part of a run.
pub(super) struct Shard {
    pub(super) index: usize,
    pub(super) plan: Arc<Plan>,
    pub(super) shared: Arc<Shared>,
    pub(super) stats: RefCell<Stats>,
    pub(super) start: Cell<Option<Instant>>,
    /// Client `i` of the run is that of thread `i % threads`, and its number there `i / threads`.
    members: RefCell<Vec<Option<Rc<Member>>>>,
    /// Whether slow clients read.
    pub(super) pause: watch::Sender<bool>,
    is_closing: Cell<bool>,
}

/// A client.
pub(super) struct Member {
    pub(super) id: usize,
    pub(super) room: usize,
    pub(super) room_name: String,
    pub(super) is_slow: bool,
    /// Taken when it has ended.
    pub(super) connection: RefCell<Option<Connection>>,
    pub(super) state: RefCell<State>,
}

/// What a client remembers.
#[derive(Debug, Default)]
pub(super) struct State {
    pub(super) has_ended: bool,
    /// One for each sender of its room.
    pub(super) tracks: Vec<Track>,
    /// Messages whose acknowledgement has not come, by its id.
    pub(super) pending: HashMap<u64, u64>,
    /// Of the last message in a conversation.
    pub(super) last_seq: u64,
    pub(super) total: Total,
}

/// Plays a thread's part.
///
/// # Errors
/// If the system gives no runtime.
pub(super) fn play(index: usize, plan: Arc<Plan>, shared: Arc<Shared>) -> io::Result<Stats> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let shard = Rc::new(Shard {
        index,
        stats: RefCell::new(Stats::new(plan.duration)),
        plan,
        shared,
        start: Cell::new(None),
        members: RefCell::default(),
        pause: watch::Sender::new(false),
        is_closing: Cell::new(false),
    });
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        if shard.plan.scenario == Scenario::Connect {
            connect::play(&shard).await;
            return;
        }
        shard.gather().await;
        let start = shard.shared.meet_to_start().await;
        shard.start.set(Some(start));
        if shard.plan.scenario == Scenario::Idle {
            let end = start + shard.plan.schedule().length;
            shard.shared.wait_until(end).await;
        } else {
            cast::play(&shard, start).await;
        }
        shard.part().await;
    });
    let stats = shard.stats.borrow().clone();
    Ok(stats)
}

impl Shard {
    /// Lets this thread's clients connect one after the other.
    async fn gather(self: &Rc<Self>) {
        let plan = &self.plan;
        let doors = Arc::new(Semaphore::new(CONNECTING));
        let mut arrivals = JoinSet::new();
        let begin = Instant::now();
        for id in (self.index..plan.clients).step_by(plan.threads) {
            let due = begin + Duration::from_secs_f64(id as f64 / plan.connect_rate);
            if !self.shared.wait_until(due).await {
                break;
            }
            let Ok(door) = Arc::clone(&doors).acquire_owned().await else {
                break;
            };
            let shard = Rc::clone(self);
            arrivals.spawn_local(async move {
                let member = shard.admit(id).await;
                shard.members.borrow_mut().push(member);
                drop(door);
            });
            while arrivals.try_join_next().is_some() {}
        }
        while arrivals.join_next().await.is_some() {}
        self.sort_members();
        let deadline = Instant::now() + UPGRADING;
        while self.members().any(|member| member.is_upgrading()) && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Puts every client where its number says.
    fn sort_members(&self) {
        let mut members = self.members.borrow_mut();
        let last = self.plan.clients / self.plan.threads;
        let mut sorted = vec![None; last + 1];
        for member in members.drain(..).flatten() {
            if let Some(place) = sorted.get_mut(member.id / self.plan.threads) {
                *place = Some(member);
            }
        }
        *members = sorted;
    }

    /// Connects a client and lets it join its room; nothing if that fails.
    async fn admit(self: &Rc<Self>, id: usize) -> Option<Rc<Member>> {
        let plan = &self.plan;
        let is_slow = id >= plan.clients - plan.slow_clients();
        let mut options = preflight::options(plan, id);
        if is_slow && options.receive_buffer.is_none() {
            options.receive_buffer = Some(SLOW_BUFFER);
        }
        let room = plan.room_of(id);
        let room_name = plan.vocabulary.room(room).unwrap_or_default();
        let began = Instant::now();
        let mut result = Connection::open(&options).await.map_err(|e| e.to_string());
        if let Ok(connection) = &mut result {
            self.count_opened(began.elapsed());
            if plan.scenario.is_cast()
                && let Err(reason) = preflight::join(plan, connection, &room_name, id).await
            {
                result = Err(reason);
            }
        }
        let progress = &self.shared.progress;
        let connection = match result {
            Ok(connection) => connection,
            Err(reason) => {
                self.stats.borrow_mut().failed.count(&reason);
                progress.failed.fetch_add(1, Ordering::Relaxed);
                return None;
            }
        };
        progress.connected.fetch_add(1, Ordering::Relaxed);
        let member = Rc::new(Member {
            id,
            room,
            room_name,
            is_slow,
            connection: RefCell::new(Some(connection)),
            state: RefCell::default(),
        });
        tokio::task::spawn_local(Rc::clone(self).read(Rc::clone(&member)));
        Some(member)
    }

    fn count_opened(&self, time: Duration) {
        let mut stats = self.stats.borrow_mut();
        stats.connect.record(time);
        stats.opened += 1;
    }

    /// Reads for a client until its connection ends.
    async fn read(self: Rc<Self>, member: Rc<Member>) {
        let mut pause = self.pause.subscribe();
        loop {
            let packet = poll_fn(|cx| member.poll(cx));
            let packet = if member.is_slow {
                if pause.wait_for(|paused| !*paused).await.is_err() {
                    return;
                }
                tokio::select! {
                    packet = packet => packet,
                    _ = pause.changed() => continue,
                }
            } else {
                packet.await
            };
            match packet {
                Ok(packet) => cast::take(&self, &member, &packet),
                Err(error) => return self.end(&member, &error),
            }
        }
    }

    /// A connection has ended by itself.
    pub(super) fn end(&self, member: &Member, error: &ClientError) {
        let mut state = member.state.borrow_mut();
        if state.has_ended || self.is_closing.get() {
            return;
        }
        state.has_ended = true;
        state.total.ended = true;
        let mut stats = self.stats.borrow_mut();
        stats.dropped.count(&error.to_string());
        if let Some(connection) = member.connection.borrow_mut().take() {
            stats.pings += connection.pings();
        }
    }

    /// The client of this number, if it is this thread's and has connected.
    pub(super) fn member(&self, id: usize) -> Option<Rc<Member>> {
        let members = self.members.borrow();
        members.get(id / self.plan.threads)?.clone()
    }

    /// The clients that have connected.
    pub(super) fn members(&self) -> impl Iterator<Item = Rc<Member>> {
        let members: Vec<_> = self.members.borrow().iter().flatten().cloned().collect();
        members.into_iter()
    }

    /// Says goodbye for all clients.
    async fn part(&self) {
        self.is_closing.set(true);
        let doors = Rc::new(Semaphore::new(CONNECTING));
        let mut partings = JoinSet::new();
        for member in self.members() {
            let Some(connection) = member.connection.borrow_mut().take() else {
                continue;
            };
            self.stats.borrow_mut().pings += connection.pings();
            let doors = Rc::clone(&doors);
            partings.spawn_local(async move {
                let door = doors.acquire().await;
                let _ = connection.close().await;
                drop(door);
            });
        }
        let all = async { while partings.join_next().await.is_some() {} };
        // Who cannot part in time is dropped.
        let _ = timeout(PARTING, all).await;
    }
}

impl Member {
    fn poll(&self, cx: &mut Context<'_>) -> Poll<Result<Packet, ClientError>> {
        match self.connection.borrow_mut().as_mut() {
            Some(connection) => connection.poll_packet(cx),
            None => Poll::Ready(Err(ClientError::Closed(CloseReason::ForcedClose))),
        }
    }

    fn is_upgrading(&self) -> bool {
        let connection = self.connection.borrow();
        connection.as_ref().is_some_and(Connection::is_upgrading)
    }
}

/// Whether clients of this plan end on a WebSocket.
pub(super) const fn transport_name(transports: Transports) -> &'static str {
    match transports {
        Transports::WebSocket => "websocket",
        Transports::Polling => "polling",
        Transports::Upgrade => "upgrade",
    }
}

/// Clients of a thread that may be connecting, or parting, at once.
const CONNECTING: usize = 128;
/// How long upgrades are waited for.
const UPGRADING: Duration = Duration::from_secs(12);
/// How long goodbyes are waited for.
const PARTING: Duration = Duration::from_secs(10);
/// Receive buffer of slow clients, so that what they are owed stays with the server.
const SLOW_BUFFER: u32 = 64 * 1024;
