//! Clients that connect and disconnect: one connects at each tick.

use std::{
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use roomcast::client::Connection;
use tokio::{sync::Semaphore, task::JoinSet, time::timeout};

use super::{enter, worker::Worker};
use crate::load::{Tick, pace};

/// Lets clients connect, join the namespace, and disconnect again.
pub(super) async fn play(worker: &Rc<Worker>) {
    let plan = &worker.plan;
    let start = worker.shared.meet_to_start().await;
    worker.start.set(Some(start));
    let schedule = plan.schedule();
    let places = plan.clients.div_ceil(plan.threads);
    let permits = Arc::new(Semaphore::new(places));
    let mut visits = JoinSet::new();
    let mut ticks = pace(start, schedule.ticks(worker.index, plan.threads));
    let mut stop = worker.shared.stop.subscribe();
    loop {
        let tick = tokio::select! {
            tick = ticks.recv() => tick,
            _ = stop.wait_for(|stop| *stop) => None,
        };
        let Some(tick) = tick else { break };
        // Finished visits are removed, or the set would grow during the whole run.
        while visits.try_join_next().is_some() {}
        // A client that waits for a slot is late, and its delay is measured. But the number of
        // waiting clients is limited.
        let has_place = visits.len() < places + MAX_WAITING;
        let mut stats = worker.stats.borrow_mut();
        stats.lag.record(start.elapsed().saturating_sub(tick.due));
        if !has_place {
            stats.unsent += 1;
            continue;
        }
        stats.sent += 1;
        let (worker, permits) = (Rc::clone(worker), Arc::clone(&permits));
        visits.spawn_local(async move {
            let permit = permits.acquire().await;
            visit(&worker, tick).await;
            drop(permit);
        });
    }
    let all = async { while visits.join_next().await.is_some() {} };
    let time_limit = plan.client.connect_timeout + plan.drain;
    let _ = timeout(time_limit, all).await;
    settle(worker);
    worker.shared.meet().await;
}

/// Counts the visits that have not finished in time.
fn settle(worker: &Worker) {
    let mut stats = worker.stats.borrow_mut();
    let stats = &mut *stats;
    stats.expected = stats.sent;
    let done = stats.delivered + stats.failed.total();
    stats.faults.unanswered += stats.sent.saturating_sub(done);
}

/// Counts a client that has connected.
fn welcome(worker: &Worker, tick: Tick) {
    let progress = &worker.shared.progress;
    progress.connected.fetch_add(1, Ordering::Relaxed);
    progress.arrived.fetch_add(1, Ordering::Relaxed);
    let mut stats = worker.stats.borrow_mut();
    stats.opened += 1;
    stats.delivered += 1;
    if let Some(time) = worker.time_since(tick.due, Instant::now()) {
        stats.connect.record(time);
        stats.timeline.record(tick.due - worker.plan.warmup, time);
    }
}

async fn visit(worker: &Worker, tick: Tick) {
    let plan = &worker.plan;
    let id = usize::try_from(tick.number).unwrap_or_default() * plan.threads + tick.sender;
    let options = enter::options(plan, id);
    let progress = &worker.shared.progress;
    match Connection::open(&options).await {
        Ok(connection) => {
            welcome(worker, tick);
            // The slot is free when the client has disconnected.
            let _ = timeout(CLOSE_TIMEOUT, connection.close()).await;
        }
        Err(error) => {
            progress.failed.fetch_add(1, Ordering::Relaxed);
            worker.stats.borrow_mut().failed.count(&error.to_string());
        }
    }
}

/// The maximum number of visits that wait for a slot.
const MAX_WAITING: usize = 10_000;
const CLOSE_TIMEOUT: Duration = Duration::from_secs(5);
