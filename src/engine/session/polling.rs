//! The polling part of a driver: posts, polls, and other requests to the session.

use std::{task::Context, time::Instant};

use roomcast_protocol::{
    engine::{CloseReason, Transport},
    websocket::CloseCode,
};

use super::{
    driver::{Driver, Post},
    ending::End,
    upgrade::Candidate,
};
use crate::{
    engine::{
        outbox::{Control, PendingPoll, PostAnswer},
        transport::{MESSAGES_PER_ITERATION, PostedPackets, Wire, close_unused},
    },
    metrics::Counter,
};

impl Driver {
    pub(super) fn take_control(&mut self, cx: &mut Context<'_>, now: Instant) {
        // A WebSocket that arrives with these messages has not been read in this iteration.
        let was_upgrading = self.candidate.is_some();
        // Both are read under one lock, so that a poll sent after an upgrade is not answered before
        // its WebSocket has arrived.
        let (control, is_attaching) = {
            let mut queue = self.outbox.lock();
            (queue.take_control(), queue.is_attaching())
        };
        for control in control {
            self.on_control(control, now);
        }
        self.read_posts(cx, now);
        if !was_upgrading {
            self.read_candidate(cx, now);
        }
        // A poll that arrives after the deadline of a pong finds no session.
        self.check_deadlines(now);
        // Polls are handled last, and wait for a WebSocket that was requested before them.
        while !is_attaching && let Some(pending) = self.polls.pop_front() {
            self.on_poll(pending, now);
        }
    }

    fn on_control(&mut self, control: Control, now: Instant) {
        match control {
            Control::Poll(pending) => self.polls.push_back(pending),
            Control::PollAborted { id } => {
                if self.remove_poll(id) {
                    self.fail(POLL_ABORTED, End::Disconnected);
                }
            }
            // The packets were lost with the response.
            Control::PollLost => self.fail(POLL_ABORTED, End::Disconnected),
            Control::Post {
                body,
                is_binary,
                answer,
            } => {
                if let Some(throttle) = &mut self.throttle {
                    throttle.charge_bytes(body.len(), now);
                }
                self.posts.push_back(Post {
                    packets: PostedPackets::new(self.outbox.revision(), body, is_binary),
                    answer,
                });
            }
            Control::Attach {
                stream,
                unread,
                open,
            } => {
                if self.ending.is_none() && self.session.handle_attach(now) {
                    let wire = Wire::new(&stream, unread, &self.engine.config, now);
                    let wire = wire.counted(open);
                    self.candidate = Some(Box::new(Candidate {
                        stream,
                        wire,
                        probed_at: None,
                    }));
                } else {
                    close_unused(&stream, CloseCode::NORMAL);
                }
            }
            Control::Close(reason) => self.end(reason, End::Flush(close_code(reason))),
            Control::Leave(by) => self.leave_by = Some(by),
            Control::Abort(reason) => self.end(reason, End::Disconnected),
        }
    }

    /// Removes a poll whose client aborted the request. Returns `false` if it had already been
    /// answered.
    pub(super) fn remove_poll(&mut self, id: u64) -> bool {
        let arrived = self.polls.len();
        self.polls.retain(|pending| pending.id != id);
        // A client can abort its poll before this task has handled it.
        self.polls.len() < arrived || self.outbox.lock().take_poll_of(id).is_some()
    }

    fn on_poll(&mut self, pending: PendingPoll, now: Instant) {
        if self.transport() == Transport::WebSocket {
            pending.refuse();
        } else if let Some(ending) = &self.ending {
            // Otherwise the request is dropped, and answered like one for an unknown session.
            if ending.is_orderly() {
                self.outbox.lock().store_poll(pending);
            }
        } else if self.has_poll() {
            self.engine.metrics.count(Counter::RejectedOverlap);
            pending.refuse();
            self.fail("overlap from client", End::Disconnected);
        } else {
            self.outbox.lock().store_poll(pending);
            self.release_late_poll(now);
        }
    }

    /// Reads posted packets, per iteration at most as many as from a WebSocket.
    fn read_posts(&mut self, cx: &Context<'_>, now: Instant) {
        let mut left = MESSAGES_PER_ITERATION;
        while let Some(mut post) = self.posts.pop_front() {
            let is_readable = self.ending.is_none() && self.transport() == Transport::Polling;
            let answer = if is_readable {
                self.read_post(&mut post.packets, &mut left, now)
            } else {
                Some(PostAnswer::Refused)
            };
            let Some(answer) = answer else {
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
            // If the client has disconnected, its poll reveals that.
            let _ = post.answer.send(answer);
        }
    }

    /// Returns `None` if there is more to read but the task should yield, or the client has
    /// exceeded its send rate.
    fn read_post(
        &mut self,
        packets: &mut PostedPackets,
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
            // The payload has ended the session, and packets after that are not read. If the client
            // requested the end, the response is `ok`.
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

    /// Returns whether a polling request is waiting.
    pub(super) fn has_poll(&self) -> bool {
        self.outbox.lock().has_poll()
    }

    /// Answers the waiting poll although no packets are queued.
    pub(super) fn release_poll(&mut self) {
        // Queued packets are a better answer than an empty packet.
        self.outbox.flush();
        let pending = self.outbox.lock().take_poll();
        if let Some(pending) = pending {
            // An aborted poll has lost nothing; `PollAborted` follows.
            let _ = pending.answer_noop();
        }
    }
}

/// Returns the close code with which the server closes a WebSocket.
pub(super) fn close_code(reason: CloseReason) -> CloseCode {
    match reason {
        // The client may reconnect, because another server may be available (RFC 6455, 7.4.1).
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

/// Describes an aborted poll, with the wording of the official server.
const POLL_ABORTED: &str = "poll connection closed prematurely";
