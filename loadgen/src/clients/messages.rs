//! Messages to rooms, and requests: sends them in time and accounts for their arrival.

use std::{
    rc::Rc,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use roomcast::client::{ClientError, DisconnectReason};
use tokio::time::sleep;

use super::{inbound::is_measured, worker::Worker};
use crate::{
    account::{SenderTotal, Track},
    load::{CallArguments, OwnMessages, Placeholders, Scenario, Stamp, Tick, pace},
};

/// Sends the messages that are due, waits for those in flight, and computes the account.
pub(super) async fn play(worker: &Rc<Worker>, start: Instant) {
    let plan = &worker.plan;
    let schedule = plan.schedule();
    worker.pause.send_replace(plan.scenario == Scenario::Slow);
    let mut ticks = pace(start, schedule.ticks(worker.index, plan.threads));
    let mut stop = worker.shared.stop.subscribe();
    loop {
        tokio::select! {
            tick = ticks.recv() => match tick {
                Some(tick) => fire(worker, tick, start),
                None => break,
            },
            _ = stop.wait_for(|stop| *stop) => break,
        }
    }
    // Dropping the receiver ends the thread that sends the ticks.
    drop(ticks);
    worker.shared.wait_until(start + schedule.length).await;
    worker.pause.send_replace(false);

    publish(worker);
    worker.shared.meet().await;
    let deadline = Instant::now() + plan.drain;
    while outstanding(worker) > 0 && Instant::now() < deadline && !worker.shared.is_stopped() {
        sleep(Duration::from_millis(10)).await;
    }
    // Refusals may have arrived in the meantime.
    publish(worker);
    worker.shared.meet().await;
    account(worker);
}

/// Sends the message of a tick.
fn fire(worker: &Worker, tick: Tick, start: Instant) {
    let plan = &worker.plan;
    let mut stats = worker.stats.borrow_mut();
    let Some(member) = worker.member(tick.sender) else {
        stats.unsent += 1;
        return;
    };
    if is_measured(worker, tick.due) {
        stats.lag.record(start.elapsed().saturating_sub(tick.due));
    }
    let call = if plan.scenario == Scenario::Echo {
        &plan.vocabulary.echo
    } else {
        &plan.vocabulary.send
    };
    let payload = worker.shared.stamps.write(Stamp {
        sender: tick.sender,
        number: tick.number,
    });
    let spoken = CallArguments {
        call,
        blanks: Placeholders {
            room: &member.room_name,
            payload: &payload,
            client: member.id,
            ..Placeholders::default()
        },
    };
    let mut state = member.state.borrow_mut();
    state.total.sent = tick.number + 1;
    let mut connection = member.connection.borrow_mut();
    let sent = match connection.as_mut() {
        Some(_) if state.pending.len() >= MAX_PENDING => Err(ClientError::Full),
        Some(connection) if call.ack => connection.request(&call.event, &spoken).map(Some),
        Some(connection) => connection.emit(&call.event, &spoken).map(|()| None),
        None => Err(ClientError::Disconnected(DisconnectReason::TransportClose)),
    };
    match sent {
        Ok(id) => {
            stats.sent += 1;
            state.pending.extend(id.map(|id| (id, tick.number)));
            let sent = &worker.shared.progress.sent;
            sent.fetch_add(1, Ordering::Relaxed);
        }
        // The reading task detects and counts a broken connection.
        Err(_) => {
            stats.unsent += 1;
            state.total.excused.push(tick.number);
        }
    }
}

/// Publishes the sent messages of this thread's senders to the other threads.
fn publish(worker: &Worker) {
    let mut totals = worker.shared.totals.lock();
    for member in worker.members() {
        if let Some(total) = totals.get_mut(member.id) {
            let state = member.state.borrow();
            *total = state.total.clone();
            total.excused.sort_unstable();
            total.unanswered = state.pending.values().copied().collect();
        }
    }
}

/// Returns whether senders are expected to receive their own messages.
fn includes_own(worker: &Worker) -> bool {
    match worker.plan.vocabulary.own {
        OwnMessages::Yes => true,
        OwnMessages::No => false,
        // All threads meet before the account, which makes the writes of each thread visible to
        // all.
        OwnMessages::Auto => worker.shared.own_seen.load(Ordering::Relaxed),
    }
}

/// Returns the number of messages and acknowledgements that may still arrive.
fn outstanding(worker: &Worker) -> u64 {
    let plan = &worker.plan;
    let totals = worker.shared.totals.lock();
    let sent = |total: &SenderTotal| total.sent.saturating_sub(total.excused.len() as u64);
    let mut rooms = vec![0; plan.rooms];
    if plan.scenario.is_broadcast() {
        for (sender, total) in totals.iter().enumerate() {
            if let Some(room) = rooms.get_mut(plan.room_of(sender)) {
                *room += sent(total);
            }
        }
    }
    let includes_own = includes_own(worker);
    let waiting = worker.members().map(|member| {
        let state = member.state.borrow();
        if state.has_ended {
            return 0;
        }
        let mut expected = rooms.get(member.room).copied().unwrap_or_default();
        if !includes_own && plan.scenario.is_broadcast() {
            expected -= totals.get(member.id).map_or(0, sent).min(expected);
        }
        let received = state.tracks.iter().map(|track| track.received()).sum();
        expected.saturating_sub(received) + state.pending.len() as u64
    });
    waiting.sum()
}

/// Compares the messages that every client should have received with those that it did.
fn account(worker: &Worker) {
    let plan = &worker.plan;
    let totals = worker.shared.totals.lock();
    let includes_own = includes_own(worker);
    let mut stats = worker.stats.borrow_mut();
    let stats = &mut *stats;
    stats.completion.includes_own = includes_own;
    stats.completion.receivers = vec![0; plan.rooms];
    if plan.scenario == Scenario::Echo {
        stats.expected = stats.sent - stats.refused.total().min(stats.sent);
    }
    // If the run was stopped, it did not wait for messages in flight.
    let is_stopped = worker.shared.is_stopped();
    for member in worker.members() {
        let state = member.state.borrow();
        if !state.has_ended && !is_stopped {
            stats.faults.unanswered += state.pending.len() as u64;
        }
        if !plan.scenario.is_broadcast() {
            continue;
        }
        let (mut expected, mut received, mut holes, mut tails) = (0, 0, 0, 0);
        let nothing = Track::default();
        let senders = totals
            .iter()
            .enumerate()
            .skip(member.room)
            .step_by(plan.rooms);
        for (place, (sender, total)) in senders.enumerate() {
            if sender == member.id && !includes_own {
                continue;
            }
            let track = state.tracks.get(place).unwrap_or(&nothing);
            let tail = track.tail(total.sent, &total.excused);
            holes += track.holes(&total.excused);
            received += track.received();
            expected += total.sent.saturating_sub(total.excused.len() as u64);
            if total.ended || is_stopped {
                // It is unknown whether these were sent, or would still have arrived.
                expected = expected.saturating_sub(tail);
            } else {
                tails += tail;
            }
        }
        if member.is_slow {
            stats.slow.clients += 1;
            stats.slow.disconnected += u64::from(state.has_ended);
            stats.slow.expected += expected;
            stats.slow.received += received;
            if !state.has_ended {
                stats.slow.holes += holes;
            }
        } else if state.has_ended {
            stats.missed += expected.saturating_sub(received);
        } else {
            stats.expected += expected;
            stats.delivered += received;
            stats.faults.lost += holes + tails;
            if let Some(receivers) = stats.completion.receivers.get_mut(member.room) {
                *receivers += 1;
            }
        }
    }
}

/// The maximum number of pending acknowledgements of a client; beyond that, it does not send.
const MAX_PENDING: usize = 10_000;
