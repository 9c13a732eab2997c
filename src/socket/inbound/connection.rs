//! One client: its packets in, the sockets they are for, the handlers that wait.
//!
//! A [`Connection`] belongs to the task of its Engine.IO session, so nothing in it is locked. What
//! its sockets must reach from elsewhere is [`Shared`].

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use futures_util::{StreamExt as _, stream::FuturesUnordered};
use roomcast_protocol::{
    DecodeError,
    engine::{CloseReason, Message},
    socket::{Decoder, Kind, Limits, Nsp, Packet, Parser},
};

use super::lanes::{Checked, Held, Parked};
use crate::{
    engine::{Application, Handshake, Outbox, SessionHandler},
    metrics::Counter,
    socket::{
        connect::{Admission, Entrance, Validity},
        core::{ConnEvent, Connect, Incoming, Io, Lifecycle, Shared, Socket},
        dispatch::Running,
        words::{DisconnectReason, Refusal, SocketId},
    },
};

/// The state of one session.
pub(crate) struct Connection {
    pub(super) io: Io,
    pub(super) shared: Arc<Shared>,
    decoder: Decoder,
    pub(super) seats: Vec<Seat>,
    /// Made for the first that waits, dropped with the last.
    jobs: Option<FuturesUnordered<Job>>,
    /// Handlers and checks among the jobs.
    pub(super) running: usize,
    /// Checks among the jobs, at most one for each socket.
    pub(super) checking: usize,
    /// Events for which there was no room among the running; in the order they came.
    pub(super) parked: VecDeque<Parked>,
    /// Of all parked events, those in lanes included.
    pub(super) parked_events: usize,
    pub(super) parked_bytes: usize,
    /// By when a first namespace must be joined.
    pub(super) connect_by: Option<Instant>,
    /// By when the attachments of a packet must be there.
    attach_by: Option<Instant>,
    /// Why it ends, if that is more than the engine knows.
    reason: Option<DisconnectReason>,
    /// More about the reason, if the engine knows more.
    description: Option<&'static str>,
}

/// A namespace that the client is in, or wants into.
pub(super) struct Seat {
    pub(super) nsp: Nsp,
    pub(super) place: Place,
}

pub(super) enum Place {
    /// Somebody is being asked.
    Waiting,
    /// There is, or was, a socket. One that the server has disconnected keeps its seat: the client
    /// may send to it until it knows.
    Taken {
        socket: Socket,
        /// Events to be handled serially that wait for the one at work; `None`: none is.
        lane: Option<VecDeque<Parked>>,
        /// Events that wait for one before them to be checked; `None`: none is.
        held: Option<Box<Held>>,
        /// Until when the principal is good.
        validity: Validity,
    },
}

/// Something that waits inside the connection's task.
pub(super) enum Job {
    Handler(Running),
    /// Taken when it is ready.
    Check(Option<Box<Checked>>),
    Admission(Admission),
}

pub(super) enum Done {
    Handler(Option<SocketId>),
    Check(Box<Checked>, Result<Incoming, Refusal>),
    Admission(Connect, Entrance),
}

impl Future for Job {
    type Output = Done;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done> {
        match self.get_mut() {
            Self::Handler(running) => Pin::new(running).poll(cx).map(Done::Handler),
            Self::Check(check) => {
                let Some(checked) = check else {
                    return Poll::Pending;
                };
                let verdict = std::task::ready!(Pin::new(&mut **checked).poll(cx));
                let Some(checked) = check.take() else {
                    return Poll::Pending;
                };
                Poll::Ready(Done::Check(checked, verdict))
            }
            Self::Admission(admission) => admission
                .poll(cx)
                .map(|(connect, entrance)| Done::Admission(connect, entrance)),
        }
    }
}

impl Application for Io {
    fn open(
        &self,
        session: Outbox,
        handshake: Arc<Handshake>,
        now: Instant,
    ) -> Box<dyn SessionHandler> {
        Box::new(Connection::new(self, session, handshake, now))
    }
}

impl SessionHandler for Connection {
    fn message(&mut self, message: Message, now: Instant) -> Result<(), CloseReason> {
        let result = self.receive(message, now);
        self.renew();
        result
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.run_jobs(cx);
        self.renew();
        Poll::Pending
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let expiries = self.seats.iter().filter_map(|seat| match seat.place {
            Place::Taken { ref validity, .. } => validity.poll_timeout(),
            Place::Waiting => None,
        });
        expiries.chain(self.connect_by).chain(self.attach_by).min()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), CloseReason> {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if is_due(self.connect_by) {
            return Err(self.misplaced());
        }
        if is_due(self.attach_by) {
            return Err(self.undecodable(DecodeError::IllegalAttachments));
        }
        for seat in &mut self.seats {
            if let Place::Taken {
                socket, validity, ..
            } = &mut seat.place
            {
                validity.handle_timeout(socket, now);
            }
        }
        Ok(())
    }

    fn upgraded(&mut self) {
        let handshake = self.shared.handshake();
        self.io.tell(&Lifecycle::Upgraded { handshake });
        let transport = self.shared.outbox.transport();
        self.tell(&ConnEvent::Upgrade { transport });
    }

    fn heartbeat(&mut self) {
        self.tell(&ConnEvent::Heartbeat);
    }

    fn is_busy(&self) -> bool {
        let is_asked = |seat: &Seat| match &seat.place {
            Place::Taken { socket, .. } => socket.acks().is_pending(),
            Place::Waiting => false,
        };
        self.jobs.is_some() || self.seats.iter().any(is_asked)
    }

    fn drained(&mut self) {
        if self.shared.watchers().is_some() {
            let _ = self.shared.outbox.watch_drain();
            self.tell(&ConnEvent::Drain);
        }
        self.shared.release();
    }

    fn describe(&mut self, description: &'static str) {
        self.description = Some(description);
    }

    fn close(mut self: Box<Self>, reason: CloseReason) {
        if reason == CloseReason::Overflow {
            let handshake = self.shared.handshake();
            self.io.tell(&Lifecycle::SlowClient { handshake });
        }
        let reason = *self.reason.get_or_insert_with(|| reason.into());
        let description = self.description;
        self.tell(&ConnEvent::Close {
            reason,
            description,
        });
    }
}

impl Connection {
    pub(super) fn new(io: &Io, session: Outbox, handshake: Arc<Handshake>, now: Instant) -> Self {
        io.keep_runtime();
        let config = io.config();
        Self {
            io: io.clone(),
            shared: Arc::new(Shared::new(session, handshake)),
            decoder: Decoder::with_parser(
                config.sockets.parser,
                Limits {
                    max_attachments: config.sockets.max_attachments,
                    max_bytes: config
                        .session
                        .max_payload
                        .saturating_mul(config.sockets.max_attachments.max(1)),
                    // Judged when it is known who is asked.
                    max_connect_payload: config.session.max_payload,
                    ..Limits::default()
                },
            ),
            seats: Vec::new(),
            jobs: None,
            running: 0,
            checking: 0,
            parked: VecDeque::new(),
            parked_events: 0,
            parked_bytes: 0,
            connect_by: Some(now + config.sockets.connect_timeout),
            attach_by: None,
            reason: None,
            description: None,
        }
    }

    fn receive(&mut self, message: Message, now: Instant) -> Result<(), CloseReason> {
        if let Some(watchers) = self.shared.watchers() {
            let (Message::Text(data) | Message::Binary(data)) = &message;
            watchers.tell(self.io.metrics(), &ConnEvent::Packet { data });
        }
        let packet = match message {
            Message::Text(text) => self.decoder.text(text),
            Message::Binary(data) => self.decoder.binary(data),
        };
        match packet {
            Ok(Some(packet)) => {
                self.attach_by = None;
                self.packet(packet, now)
            }
            Ok(None) => {
                self.attach_by
                    .get_or_insert_with(|| now + self.io.config().session.message_timeout);
                Ok(())
            }
            Err(error) => Err(self.undecodable(error)),
        }
    }

    fn packet(&mut self, packet: Packet, now: Instant) -> Result<(), CloseReason> {
        match packet.kind {
            Kind::Event => self.event(packet),
            Kind::Ack => self.ack(&packet),
            Kind::Connect => self.connect(&packet, now),
            Kind::Disconnect => self.disconnect(&packet.nsp),
            Kind::ConnectError => Err(self.misplaced()),
        }
    }

    /// A client leaves a namespace.
    fn disconnect(&mut self, nsp: &Nsp) -> Result<(), CloseReason> {
        let position = self.seats.iter().position(|seat| seat.nsp == *nsp);
        let seat = position.and_then(|position| self.seats.get(position));
        match (position, seat.map(|seat| &seat.place)) {
            (Some(position), Some(Place::Taken { socket, .. })) => {
                socket.close(DisconnectReason::ClientNamespaceDisconnect);
                self.clear_seat(position);
                Ok(())
            }
            (_, Some(Place::Waiting) | None) | (None, _) => Err(self.misplaced()),
        }
    }

    /// A client answers something.
    fn ack(&mut self, packet: &Packet) -> Result<(), CloseReason> {
        let Some(socket) = self.socket(&packet.nsp) else {
            return Err(self.misplaced());
        };
        let metrics = socket.metrics();
        let known = packet.id.is_some_and(|id| {
            socket.acks().resolve(id, &packet.args, metrics)
                || socket
                    .namespace_inner()
                    .questions
                    .resolve(id, socket.id(), &packet.args)
        });
        if !known {
            metrics.count(Counter::AcksUnknown);
        }
        Ok(())
    }

    pub(super) fn wait_for(&mut self, job: Job) {
        self.jobs.get_or_insert_default().push(job);
    }

    /// Drives handlers, checks and admissions that wait.
    fn run_jobs(&mut self, cx: &mut Context<'_>) {
        while let Some(jobs) = &mut self.jobs {
            match jobs.poll_next_unpin(cx) {
                Poll::Ready(Some(Done::Handler(serial))) => {
                    self.running -= 1;
                    if let Some(id) = serial {
                        self.free_lane(id);
                    }
                    self.unpark();
                }
                Poll::Ready(Some(Done::Check(checked, verdict))) => {
                    self.running -= 1;
                    self.checked(&checked, verdict);
                    self.unpark();
                }
                Poll::Ready(Some(Done::Admission(connect, entrance))) => {
                    let now = tokio::time::Instant::now().into_std();
                    self.decided(&connect, entrance, now);
                }
                Poll::Ready(None) => self.jobs = None,
                Poll::Pending => return,
            }
        }
    }

    /// Tells those who watch the connection.
    fn tell(&self, event: &ConnEvent<'_>) {
        if let Some(watchers) = self.shared.watchers() {
            watchers.tell(self.io.metrics(), event);
        }
    }

    pub(super) fn socket(&self, nsp: &Nsp) -> Option<&Socket> {
        self.seats.iter().find_map(|seat| match &seat.place {
            Place::Taken { socket, .. } if seat.nsp == *nsp => Some(socket),
            Place::Taken { .. } | Place::Waiting => None,
        })
    }

    /// Forgets a namespace, with the events that wait in its lane or are held.
    pub(super) fn clear_seat(&mut self, position: usize) {
        let seat = self.seats.swap_remove(position);
        if let Place::Taken { lane, held, .. } = seat.place {
            let held = held.map(|held| held.events).into_iter().flatten();
            for event in lane.into_iter().flatten().chain(held) {
                self.count_unparked(&event);
            }
        }
    }

    pub(super) fn clear_disconnected(&mut self) {
        let is_over = |seat: &Seat| match &seat.place {
            Place::Taken { socket, .. } => !socket.is_connected(),
            Place::Waiting => false,
        };
        while let Some(position) = self.seats.iter().position(is_over) {
            self.clear_seat(position);
        }
    }

    /// Looks for principals that were replaced.
    fn renew(&mut self) {
        for seat in &mut self.seats {
            if let Place::Taken {
                socket, validity, ..
            } = &mut seat.place
                && validity.is_outdated(socket)
            {
                *validity = Validity::of(socket, tokio::time::Instant::now().into_std());
            }
        }
    }

    /// A packet that is valid but out of place, or none where one was due.
    pub(super) fn misplaced(&mut self) -> CloseReason {
        self.reason = Some(DisconnectReason::ForcedServerClose);
        CloseReason::ForcedClose
    }

    pub(super) fn undecodable(&self, error: DecodeError) -> CloseReason {
        self.io.metrics().count(Counter::SocketPacketErrors);
        tracing::debug!(session = ?self.shared.outbox.sid(), %error, "a packet cannot be decoded");
        match self.io.config().sockets.parser {
            Parser::MessagePack => CloseReason::ParseError,
            // What the original says of it.
            Parser::Json | _ => CloseReason::ForcedClose,
        }
    }
}

/// However a session ends, its sockets end with it.
impl Drop for Connection {
    fn drop(&mut self) {
        let reason = self.reason.unwrap_or(DisconnectReason::TransportError);
        for seat in &self.seats {
            if let Place::Taken { socket, .. } = &seat.place {
                socket.close_described(reason, self.description);
            }
        }
        if let Some(watchers) = self.shared.watchers() {
            watchers.close();
        }
        self.shared.release();
        let jobs = self.jobs.take().into_iter().flatten();
        let handlers = jobs.filter_map(|job| match job {
            Job::Handler(running) => Some(running),
            Job::Check(_) | Job::Admission(_) => None,
        });
        self.io.detach(handlers.collect(), &self.shared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_idle_client_costs_less_than_a_kibibyte_here() {
        let client = size_of::<Connection>() + size_of::<Shared>() + size_of::<Seat>();
        assert!(client <= 416, "{client}");
        let socket = size_of::<crate::socket::core::socket::Inner>();
        assert!(socket <= 344, "{socket}");
    }
}
