//! One task per session: it reads all transports, drives the application, and keeps all deadlines.
//!
//! A turn reads, takes control messages, looks at deadlines, drives handlers and flushes,
//! in that order. Reading comes before control because a client may send `2probe`, `5`
//! and a poll without waiting, and that poll must be refused.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
    time::Instant,
};

use roomcast_protocol::{
    DecodeError, Frame,
    engine::{Action, CloseReason, Message, Packet, Probe, Session, Source, Transport, payload},
    websocket::{CloseCode, Event},
};
use tokio::sync::oneshot;

use super::{
    application::SessionHandler,
    ending::{End, Ending},
    engine::{Engine, closed_counter},
    polling::close_code,
    timer::SessionTimer,
};
use crate::{
    engine::{
        outbox::{Budget, Outbox, PendingPoll, PostAnswer, Rest, TimerId},
        primitives::now,
        transport::{Flow, ReadOutcome, Wire, pong},
    },
    limit::{Permit, Rates, Throttle, Violation},
    metrics::{Counter, Timing},
};

/// The task of a session.
pub(in crate::engine) struct Driver {
    pub(super) engine: Arc<Engine>,
    pub(super) outbox: Outbox,
    pub(super) session: Session,
    /// `None` once the application has been told of the end.
    pub(super) connection: Option<Box<dyn SessionHandler>>,
    /// The WebSocket that carries the session; `None` while it polls.
    pub(super) wire: Option<Wire>,
    /// The WebSocket of an upgrade that is under way.
    pub(super) candidate: Option<Box<Candidate>>,
    /// Whether a message has come. The first one is CONNECT for most clients.
    pub(super) greeted: bool,
    /// When another message came, as long as the client polls.
    pub(super) asked_at: Option<Instant>,
    /// Payloads that are not read to their end. A second one comes only when a session has ended.
    pub(super) posts: VecDeque<Post>,
    /// Polling requests that have come in and not been looked at.
    pub(super) polls: VecDeque<PendingPoll>,
    pub(super) ending: Option<Box<Ending>>,
    /// By when the session ends. It ends as soon as nothing is under way for its client.
    pub(super) leave_by: Option<Instant>,
    /// How fast the client may send, if that is limited.
    pub(super) throttle: Option<Box<Throttle>>,
    /// The permit of this session, which is given back when the driver is dropped.
    permit: Option<Box<Permit>>,
    /// Where the session lies among those whose pings are sent for them, if it does.
    heartbeat: Option<TimerId>,
    timer: SessionTimer,
}

/// The WebSocket of an upgrade that is under way.
pub(super) struct Candidate {
    pub(super) wire: Wire,
    /// When its probe was answered.
    pub(super) probed_at: Option<Instant>,
}

impl Candidate {
    pub(super) fn new(wire: Wire) -> Self {
        Self {
            wire,
            probed_at: None,
        }
    }
}

/// A payload that a client has posted.
pub(super) struct Post {
    pub(super) packets: payload::Packets,
    pub(super) answer: oneshot::Sender<PostAnswer>,
}

impl Driver {
    pub(super) fn new(
        engine: Arc<Engine>,
        outbox: Outbox,
        session: Session,
        connection: Box<dyn SessionHandler>,
        wire: Option<Wire>,
        permit: Option<Box<Permit>>,
    ) -> Self {
        let rates = Rates {
            packets: engine.config.session.packets_per_second,
            bytes: engine.config.session.bytes_per_second,
            patience: engine.config.session.throttle_timeout,
        };
        let mut driver = Self {
            throttle: Throttle::new(rates, now()),
            permit,
            heartbeat: None,
            timer: SessionTimer::default(),
            engine,
            outbox,
            session,
            connection: Some(connection),
            wire,
            candidate: None,
            greeted: false,
            asked_at: None,
            posts: VecDeque::new(),
            polls: VecDeque::new(),
            ending: None,
            leave_by: None,
        };
        driver.hand_heartbeat_over();
        driver
    }

    /// Hands the pings of a session with a WebSocket over to the wheel. As long as a pong is
    /// awaited the driver keeps its deadline, and nothing is handed over.
    pub(super) fn hand_heartbeat_over(&mut self) {
        if self.heartbeat.is_none()
            && self.wire.is_some()
            && let Some(at) = self.session.next_ping()
        {
            self.heartbeat = self.outbox.heartbeats().add(&self.outbox, at);
        }
    }

    /// Runs until the session is over and its transports are closed.
    pub(in crate::engine) async fn run(mut self) {
        poll_fn(|cx| self.turn(cx)).await;
    }

    fn turn(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = now();
        if let Some(throttle) = &mut self.throttle {
            throttle.handle_timeout(now);
        }
        if self.ending.is_none() {
            self.live(cx, now);
        }
        if let Some(mut ending) = self.ending.take() {
            // What is still read is not handled, and the end has a deadline of its own.
            self.throttle = None;
            if ending.poll(self, cx, now).is_ready() {
                return Poll::Ready(());
            }
            self.ending = Some(ending);
        }
        let next = self.next_deadline();
        self.timer.set(cx, now, next);
        self.park(cx);
        Poll::Pending
    }

    fn live(&mut self, cx: &mut Context<'_>, now: Instant) {
        let state = self.outbox.begin_turn();
        if let Some(reason) = state.closed {
            self.lost(reason);
        }
        if state.drained
            && let Some(connection) = &mut self.connection
        {
            connection.drained();
        }
        if state.blocked {
            // The flush at the end of this turn tries again if there is room.
            let _ = self.wait_writable(cx);
        }
        self.read(cx, now);
        self.read_candidate(cx, now);
        if state.has_control || !self.posts.is_empty() || !self.polls.is_empty() {
            self.take_control(cx, now);
        } else {
            self.look_at_deadlines(now);
        }
        self.run_handlers(cx);
        self.leave(now);
        self.outbox.flush();
    }

    /// The outbox was closed by somebody else: a full queue or a broken pipe.
    fn lost(&mut self, reason: CloseReason) {
        let (exceeded, is_superseded) = {
            let mut queue = self.outbox.lock();
            let exceeded = queue.exceeded();
            if exceeded.is_some() {
                // What waits is what the client does not take, so only its farewell is still tried.
                queue.forget_unsent(self.outbox.memory());
            }
            (exceeded, queue.is_superseded())
        };
        let Some(budget) = exceeded else {
            if is_superseded {
                self.end(reason, End::Flush(CloseCode::NORMAL));
                // Most likely nobody is there any more, so this takes a moment and not `close_timeout`.
                if let Some(ending) = &mut self.ending {
                    ending.hurry(now());
                }
            } else {
                self.end(reason, End::Gone);
            }
            return;
        };
        self.engine.metrics.count(match budget {
            Budget::Connection => Counter::SlowClientsCut,
            Budget::Total => Counter::SlowClientsCutForAll,
        });
        let description = budget.description();
        crate::throttled_log!(info, session = ?self.outbox.sid(), description, "closed: it does not keep up");
        self.end_because(description, reason, End::Flush(CloseCode::POLICY_VIOLATION));
    }

    /// Asks to be woken when the kernel takes bytes again.
    pub(super) fn wait_writable(&self, cx: &mut Context<'_>) -> Poll<()> {
        let Some(wire) = &self.wire else {
            return Poll::Pending;
        };
        let ready = wire.stream.poll_write_ready(cx).is_ready();
        self.outbox.set_writable(ready);
        if ready {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn read(&mut self, cx: &mut Context<'_>, now: Instant) {
        // The wire is out of the driver while it is read, because what it brings changes the
        // driver.
        let Some(mut wire) = self.wire.take() else {
            return;
        };
        let outcome = if self.ending.is_some() {
            ReadOutcome::Pending
        } else {
            let mut throttle = self.throttle.take();
            let outcome = wire.read(cx, now, throttle.as_deref_mut(), |wire, event| {
                self.on_event(wire, event, now)
            });
            self.throttle = throttle;
            outcome
        };
        self.wire = Some(wire);
        if self.ending.is_some() {
            return;
        }
        match outcome {
            ReadOutcome::Pending => {}
            ReadOutcome::Yield => cx.waker().wake_by_ref(),
            ReadOutcome::Delayed => self.delayed(now),
            ReadOutcome::Gone => self.end(CloseReason::TransportClose, End::Gone),
            ReadOutcome::Broken(error) => {
                self.engine.metrics.count(Counter::FrameErrors);
                tracing::debug!(session = ?self.outbox.sid(), %error, "a frame cannot be decoded");
                let end = End::Flush(error.close_code());
                self.end_because("invalid frame", CloseReason::TransportError, end);
            }
        }
    }

    /// The client has sent more than it may for now.
    pub(super) fn delayed(&mut self, now: Instant) {
        self.engine.metrics.count(Counter::ReadsDelayed);
        let is_exhausted = |throttle: &Throttle| throttle.is_exhausted(now);
        if !self.throttle.as_deref().is_some_and(is_exhausted) {
            return;
        }
        match &self.permit {
            Some(permit) => permit.violation(Violation::Flood),
            None => self.engine.metrics.count(Counter::ViolationsFlood),
        }
        crate::throttled_log!(info, session = ?self.outbox.sid(), "closed: it sends too fast");
        let end = match self.session.transport() {
            Transport::WebSocket => End::Flush(CloseCode::POLICY_VIOLATION),
            Transport::Polling => End::Gone,
        };
        self.end(CloseReason::TransportError, end);
    }

    /// Whether reading must wait.
    pub(super) fn is_delayed(&self) -> bool {
        self.throttle.as_deref().is_some_and(Throttle::is_delayed)
    }

    fn on_event(&mut self, wire: &mut Wire, event: Event, now: Instant) -> Flow {
        match event {
            Event::Text(text) => match Packet::decode_text(text) {
                Ok(packet) => self.on_packet(packet, now),
                Err(error) => self.bad_packet(error),
            },
            Event::Binary(bytes) => self.on_packet(Packet::decode_binary(bytes), now),
            Event::Ping(payload) => {
                if wire.allow_ping(now) {
                    self.outbox.pong(pong(&payload));
                } else {
                    self.end_because(
                        "too many pings",
                        CloseReason::TransportError,
                        End::Flush(CloseCode::POLICY_VIOLATION),
                    );
                }
            }
            // Nobody here sends WebSocket pings. The pongs that count are packets of Engine.IO.
            Event::Pong(_) => {}
            Event::Close(frame) => {
                let code = frame.map(|frame| frame.code);
                self.end(CloseReason::TransportClose, End::Closed(code));
            }
        }
        match self.ending {
            None => Flow::Continue,
            Some(_) => Flow::Stop,
        }
    }

    pub(super) fn bad_packet(&mut self, error: DecodeError) {
        self.engine.metrics.count(Counter::EnginePacketErrors);
        tracing::debug!(session = ?self.outbox.sid(), %error, "a packet cannot be decoded");
        self.end(CloseReason::ParseError, self.fault());
    }

    pub(super) fn on_packet(&mut self, packet: Packet, now: Instant) {
        let is_pong = matches!(packet, Packet::Pong(_));
        if is_pong {
            let next_ping = now + self.engine.config.session.ping_interval;
            if let Some(sent) = self.outbox.confirm(next_ping) {
                let took = now.saturating_duration_since(sent);
                self.engine.metrics.time(Timing::Ping, took);
                // The wheel has sent the ping, and the state machine learns only now that it was
                // due. What it answers, a ping, has left already.
                let _ = self.session.handle_timeout(sent);
            }
        }
        match self.session.handle_packet(now, Source::Current, packet) {
            Action::None if is_pong => {
                self.hand_heartbeat_over();
                if let Some(connection) = &mut self.connection {
                    connection.heartbeat();
                }
            }
            Action::None | Action::DropCandidate | Action::Switch => {}
            Action::Deliver(message) => self.deliver(message, now),
            Action::Reply(packet) => self.outbox.push_control(Frame::packet(&packet)),
            Action::Close(CloseReason::TransportClose) => {
                self.end(CloseReason::TransportClose, End::Answered);
            }
            Action::Close(reason) => self.end(reason, self.fault()),
        }
    }

    /// How a session ends whose client broke the protocol: told so on a WebSocket, at once
    /// while it polls.
    fn fault(&self) -> End {
        match self.session.transport() {
            Transport::WebSocket => End::Flush(CloseCode::NORMAL),
            Transport::Polling => End::Gone,
        }
    }

    fn deliver(&mut self, message: Message, now: Instant) {
        let metrics = &self.engine.metrics;
        metrics.count(Counter::MessagesReceived);
        metrics.add(Counter::BytesReceived, message.len() as u64);
        if self.wire.is_none() && std::mem::replace(&mut self.greeted, true) {
            self.asked_at = Some(now);
        }
        let Some(connection) = &mut self.connection else {
            return;
        };
        if let Err(reason) = connection.message(message, now) {
            self.end(reason, End::Flush(CloseCode::NORMAL));
        }
    }

    fn run_handlers(&mut self, cx: &mut Context<'_>) {
        if self.ending.is_some() {
            return;
        }
        let Some(connection) = &mut self.connection else {
            return;
        };
        if let Poll::Ready(reason) = connection.poll(cx) {
            self.end(reason, End::Flush(CloseCode::NORMAL));
        }
    }

    /// Ends a session that is to leave, unless something is under way for its client.
    fn leave(&mut self, now: Instant) {
        let Some(by) = self.leave_by else {
            return;
        };
        let is_busy = |connection: &dyn SessionHandler| connection.is_busy();
        if by <= now || !self.connection.as_deref().is_some_and(is_busy) {
            let reason = CloseReason::ServerShutdown;
            self.end(reason, End::Flush(close_code(reason)));
        }
    }

    pub(super) fn look_at_deadlines(&mut self, now: Instant) {
        // Several things may be due at once. Each answer moves a deadline or ends something, so there
        // is an end to them.
        while self.ending.is_none()
            && let Some(at) = self.due(now)
        {
            match self.session.handle_timeout(at) {
                Action::None => break,
                // The wheel has sent this ping already.
                Action::Reply(_) if self.heartbeat.is_some() => {}
                Action::Reply(_) => self.outbox.push_ping(PING.clone()),
                Action::DropCandidate => {
                    if let Some(candidate) = self.candidate.take() {
                        self.drop_candidate(&candidate, CloseCode::NORMAL);
                    }
                }
                Action::Close(reason) => self.end(reason, End::Gone),
                Action::Deliver(_) | Action::Switch => {}
            }
        }
        self.release_late_poll(now);
        let late = |wire: &Wire| wire.poll_timeout().is_some_and(|at| at <= now);
        if self.ending.is_none() && self.wire.as_ref().is_some_and(late) {
            self.end_because(
                "a message takes too long",
                CloseReason::TransportError,
                End::Flush(CloseCode::POLICY_VIOLATION),
            );
        }
        let Some(connection) = &mut self.connection else {
            return;
        };
        if connection.poll_timeout().is_some_and(|at| at <= now)
            && let Err(reason) = connection.handle_timeout(now)
        {
            self.end(reason, End::Flush(CloseCode::NORMAL));
        }
    }

    /// The time of something that the session is to be told, if there is something: now, or when a ping
    /// was sent for it.
    fn due(&self, now: Instant) -> Option<Instant> {
        self.session.poll_timeout().filter(|at| *at <= now)?;
        if self.heartbeat.is_some() && self.session.next_ping().is_some() {
            return self.outbox.pinged_at();
        }
        Some(now)
    }

    /// Ends the session: from here on it takes no frames, and the application knows. The
    /// transports are closed by [`Ending`].
    pub(super) fn end(&mut self, reason: CloseReason, end: End) {
        if self.ending.is_some() {
            return;
        }
        tracing::debug!(
            session = ?self.outbox.sid(),
            transport = %self.transport(),
            %reason,
            "session ends"
        );
        // The outbox is sealed before the application hears of the end: nothing that it sends then
        // comes behind what is queued.
        self.outbox.lock().seal(reason);
        // A client whose probe was answered polls no more: it must be told on its WebSocket.
        let is_switching = self.session.is_probed() && matches!(end, End::Flush(_));
        if !is_switching {
            self.session.close(reason);
            if let Some(candidate) = self.candidate.take() {
                self.drop_candidate(&candidate, CloseCode::NORMAL);
            }
        }
        if self.wire.is_none() && matches!(end, End::Gone | End::Answered) {
            // The next request of this client finds no session.
            self.engine.sessions.remove(self.outbox.sid());
        }
        let now = now();
        let deadline = now + self.engine.config.session.close_timeout;
        self.ending = Some(Box::new(Ending::new(reason, end, now, deadline)));
        if let Some(connection) = self.connection.take() {
            self.engine.metrics.count(closed_counter(reason));
            connection.close(reason);
        }
    }

    /// Ends the session because of a fault, with a description of it.
    pub(super) fn end_because(&mut self, description: &'static str, reason: CloseReason, end: End) {
        if self.ending.is_none()
            && let Some(connection) = &mut self.connection
        {
            connection.describe(description);
        }
        self.end(reason, end);
    }

    /// The earliest deadline. Pings that are sent for the session have none, nor have their pongs.
    fn next_deadline(&self) -> Option<Instant> {
        if let Some(ending) = &self.ending {
            return Some(ending.deadline());
        }
        let heartbeat = match self.heartbeat {
            Some(_) => None,
            None => self.session.poll_timeout(),
        };
        let connection = self.connection.as_deref();
        [
            heartbeat,
            self.wire.as_ref().and_then(Wire::poll_timeout),
            self.throttle.as_deref().and_then(Throttle::poll_timeout),
            self.release_at(),
            self.leave_by,
            connection.and_then(SessionHandler::poll_timeout),
        ]
        .into_iter()
        .flatten()
        .min()
    }

    /// Ends the turn. If something has come in meanwhile there is another one.
    fn park(&self, cx: &Context<'_>) {
        let rest = Rest {
            is_ending: self.ending.is_some(),
            has_polls: !self.polls.is_empty(),
            has_posts: !self.posts.is_empty() && !self.is_delayed(),
            has_wire: self.wire.is_some(),
            takes_polls: self.wire.is_none()
                && self.candidate.is_none()
                && self.ending.is_none()
                && self.polls.is_empty(),
        };
        self.outbox.end_turn(cx, &rest);
    }

    /// The transport a closing session still has.
    pub(super) fn transport(&self) -> Transport {
        self.session.transport()
    }
}

impl std::fmt::Debug for Driver {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Driver")
            .field("sid", &self.outbox.sid())
            .finish_non_exhaustive()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A driver is dropped when its session is over, when the runtime stops, and should
        // something panic in its turn. The outbox is detached first: until the session has left the
        // table, whoever finds it is told that it is gone.
        self.outbox.detach();
        if let Some(timer) = self.heartbeat.take() {
            self.outbox.heartbeats().remove(timer);
        }
        self.engine.forget(&self.outbox, self.transport());
        if let Some(connection) = self.connection.take() {
            let reason = CloseReason::TransportError;
            self.engine.metrics.count(closed_counter(reason));
            connection.close(reason);
        }
    }
}

/// The ping, which is all that a session says by itself because of the time.
static PING: LazyLock<Frame> = LazyLock::new(|| Frame::packet(&Packet::Ping(Probe::None)));
