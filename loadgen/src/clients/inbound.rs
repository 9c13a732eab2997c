//! Handles the packets that a client receives: sender, order and time of each message.

use std::{sync::atomic::Ordering, time::Instant};

use roomcast_protocol::socket::{Kind, Packet};

use super::worker::{Member, Worker};
use crate::{
    account::Arrival,
    load::{PayloadCheck, Scenario, Stamp, error_event, refusal, seq},
};

/// Handles a received packet.
pub(super) fn take(worker: &Worker, member: &Member, packet: &Packet) {
    let now = Instant::now();
    match packet.kind {
        Kind::Ack => take_ack(worker, member, packet, now),
        Kind::Event => {
            if let Some(id) = packet.id
                && let Some(connection) = member.connection.borrow_mut().as_mut()
            {
                // The server requests an acknowledgement. If it cannot be sent, the connection is
                // broken, and the reading task detects that.
                let _ = connection.ack(id, &());
            }
            take_event(worker, member, packet, now);
        }
        Kind::Connect | Kind::Disconnect | Kind::ConnectError => {}
    }
}

fn take_ack(worker: &Worker, member: &Member, packet: &Packet, now: Instant) {
    let mut state = member.state.borrow_mut();
    let mut stats = worker.stats.borrow_mut();
    let Some(number) = packet.id.and_then(|id| state.pending.remove(&id)) else {
        stats.faults.duplicate += 1;
        return;
    };
    if let Some(reason) = refusal(&packet.args) {
        stats.refused.count(&reason);
        state.total.excused.push(number);
        return;
    }
    let due = worker.plan.schedule().due(member.id, number);
    let is_echo = worker.plan.scenario == Scenario::Echo;
    if is_echo {
        let arrived = &worker.shared.progress.arrived;
        arrived.fetch_add(1, Ordering::Relaxed);
        stats.delivered += 1;
        let expected = Stamp {
            sender: member.id,
            number,
        };
        match worker.shared.stamps.find(&packet.args) {
            // A server may acknowledge with other data than the payload.
            PayloadCheck::Nothing => {}
            PayloadCheck::Intact(stamp) if stamp == expected => {}
            PayloadCheck::Intact(_) | PayloadCheck::Corrupt => stats.faults.corrupt += 1,
        }
    }
    if let Some(time) = worker.time_since(due, now) {
        stats.acks.record(time);
        if is_echo {
            stats.timeline.record(due - worker.plan.warmup, time);
        }
    }
}

fn take_event(worker: &Worker, member: &Member, packet: &Packet, now: Instant) {
    let mut stats = worker.stats.borrow_mut();
    let stamp = match worker.shared.stamps.find(&packet.args) {
        PayloadCheck::Intact(stamp) => stamp,
        PayloadCheck::Corrupt => {
            stats.faults.corrupt += 1;
            return;
        }
        PayloadCheck::Nothing => {
            if let Some(reason) = error_event(packet) {
                stats.refused.count(&reason);
            }
            return;
        }
    };
    let plan = &worker.plan;
    let schedule = plan.schedule();
    // Only the server could have invented such a number.
    if stamp.sender >= schedule.senders || stamp.number > schedule.messages(stamp.sender) {
        stats.faults.corrupt += 1;
        return;
    }
    if !plan.scenario.is_broadcast() {
        return; // Other clients may receive the echo event of a chat.
    }
    if plan.room_of(stamp.sender) != member.room {
        stats.faults.misrouted += 1;
        return;
    }
    if stamp.sender == member.id {
        worker.shared.own_seen.store(true, Ordering::Relaxed);
    }
    let mut state = member.state.borrow_mut();
    if plan.scenario == Scenario::Chat
        && let Some(seq) = seq(&packet.args)
    {
        if seq <= state.last_seq {
            stats.faults.out_of_order += 1;
        }
        state.last_seq = seq.max(state.last_seq);
    }
    let place = stamp.sender / plan.rooms;
    if state.tracks.len() <= place {
        state.tracks.resize_with(place + 1, Default::default);
    }
    let Some(track) = state.tracks.get_mut(place) else {
        return;
    };
    match track.take(stamp.number) {
        Arrival::InOrder => {}
        Arrival::OutOfOrder => stats.faults.out_of_order += 1,
        Arrival::Duplicate => {
            stats.faults.duplicate += 1;
            return;
        }
    }
    let arrived = &worker.shared.progress.arrived;
    arrived.fetch_add(1, Ordering::Relaxed);
    let due = schedule.due(stamp.sender, stamp.number);
    if let Some(time) = worker.time_since(due, now)
        && !member.is_slow
    {
        let index = stamp.number * schedule.senders as u64 + stamp.sender as u64;
        stats.completion.note(index, time);
        stats.latency.record(time);
        stats.timeline.record(due - plan.warmup, time);
    }
}
