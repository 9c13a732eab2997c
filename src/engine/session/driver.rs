//! One task per session: it reads all transports, drives the application, and tracks all deadlines.
//!
//! An iteration reads, handles control messages, checks deadlines, drives handlers and flushes, in
//! that order. Reading comes before control messages: a client may send `2probe`, `5` and a poll
//! without waiting, and that poll must be refused.

use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::{Arc, LazyLock},
    task::{Context, Poll},
    time::Instant,
};

use roomcast_protocol::{
    DecodeError, Frame,
    engine::{Action, CloseReason, Message, Packet, Probe, Session, Source, Transport},
    websocket::{CloseCode, Event},
};
use tokio::sync::oneshot;

use super::{
    application::SessionHandler,
    ending::{End, Ending},
    engine::{Engine, closed_counter},
    polling::close_code,
    timer::SessionTimer,
    upgrade::Candidate,
};
use crate::{
    engine::{
        outbox::{Budget, IterationRemains, Mode, Outbox, PendingPoll, PostAnswer, TimerId},
        primitives::{LogScope, now},
        transport::{
            Flow, PostedPackets, ReadOutcome, Stream, Wire, packet_from_binary, packet_from_text,
            pong,
        },
    },
    limit::{Permit, Rates, Throttle, Violation},
    metrics::{Counter, Timing},
};

/// The task of a session.
pub(in crate::engine) struct Driver {
    pub(super) engine: Arc<Engine>,
    pub(super) outbox: Outbox,
    pub(super) session: Session,
    /// `None` after the application has been notified of the end.
    pub(super) connection: Option<Box<dyn SessionHandler>>,
    /// The receive side of the session's WebSocket, whose stream the outbox has. `None` while the
    /// session polls, and while events are handled.
    pub(super) wire: Option<Wire>,
    /// The WebSocket of an upgrade in progress.
    pub(super) candidate: Option<Box<Candidate>>,
    /// Whether a message has arrived. For most clients the first message is CONNECT.
    pub(super) greeted: bool,
    /// When a later message last arrived. Only an upgrade depends on it.
    pub(super) message_at: Option<Instant>,
    /// Payloads that are not completely read. A second payload only occurs after the session has
    /// ended.
    pub(super) posts: VecDeque<Post>,
    /// Polling requests that have arrived but are not yet handled.
    pub(super) polls: VecDeque<PendingPoll>,
    pub(super) ending: Option<Box<Ending>>,
    /// The deadline for ending the session when draining. It ends earlier if nothing is in flight
    /// for the client.
    pub(super) leave_by: Option<Instant>,
    /// The limit on the client's send rate, if there is one.
    pub(super) throttle: Option<Box<Throttle>>,
    /// The permit of this session, returned when the driver is dropped.
    permit: Option<Box<Permit>>,
    /// The session's entry in the timer wheel, while the wheel sends its pings.
    pub(super) heartbeat: Option<TimerId>,
    timer: SessionTimer,
}

/// A payload that the client posted.
pub(super) struct Post {
    pub(super) packets: PostedPackets,
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
            timeout: engine.config.session.throttle_timeout,
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
            message_at: None,
            posts: VecDeque::new(),
            polls: VecDeque::new(),
            ending: None,
            leave_by: None,
        };
        driver.register_heartbeat();
        driver
    }

    /// Lets the timer wheel send the pings of a WebSocket session. While a pong is awaited, the
    /// driver tracks its deadline, and nothing is handed over.
    pub(super) fn register_heartbeat(&mut self) {
        if self.heartbeat.is_none()
            && let Some(at) = self.session.next_ping()
            && self.transport() == Transport::WebSocket
        {
            self.heartbeat = self.outbox.heartbeats().add(&self.outbox, at);
        }
    }

    /// Runs until the session has ended and its transports are closed.
    pub(in crate::engine) async fn run(mut self) {
        poll_fn(|cx| {
            let source = self.connection.as_ref();
            let source = source.and_then(|connection| connection.log_source());
            let _scope = source.map(LogScope::enter);
            match self.engine.stalls.poll_held(cx) {
                None => self.iterate(cx),
                Some(held) => {
                    if let Some(connection) = &mut self.connection {
                        connection.poll_started(cx);
                    }
                    held
                }
            }
        })
        .await;
    }

    fn iterate(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        let now = now();
        if let Some(throttle) = &mut self.throttle {
            throttle.handle_timeout(now);
        }
        if self.ending.is_none() {
            self.live(cx, now);
        }
        if let Some(mut ending) = self.ending.take() {
            // Data that is still read is not handled, and the end has a deadline of its own.
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
        let state = self.outbox.begin_iteration();
        if let Some(reason) = state.closed {
            self.lost(reason);
        }
        if state.drained
            && let Some(connection) = &mut self.connection
        {
            connection.drained();
        }
        if let Some(stream) = &state.stream {
            if state.blocked {
                // If there is room, the flush at the end of this iteration tries again.
                let _ = self.wait_writable(stream, cx);
            }
            self.read(stream, cx, now);
        }
        self.read_candidate(cx, now);
        if state.has_control || !self.posts.is_empty() || !self.polls.is_empty() {
            self.take_control(cx, now);
        } else {
            self.check_deadlines(now);
        }
        self.run_handlers(cx);
        self.leave(now);
        match &state.stream {
            Some(stream) => self.outbox.flush_to(stream),
            // The session polls, or its WebSocket was attached during this iteration.
            None => self.outbox.flush(),
        };
    }

    /// Ends the session after its outbox was closed elsewhere, because of a full queue or a broken
    /// pipe.
    fn lost(&mut self, reason: CloseReason) {
        let (exceeded, is_superseded) = {
            let queue = self.outbox.lock();
            (queue.exceeded(), queue.is_superseded())
        };
        if is_superseded {
            self.end(reason, End::Flush(CloseCode::NORMAL));
            // The old client is most likely disconnected, so this waits briefly instead of
            // `close_timeout`.
            if let Some(ending) = &mut self.ending {
                ending.hurry(now());
            }
            return;
        }
        let Some(budget) = exceeded else {
            return self.end(reason, End::Disconnected);
        };
        // The client does not read what is queued, so only a close frame is still attempted.
        self.outbox.drop_queued();
        self.engine.metrics.count(match budget {
            Budget::Connection => Counter::SlowClientsDisconnected,
            Budget::Total => Counter::SlowClientsDisconnectedForAll,
        });
        let description = budget.description();
        crate::throttled_log!(info, session = ?self.outbox.sid(), description, "session closed: the client receives too slowly");
        self.describe_end(description);
        self.end(reason, End::Flush(CloseCode::POLICY_VIOLATION));
    }

    /// Registers the task to be woken when the kernel accepts bytes again.
    pub(super) fn wait_writable(&self, stream: &Stream, cx: &mut Context<'_>) -> Poll<()> {
        let ready = stream.poll_write_ready(cx).is_ready();
        self.outbox.set_writable(ready);
        if ready {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    }

    fn read(&mut self, stream: &Stream, cx: &mut Context<'_>, now: Instant) {
        // The wire is taken out of the driver while it is read, because its events modify the
        // driver.
        let Some(mut wire) = self.wire.take() else {
            return;
        };
        let outcome = if self.ending.is_some() {
            ReadOutcome::Pending
        } else {
            let mut throttle = self.throttle.take();
            let outcome = wire.read(stream, cx, now, throttle.as_deref_mut(), |wire, event| {
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
            ReadOutcome::Disconnected => self.end(CloseReason::TransportClose, End::Disconnected),
            ReadOutcome::Broken(error) => {
                self.engine.metrics.count(Counter::FrameErrors);
                tracing::debug!(session = ?self.outbox.sid(), %error, "a frame cannot be decoded");
                let end = End::Flush(error.close_code());
                self.fail("invalid frame", end);
            }
        }
    }

    /// Handles a client that has exceeded its send rate.
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
        crate::throttled_log!(info, session = ?self.outbox.sid(), "session closed: the client sends too fast");
        let end = self.fault(CloseCode::POLICY_VIOLATION);
        self.end(CloseReason::TransportError, end);
    }

    /// Returns whether reading is paused.
    pub(super) fn is_delayed(&self) -> bool {
        self.throttle.as_deref().is_some_and(Throttle::is_delayed)
    }

    fn on_event(&mut self, wire: &mut Wire, event: Event, now: Instant) -> Flow {
        match event {
            Event::Text(text) => {
                self.on_decoded(packet_from_text(self.outbox.revision(), text), now);
            }
            Event::Binary(data) => {
                self.on_decoded(packet_from_binary(self.outbox.revision(), data), now);
            }
            Event::Ping(payload) => {
                if wire.allow_ping(now) {
                    self.outbox.lock().set_pong(pong(&payload));
                } else {
                    self.fail("too many pings", End::Flush(CloseCode::POLICY_VIOLATION));
                }
            }
            // The server sends no WebSocket pings. The pongs that count are Engine.IO packets.
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

    fn on_decoded(&mut self, packet: Result<Packet, DecodeError>, now: Instant) {
        match packet {
            Ok(packet) => self.on_packet(packet, now),
            Err(error) => self.bad_packet(error),
        }
    }

    pub(super) fn bad_packet(&mut self, error: DecodeError) {
        self.engine.metrics.count(Counter::EnginePacketErrors);
        tracing::debug!(session = ?self.outbox.sid(), %error, "a packet cannot be decoded");
        self.end(CloseReason::ParseError, self.fault(CloseCode::NORMAL));
    }

    pub(super) fn on_packet(&mut self, packet: Packet, now: Instant) {
        let is_pong = matches!(packet, Packet::Pong(_));
        if is_pong {
            let next_ping = now + self.engine.config.session.ping_interval;
            if let Some(sent) = self.outbox.confirm(next_ping) {
                let took = now.saturating_duration_since(sent);
                self.engine.metrics.time(Timing::Ping, took);
                // The wheel sent the ping; this informs the state machine that it was due. The
                // state machine replies with a ping, which has already been sent.
                let _ = self.session.handle_timeout(sent);
            }
        }
        match self.session.handle_packet(now, Source::Current, packet) {
            Action::None if is_pong => {
                self.register_heartbeat();
                if let Some(connection) = &mut self.connection {
                    connection.heartbeat();
                }
            }
            Action::None | Action::DropCandidate | Action::Switch => {}
            Action::Deliver(message) => self.deliver(message, now),
            // A client of revision 3 has sent a ping. A client that sends pings and does not read
            // the answers exceeds its budget, like any other slow client.
            Action::Reply(_) => {
                let _ = self.outbox.push(&PONG, Mode::Reliable);
                if let Some(connection) = &mut self.connection {
                    connection.heartbeat();
                }
            }
            Action::Close(CloseReason::TransportClose) => {
                self.end(CloseReason::TransportClose, End::Answered);
            }
            Action::Close(reason) => self.end(reason, self.fault(CloseCode::NORMAL)),
        }
    }

    /// Returns how a session ends after a protocol violation: with this code on a WebSocket,
    /// immediately while polling.
    fn fault(&self, code: CloseCode) -> End {
        match self.transport() {
            Transport::WebSocket => End::Flush(code),
            Transport::Polling => End::Disconnected,
        }
    }

    fn deliver(&mut self, message: Message, now: Instant) {
        let metrics = &self.engine.metrics;
        metrics.count(Counter::MessagesReceived);
        metrics.add(Counter::BytesReceived, message.len() as u64);
        if std::mem::replace(&mut self.greeted, true) {
            self.message_at = Some(now);
        }
        if let Some(connection) = &mut self.connection
            && let Err(reason) = connection.message(message, now)
        {
            self.end(reason, End::Flush(CloseCode::NORMAL));
        }
    }

    fn run_handlers(&mut self, cx: &mut Context<'_>) {
        if let Some(connection) = &mut self.connection
            && let Poll::Ready(reason) = connection.poll(cx)
        {
            self.end(reason, End::Flush(CloseCode::NORMAL));
        }
    }

    /// Ends a session that is being drained, unless something is in flight for its client.
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

    /// Ends the session: its outbox accepts no more frames, and the application is notified.
    /// [`Ending`] closes the transports.
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
        // The outbox is sealed before the application is notified, so that nothing it sends then is
        // queued.
        self.outbox.lock().seal(reason);
        // A client whose probe was answered no longer polls, so it must be notified on its
        // WebSocket.
        let is_switching = self.session.is_probed() && matches!(end, End::Flush(_));
        if !is_switching {
            self.session.close(reason);
            if let Some(candidate) = self.candidate.take() {
                self.drop_candidate(&candidate, CloseCode::NORMAL);
            }
        }
        let is_over = match end {
            End::Answered => true,
            // A WebSocket is closed in this iteration, which removes the session.
            End::Disconnected => self.transport() == Transport::Polling,
            End::Flush(_) | End::Closed(_) => false,
        };
        if is_over {
            // The next request of this client finds no session.
            self.engine.sessions.remove(self.outbox.sid());
        }
        let now = now();
        let deadline = now + self.engine.config.session.close_timeout;
        self.ending = Some(Box::new(Ending::new(end, now, deadline)));
        if let Some(connection) = self.connection.take() {
            self.engine.metrics.count(closed_counter(reason));
            connection.close(reason);
        }
    }

    /// Ends the session because of a fault of its transport, and passes its description to the
    /// application.
    pub(super) fn fail(&mut self, description: &'static str, end: End) {
        self.describe_end(description);
        self.end(CloseReason::TransportError, end);
    }

    fn describe_end(&mut self, description: &'static str) {
        if let Some(connection) = &mut self.connection {
            connection.describe(description);
        }
    }

    /// Ends the iteration, or schedules another one if something has arrived.
    fn park(&self, cx: &Context<'_>) {
        let rest = IterationRemains {
            is_ending: self.ending.is_some(),
            has_polls: !self.polls.is_empty(),
            has_posts: !self.posts.is_empty() && !self.is_delayed(),
            takes_polls: self.candidate.is_none() && self.ending.is_none() && self.polls.is_empty(),
        };
        self.outbox.end_iteration(cx, &rest);
    }

    /// Returns the transport of the session, also while it is closing.
    pub(super) fn transport(&self) -> Transport {
        self.outbox.transport()
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        // A driver is dropped when its session has ended, when the runtime stops, or when its task
        // panics. The outbox is detached first: until the session is removed from the table,
        // requests that find it are refused. The stream is dropped last: a client whose connection
        // is closed no longer has a session.
        let transport = self.transport();
        let _stream = self.outbox.detach();
        if let Some(timer) = self.heartbeat.take() {
            self.outbox.heartbeats().remove(timer);
        }
        self.engine.forget(&self.outbox, transport);
        if let Some(connection) = self.connection.take() {
            let reason = CloseReason::TransportError;
            self.engine.metrics.count(closed_counter(reason));
            connection.close(reason);
        }
    }
}

/// The answer to a ping of a client, in revision 3.
static PONG: LazyLock<Frame> = LazyLock::new(|| Frame::packet(&Packet::Pong(Probe::None)));
