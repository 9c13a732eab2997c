//! The polling half of a driver: what requests bring, what they wait for, and what they ask of the
//! session.

use std::{task::Context, time::Instant};

use roomcast_protocol::{
    engine::{self, CloseReason},
    websocket::CloseCode,
};

use super::{
    driver::{Candidate, Driver, Post},
    ending::End,
};
use crate::{
    engine::{
        outbox::{Control, PendingPoll, PostAnswer},
        transport::{MESSAGES_PER_TURN, Wire, dismiss},
    },
    metrics::Counter,
};

impl Driver {
    pub(super) fn take_control(&mut self, cx: &mut Context<'_>, now: Instant) {
        // A WebSocket that comes with these messages has not been read in this turn yet.
        let was_upgrading = self.candidate.is_some();
        // Both are read under one lock, so that a poll that was sent behind an upgrade is not
        // answered before its WebSocket has come.
        let (control, is_attaching) = {
            let mut queue = self.outbox.lock();
            (std::mem::take(&mut queue.control), queue.is_attaching())
        };
        for control in control {
            self.on_control(control, now);
        }
        self.read_posts(cx, now);
        if !was_upgrading {
            self.read_candidate(cx, now);
        }
        // A poll that comes after the deadline of a pong finds no session.
        self.look_at_deadlines(now);
        // Polls come last, and wait for a WebSocket that was there before them.
        while !is_attaching && let Some(pending) = self.polls.pop_front() {
            self.on_poll(pending, now);
        }
    }

    fn on_control(&mut self, control: Control, now: Instant) {
        match control {
            Control::Poll(pending) => self.polls.push_back(pending),
            Control::PollAborted { id } => {
                if self.forget_poll(id) {
                    self.end_because(GIVEN_UP, CloseReason::TransportError, End::Gone);
                }
            }
            // The packets were lost with the answer.
            Control::PollLost => self.end_because(GIVEN_UP, CloseReason::TransportError, End::Gone),
            Control::Post { body, answer } => {
                if let Some(throttle) = &mut self.throttle {
                    throttle.charge_bytes(body.len(), now);
                }
                self.posts.push_back(Post {
                    packets: engine::payload::decode(body),
                    answer,
                });
            }
            Control::Attach { stream, unread } => {
                if self.ending.is_none() && self.session.handle_attach(now) {
                    let wire = Wire::new(stream, unread, &self.engine.config, now);
                    self.candidate = Some(Box::new(Candidate::new(wire)));
                } else {
                    dismiss(&stream, CloseCode::NORMAL);
                }
            }
            Control::Close(reason) => self.end(reason, End::Flush(close_code(reason))),
            Control::Leave(by) => self.leave_by = Some(by),
            Control::Abort(reason) => self.end(reason, End::Gone),
        }
    }

    /// The client gave up its request. Returns `false` if the request had been answered.
    pub(super) fn forget_poll(&mut self, id: u64) -> bool {
        self.polls.retain(|pending| pending.id != id);
        self.outbox.lock().forget_poll(id)
    }

    fn on_poll(&mut self, pending: PendingPoll, now: Instant) {
        if self.wire.is_some() {
            pending.refuse();
        } else if let Some(ending) = &self.ending {
            // Otherwise the request is dropped, and answered as one for an unknown session.
            if ending.takes_polls() {
                self.outbox.lock().keep_poll(pending);
            }
        } else if self.has_poll() {
            self.engine.metrics.count(Counter::RejectedOverlap);
            pending.refuse();
            self.end_because(
                "overlap from client",
                CloseReason::TransportError,
                End::Gone,
            );
        } else {
            self.outbox.lock().keep_poll(pending);
            self.release_late_poll(now);
        }
    }

    /// Reads what clients have posted, at most as much in one turn as from a WebSocket.
    fn read_posts(&mut self, cx: &Context<'_>, now: Instant) {
        let mut left = MESSAGES_PER_TURN;
        while let Some(mut post) = self.posts.pop_front() {
            let is_readable = self.wire.is_none() && self.ending.is_none();
            let verdict = if is_readable {
                self.read_post(&mut post.packets, &mut left, now)
            } else {
                Some(PostAnswer::Refused)
            };
            let Some(verdict) = verdict else {
                self.posts.push_front(post);
                if !self.is_delayed() {
                    cx.waker().wake_by_ref();
                    return;
                }
                self.delayed(now);
                if self.ending.is_some() {
                    continue;
                }
                return;
            };
            if let Some(throttle) = &mut self.throttle {
                throttle.drained(now);
            }
            self.outbox.lock().end_post();
            // A client that has gone meanwhile is noticed by its poll.
            let _ = post.answer.send(verdict);
        }
    }

    /// Returns `None` if there is more to read, but other sessions should have their turn first, or
    /// the client has sent as much as it may for now.
    fn read_post(
        &mut self,
        packets: &mut engine::payload::Packets,
        left: &mut usize,
        now: Instant,
    ) -> Option<PostAnswer> {
        while *left > 0 {
            if let Some(throttle) = &mut self.throttle {
                if throttle.delay(now).is_some() {
                    return None;
                }
                throttle.charge_packet(now);
            }
            match packets.next() {
                None => return Some(PostAnswer::Accepted),
                Some(Ok(packet)) => self.on_packet(packet, now),
                Some(Err(error)) => {
                    self.bad_packet(error);
                    return Some(PostAnswer::Refused);
                }
            }
            // The payload has ended the session, and what stands behind that is not read. A client
            // that wanted this is told `ok`.
            if let Some(ending) = &self.ending {
                return Some(if ending.is_orderly() {
                    PostAnswer::Accepted
                } else {
                    PostAnswer::Refused
                });
            }
            *left -= 1;
        }
        None
    }

    /// Whether a polling request waits.
    pub(super) fn has_poll(&self) -> bool {
        self.outbox.lock().has_poll()
    }

    /// Ends the waiting poll although nothing is to be sent.
    pub(super) fn release_poll(&mut self) {
        // Packets that wait are a better answer than none.
        self.outbox.flush();
        let pending = self.outbox.lock().take_poll();
        if let Some(pending) = pending {
            // A poll that was given up has lost nothing; `PollAborted` follows.
            let _ = pending.answer_noop();
        }
    }
}

/// How a WebSocket is closed by the server's wish.
pub(super) fn close_code(reason: CloseReason) -> CloseCode {
    match reason {
        // The client may come again, since there may be another server (RFC 6455, 7.4.1).
        CloseReason::ServerShutdown => CloseCode::GOING_AWAY,
        CloseReason::TransportClose
        | CloseReason::TransportError
        | CloseReason::PingTimeout
        | CloseReason::ParseError
        | CloseReason::ForcedClose
        | CloseReason::Overflow
        | _ => CloseCode::NORMAL,
    }
}

/// Describes a poll that was given up, in the official server's words.
const GIVEN_UP: &str = "poll connection closed prematurely";
