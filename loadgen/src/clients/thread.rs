//! A thread of the generator: its clients, from the first connection to the last.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    io,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use roomcast::client::{ClientError, Connection};
use tokio::{
    sync::{Semaphore, watch},
    task::{JoinSet, LocalSet},
    time::{sleep, timeout},
};

use super::{
    connect, enter, inbound, messages,
    shared::RunState,
    worker::{Member, Worker},
};
use crate::{
    account::Stats,
    load::{Plan, Scenario},
};

/// Plays the part of one thread.
///
/// # Errors
/// If the runtime cannot be created.
pub(crate) fn play_part(index: usize, plan: Arc<Plan>, shared: Arc<RunState>) -> io::Result<Stats> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let worker = Rc::new(Worker {
        index,
        stats: RefCell::new(Stats::new(plan.duration)),
        members: RefCell::new(vec![None; plan.clients.div_ceil(plan.threads)]),
        plan,
        shared,
        start: Cell::new(None),
        pause: watch::Sender::new(false),
        is_closing: Cell::new(false),
    });
    let local = LocalSet::new();
    local.block_on(&runtime, async {
        if worker.plan.scenario == Scenario::Connect {
            connect::play(&worker).await;
            return;
        }
        worker.gather().await;
        let start = worker.shared.meet_to_start().await;
        worker.start.set(Some(start));
        if worker.plan.scenario == Scenario::Idle {
            let end = start + worker.plan.schedule().length;
            worker.shared.wait_until(end).await;
        } else {
            messages::play(&worker, start).await;
        }
        worker.part().await;
    });
    Ok(worker.stats.take())
}

impl Worker {
    /// Connects this thread's clients one after the other.
    async fn gather(self: &Rc<Self>) {
        let plan = &self.plan;
        let permits = Arc::new(Semaphore::new(MAX_CONNECTING));
        let mut arrivals = JoinSet::new();
        let begin = Instant::now();
        for id in (self.index..plan.clients).step_by(plan.threads) {
            let due = begin + Duration::from_secs_f64(id as f64 / plan.connect_rate);
            if !self.shared.wait_until(due).await {
                break;
            }
            let Ok(permit) = Arc::clone(&permits).acquire_owned().await else {
                break;
            };
            let worker = Rc::clone(self);
            arrivals.spawn_local(async move {
                let member = worker.admit(id).await;
                let mut members = worker.members.borrow_mut();
                if let Some(place) = members.get_mut(id / worker.plan.threads) {
                    *place = member;
                }
                drop(permit);
            });
            while arrivals.try_join_next().is_some() {}
        }
        while arrivals.join_next().await.is_some() {}
        let deadline = Instant::now() + UPGRADE_TIMEOUT;
        while self.members().any(|member| member.is_upgrading()) && Instant::now() < deadline {
            sleep(Duration::from_millis(10)).await;
        }
    }

    /// Connects a client and joins its room. Returns `None` if that fails.
    async fn admit(self: &Rc<Self>, id: usize) -> Option<Rc<Member>> {
        let plan = &self.plan;
        let is_slow = id >= plan.clients - plan.slow_clients();
        let mut options = enter::options(plan, id);
        if is_slow && options.receive_buffer.is_none() {
            options.receive_buffer = Some(SLOW_BUFFER);
        }
        let room = plan.room_of(id);
        let room_name = plan.vocabulary.room(room).unwrap_or_default();
        let began = Instant::now();
        let connect = async {
            let opened = Connection::open(&options).await;
            let mut connection = opened.map_err(|error| error.to_string())?;
            {
                let mut stats = self.stats.borrow_mut();
                stats.connect.record(began.elapsed());
                stats.opened += 1;
            }
            if plan.scenario.is_broadcast() {
                enter::join(plan, &mut connection, &room_name, id).await?;
            }
            Ok::<_, String>(connection)
        };
        let progress = &self.shared.progress;
        let connection = match connect.await {
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

    /// Reads for a client until its connection ends.
    async fn read(self: Rc<Self>, member: Rc<Member>) {
        let mut pause = self.pause.subscribe();
        loop {
            let packet = poll_fn(|cx| member.poll(cx));
            let packet = if member.is_slow {
                if pause.wait_for(|paused| !*paused).await.is_err() {
                    return;
                }
                // Dropping the read loses nothing: received data stays in the connection.
                tokio::select! {
                    packet = packet => packet,
                    _ = pause.changed() => continue,
                }
            } else {
                packet.await
            };
            match packet {
                Ok(packet) => inbound::take(&self, &member, &packet),
                Err(error) => return self.end(&member, &error),
            }
        }
    }

    /// Records a connection that ended by itself.
    fn end(&self, member: &Member, error: &ClientError) {
        let mut state = member.state.borrow_mut();
        if state.total.ended || self.is_closing.get() {
            return;
        }
        state.total.ended = true;
        let mut stats = self.stats.borrow_mut();
        stats.dropped.count(&error.to_string());
        if let Some(connection) = member.connection.borrow_mut().take() {
            stats.pings += connection.pings();
        }
    }

    /// Closes the connections of all clients.
    async fn part(&self) {
        self.is_closing.set(true);
        let permits = Rc::new(Semaphore::new(MAX_CONNECTING));
        let mut partings = JoinSet::new();
        for member in self.members() {
            let Some(connection) = member.connection.borrow_mut().take() else {
                continue;
            };
            self.stats.borrow_mut().pings += connection.pings();
            let permits = Rc::clone(&permits);
            partings.spawn_local(async move {
                let permit = permits.acquire().await;
                let _ = connection.close().await;
                drop(permit);
            });
        }
        let all = async { while partings.join_next().await.is_some() {} };
        // Clients that cannot close in time are dropped.
        let _ = timeout(DISCONNECT_TIMEOUT, all).await;
    }
}

/// The maximum number of clients of a thread that connect or disconnect at the same time.
const MAX_CONNECTING: usize = 128;
/// The maximum time to wait for upgrades.
const UPGRADE_TIMEOUT: Duration = Duration::from_secs(12);
/// The maximum time to wait for clients to disconnect.
const DISCONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// The receive buffer of slow clients in bytes, so small that unread messages stay with the server.
const SLOW_BUFFER: u32 = 64 * 1024;
