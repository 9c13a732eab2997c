//! Messages to rooms, and requests: sends them in time and accounts for their arrival.

use std::{
    rc::Rc,
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

use roomcast::client::{ClientError, DisconnectReason};
use tokio::time::sleep;

use super::{
    enter::send,
    worker::{Member, Worker},
};
use crate::{
    account::{SenderTotal, Track},
    load::{OwnMessages, Placeholders, Scenario, Stamp, Tick, pace},
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
                Some(tick) => fire(worker, tick),
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
fn fire(worker: &Worker, tick: Tick) {
    let plan = &worker.plan;
    let mut stats = worker.stats.borrow_mut();
    let Some(member) = worker.member(tick.sender) else {
        stats.unsent += 1;
        return;
    };
    if let Some(time) = worker.time_since(tick.due, Instant::now()) {
        stats.lag.record(time);
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
    let blanks = Placeholders {
        room: &member.room_name,
        payload: &payload,
        client: member.id,
        ..Placeholders::default()
    };
    let mut state = member.state.borrow_mut();
    state.total.sent = tick.number + 1;
    let mut connection = member.connection.borrow_mut();
    let sent = match connection.as_mut() {
        Some(_) if state.pending.len() >= MAX_PENDING => Err(ClientError::Full),
        Some(connection) => send(connection, call, blanks),
        None => Err(ClientError::Disconnected(DisconnectReason::TransportClose)),
    };
    match sent {
        Ok(id) => {
            stats.sent += 1;
            state.pending.extend(id.map(|id| (id, tick.number)));
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
    let totals = worker.shared.totals.lock();
    let waiting = worker.members().map(|member| {
        let state = member.state.borrow();
        if state.total.ended {
            return 0;
        }
        let senders = senders(worker, &member, &totals);
        let expected: u64 = senders.map(|(_, total)| total.expected()).sum();
        let received = state.tracks.iter().map(|track| track.received()).sum();
        expected.saturating_sub(received) + state.pending.len() as u64
    });
    waiting.sum()
}

/// Returns the senders whose messages a client should receive, with the index of its track.
fn senders<'a>(
    worker: &Worker,
    member: &Member,
    totals: &'a [SenderTotal],
) -> impl Iterator<Item = (usize, &'a SenderTotal)> {
    let plan = &worker.plan;
    let excluded = (!includes_own(worker)).then_some(member.id);
    let totals = if plan.scenario.is_broadcast() {
        totals
    } else {
        &[]
    };
    let senders = totals
        .iter()
        .enumerate()
        .skip(member.room)
        .step_by(plan.rooms);
    senders
        .enumerate()
        .filter(move |(_, (sender, _))| Some(*sender) != excluded)
        .map(|(place, (_, total))| (place, total))
}

/// Compares the messages that every client should have received with those that it did.
fn account(worker: &Worker) {
    let plan = &worker.plan;
    let totals = worker.shared.totals.lock();
    let mut stats = worker.stats.borrow_mut();
    let stats = &mut *stats;
    stats.completion.includes_own = includes_own(worker);
    stats.completion.receivers = vec![0; plan.rooms];
    if plan.scenario == Scenario::Echo {
        stats.expected = stats.sent - stats.refused.total().min(stats.sent);
    }
    // If the run was stopped, it did not wait for messages in flight.
    let is_stopped = worker.shared.is_stopped();
    for member in worker.members() {
        let state = member.state.borrow();
        if !state.total.ended && !is_stopped {
            stats.faults.unanswered += state.pending.len() as u64;
        }
        if !plan.scenario.is_broadcast() {
            continue;
        }
        let (mut expected, mut received, mut holes, mut tails) = (0, 0, 0, 0);
        let nothing = Track::default();
        for (place, total) in senders(worker, &member, &totals) {
            let track = state.tracks.get(place).unwrap_or(&nothing);
            let tail = track.tail(total.sent, &total.excused);
            holes += track.holes(&total.excused);
            received += track.received();
            expected += total.expected();
            if total.ended || is_stopped {
                // It is unknown whether these were sent, or would still have arrived.
                expected = expected.saturating_sub(tail);
            } else {
                tails += tail;
            }
        }
        let slow = &mut stats.slow;
        if member.is_slow {
            slow.clients += 1;
            slow.disconnected += u64::from(state.total.ended);
            slow.expected += expected;
            slow.received += received;
            slow.holes += if state.total.ended { 0 } else { holes };
        } else if state.total.ended {
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
