//! The connection of one client: its incoming packets, its sockets, and its waiting jobs.
//!
//! A [`Connection`] belongs to the task of its Engine.IO session, so it needs no lock.
//! [`ConnInner`] holds the state that other tasks access.

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
    socket::{Decoder, Kind, Nsp, Packet},
};

use super::{
    event_queues::{EventInMiddleware, HeldEvents, ParkedEvent},
    joins::Joins,
    v3::decoder,
};
use crate::{
    engine::{Application, Handshake, LogScope, LogSource, Outbox, SessionHandler},
    metrics::Counter,
    socket::{
        connect::{Admission, ConnectOutcome, Validity},
        core::{
            ConnInner, Connect, EngineConnectionEvent, Incoming, Io, Lifecycle, LogKind, Socket,
        },
        dispatch::Running,
        types::{DisconnectReason, Refusal, SocketId},
    },
};

/// The Socket.IO state of one Engine.IO session.
pub(crate) struct Connection {
    pub(super) io: Io,
    pub(super) shared: Arc<ConnInner>,
    pub(super) decoder: Decoder,
    pub(super) slots: Vec<NamespaceSlot>,
    /// Allocated for the first waiting job, and dropped with the last.
    jobs: Option<Box<Jobs>>,
    /// The number of handlers and middleware runs among the jobs.
    pub(super) running: usize,
    /// The number of middleware runs among the jobs, at most one for each socket.
    pub(super) in_middleware: usize,
    /// Events that wait for room among the running handlers, in order of arrival.
    pub(super) parked: VecDeque<ParkedEvent>,
    /// The number of all parked events, including those in serial queues and those held because of
    /// middleware.
    pub(super) parked_events: usize,
    pub(super) parked_bytes: usize,
    /// The deadline for the client's first namespace.
    pub(super) connect_by: Option<Instant>,
    /// Whether that deadline was extended for a decision that outlasted it.
    pub(super) is_connect_extended: bool,
    /// The deadline for the attachments of the current packet.
    attach_by: Option<Instant>,
    /// The client's join limits, if enabled.
    pub(super) joins: Option<Box<Joins>>,
    /// The disconnect reason, if the engine's reason is not specific enough.
    reason: Option<DisconnectReason>,
    /// A description of the reason from the engine, if available.
    description: Option<&'static str>,
}

/// A namespace that the client has joined or requested.
pub(super) struct NamespaceSlot {
    pub(super) nsp: Nsp,
    pub(super) state: SlotState,
}

pub(super) enum SlotState {
    /// The admission is pending.
    Connecting,
    /// The slot has a socket. A socket that the server disconnected keeps its slot, because the
    /// client may send to it until it receives the disconnect.
    Occupied {
        socket: Socket,
        /// Serial events that wait for the running one; `None` if none is running.
        serial_queue: Option<VecDeque<ParkedEvent>>,
        /// Events that wait for an event in middleware; `None` if no event is in middleware.
        held: Option<Box<HeldEvents>>,
        /// The expiry of the principal.
        validity: Validity,
    },
}

/// A job that waits inside the connection's task.
pub(super) enum Job {
    Handler(Running),
    /// Taken out when the middleware completes.
    Middleware(Option<Box<EventInMiddleware>>),
    Admission(Admission),
}

/// Jobs whose end is not handled yet.
#[derive(Default)]
struct Jobs {
    waiting: FuturesUnordered<Job>,
    /// Jobs that ended while all sessions were held.
    ended: VecDeque<Done>,
}

impl Jobs {
    /// Returns the next job that has ended, or `None` if there is no job left.
    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<Done>> {
        match self.ended.pop_front() {
            Some(done) => Poll::Ready(Some(done)),
            None => self.waiting.poll_next_unpin(cx),
        }
    }

    /// Drives the waiting jobs, and keeps those that end.
    fn poll_waiting(&mut self, cx: &mut Context<'_>) {
        while let Poll::Ready(Some(done)) = self.waiting.poll_next_unpin(cx) {
            self.ended.push_back(done);
        }
    }
}

pub(super) enum Done {
    Handler(Option<SocketId>),
    Middleware(Box<EventInMiddleware>, Result<Incoming, Refusal>),
    Admission(Connect, ConnectOutcome),
}

impl Future for Job {
    type Output = Done;

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Done> {
        match self.get_mut() {
            Self::Handler(running) => Pin::new(running).poll(cx).map(Done::Handler),
            Self::Middleware(check) => {
                let Some(checked) = check else {
                    return Poll::Pending;
                };
                let outcome = std::task::ready!(Pin::new(&mut **checked).poll(cx));
                let Some(checked) = check.take() else {
                    return Poll::Pending;
                };
                Poll::Ready(Done::Middleware(checked, outcome))
            }
            Self::Admission(admission) => admission
                .poll(cx)
                .map(|(connect, outcome)| Done::Admission(connect, outcome)),
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
        let is_v3 = session.revision().is_v3();
        let mut connection = Connection::new(self, session, handshake, now);
        if is_v3 {
            connection.connect_root(now);
        }
        Box::new(connection)
    }
}

impl SessionHandler for Connection {
    fn message(&mut self, message: Message, now: Instant) -> Result<(), CloseReason> {
        self.shared.record_packet(now);
        let result = self.receive(message, now);
        self.renew();
        result
    }

    fn log_source(&self) -> Option<Arc<dyn LogSource>> {
        Some(Arc::clone(&self.shared) as Arc<dyn LogSource>)
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<CloseReason> {
        self.run_jobs(cx);
        self.renew();
        // Handlers close a connection through its outbox, so this never requests an end.
        Poll::Pending
    }

    fn poll_started(&mut self, cx: &mut Context<'_>) {
        // What follows the end of a job may start others, so it waits until sessions are no longer
        // held.
        if let Some(jobs) = &mut self.jobs {
            jobs.poll_waiting(cx);
        }
    }

    fn poll_timeout(&self) -> Option<Instant> {
        let expiries = self.slots.iter().filter_map(|slot| match slot.state {
            SlotState::Occupied { ref validity, .. } => validity.poll_timeout(),
            SlotState::Connecting => None,
        });
        expiries
            .chain(self.connect_deadline())
            .chain(self.attach_by)
            .min()
    }

    fn handle_timeout(&mut self, now: Instant) -> Result<(), CloseReason> {
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if is_due(self.connect_deadline()) {
            return Err(self.misplaced());
        }
        if is_due(self.attach_by) {
            return Err(self.undecodable(DecodeError::IllegalAttachments));
        }
        for slot in &mut self.slots {
            if let SlotState::Occupied {
                socket, validity, ..
            } = &mut slot.state
            {
                validity.handle_timeout(socket, now);
            }
        }
        Ok(())
    }

    fn upgraded(&mut self) {
        let handshake = self.shared.handshake();
        self.io.notify(&Lifecycle::Upgraded { handshake });
        let transport = self.shared.outbox.transport();
        self.notify(&EngineConnectionEvent::Upgrade { transport });
    }

    fn heartbeat(&mut self) {
        self.notify(&EngineConnectionEvent::Heartbeat);
    }

    fn is_busy(&self) -> bool {
        let is_checking = |slot: &NamespaceSlot| match &slot.state {
            SlotState::Occupied { socket, .. } => socket.acks().is_pending(),
            SlotState::Connecting => false,
        };
        self.jobs.is_some() || self.slots.iter().any(is_checking)
    }

    fn drained(&mut self) {
        if self.shared.watchers().is_some() {
            // The outbox reports this once per request.
            let _ = self.shared.outbox.watch_drain();
            self.notify(&EngineConnectionEvent::Drain);
        }
        self.shared.release();
    }

    fn describe(&mut self, description: &'static str) {
        self.description = Some(description);
    }

    fn close(mut self: Box<Self>, reason: CloseReason) {
        if reason == CloseReason::Overflow {
            let handshake = self.shared.handshake();
            self.io.notify(&Lifecycle::SlowClient { handshake });
        }
        // The sockets end afterwards, when the connection is dropped. Observers are notified first.
        let reason = *self.reason.get_or_insert_with(|| reason.into());
        let description = self.description;
        self.notify(&EngineConnectionEvent::Close {
            reason,
            description,
        });
    }
}

impl Connection {
    pub(super) fn new(io: &Io, session: Outbox, handshake: Arc<Handshake>, now: Instant) -> Self {
        io.keep_runtime();
        let config = io.config();
        let shared = Arc::new(ConnInner::new(session, handshake, now));
        let address = shared.handshake.address();
        let scope = LogScope::enter(Arc::clone(&shared) as Arc<dyn LogSource>);
        if let Some(more) = io.permit_connection_log(LogKind::Opened, address.ip()) {
            let transport = shared.outbox.transport();
            crate::socket::core::io::connection_log!(
                io,
                %address,
                %transport,
                more,
                "connection opened"
            );
        }
        drop(scope);
        Self {
            io: io.clone(),
            decoder: decoder(config, shared.outbox.revision()),
            shared,
            slots: Vec::new(),
            jobs: None,
            running: 0,
            in_middleware: 0,
            parked: VecDeque::new(),
            parked_events: 0,
            parked_bytes: 0,
            connect_by: Some(now + config.sockets.connect_timeout),
            is_connect_extended: false,
            attach_by: None,
            joins: None,
            reason: None,
            description: None,
        }
    }

    fn receive(&mut self, message: Message, now: Instant) -> Result<(), CloseReason> {
        if let Some(watchers) = self.shared.watchers() {
            let (Message::Text(data) | Message::Binary(data)) = &message;
            watchers.notify(self.io.metrics(), &EngineConnectionEvent::Packet { data });
        }
        if self.shared.outbox.revision().is_v3() {
            return self.receive_v3(message, now);
        }
        let packet = match message {
            Message::Text(text) => self.decoder.text(text),
            Message::Binary(data) => self.decoder.binary(data),
        };
        match self.complete(packet, now)? {
            Some(packet) => self.packet(packet, now),
            None => Ok(()),
        }
    }

    /// Returns the packet of a message if it is complete, and tracks the time of one that is not.
    pub(super) fn complete(
        &mut self,
        packet: Result<Option<Packet>, DecodeError>,
        now: Instant,
    ) -> Result<Option<Packet>, CloseReason> {
        match packet {
            Ok(Some(packet)) => {
                self.attach_by = None;
                Ok(Some(packet))
            }
            Ok(None) => {
                // The deadline starts with the first part of a packet. Further parts do not extend
                // it.
                self.attach_by
                    .get_or_insert_with(|| now + self.io.config().session.message_timeout);
                Ok(None)
            }
            Err(error) => Err(self.undecodable(error)),
        }
    }

    pub(super) fn packet(&mut self, packet: Packet, now: Instant) -> Result<(), CloseReason> {
        match packet.kind {
            Kind::Event => self.event(packet),
            Kind::Ack => self.ack(&packet),
            Kind::Connect => self.connect(&packet.nsp, &packet.args, now),
            Kind::Disconnect => self.disconnect(&packet.nsp),
            Kind::ConnectError => Err(self.misplaced()),
        }
    }

    /// Handles a `DISCONNECT` packet: the client leaves a namespace.
    pub(super) fn disconnect(&mut self, nsp: &Nsp) -> Result<(), CloseReason> {
        let position = self.slots.iter().position(|slot| slot.nsp == *nsp);
        let slot = position.and_then(|position| self.slots.get(position));
        match (position, slot.map(|slot| &slot.state)) {
            (Some(position), Some(SlotState::Occupied { socket, .. })) => {
                socket.close(DisconnectReason::ClientNamespaceDisconnect);
                self.clear_slot(position);
                Ok(())
            }
            (_, Some(SlotState::Connecting) | None) | (None, _) => Err(self.misplaced()),
        }
    }

    /// Handles an `ACK` packet: the client acknowledges an event.
    fn ack(&mut self, packet: &Packet) -> Result<(), CloseReason> {
        let Some(socket) = self.socket(&packet.nsp) else {
            return Err(self.misplaced());
        };
        let metrics = socket.metrics();
        // Requests to one client and broadcasts share one id counter, so an id is in at most one
        // table.
        let known = packet.id.is_some_and(|id| {
            socket.acks().resolve(id, &packet.args, metrics)
                || socket.namespace_inner().broadcast_requests.resolve(
                    id,
                    &socket.id(),
                    &packet.args,
                )
        });
        if !known {
            metrics.count(Counter::AcksUnknown);
        }
        Ok(())
    }

    pub(super) fn wait_for(&mut self, job: Job) {
        self.jobs.get_or_insert_default().waiting.push(job);
    }

    /// Polls the waiting handlers, middleware and admissions.
    fn run_jobs(&mut self, cx: &mut Context<'_>) {
        while let Some(jobs) = &mut self.jobs {
            match jobs.poll_next(cx) {
                Poll::Ready(Some(done)) => self.after(done),
                Poll::Ready(None) => self.jobs = None,
                Poll::Pending => return,
            }
        }
    }

    /// Continues after a job has ended.
    fn after(&mut self, done: Done) {
        match done {
            Done::Handler(serial) => {
                self.running -= 1;
                if let Some(id) = serial {
                    self.free_serial_queue(&id);
                }
                self.unpark();
            }
            Done::Middleware(checked, outcome) => {
                self.running -= 1;
                self.middleware_done(&checked, outcome);
                self.unpark();
            }
            Done::Admission(connect, outcome) => {
                let now = tokio::time::Instant::now().into_std();
                self.decided(&connect, outcome, now);
            }
        }
    }

    /// Notifies the observers of the connection.
    fn notify(&self, event: &EngineConnectionEvent<'_>) {
        if let Some(watchers) = self.shared.watchers() {
            watchers.notify(self.io.metrics(), event);
        }
    }

    pub(super) fn socket(&self, nsp: &Nsp) -> Option<&Socket> {
        self.slots.iter().find_map(|slot| match &slot.state {
            SlotState::Occupied { socket, .. } if slot.nsp == *nsp => Some(socket),
            SlotState::Occupied { .. } | SlotState::Connecting => None,
        })
    }

    /// Clears a slot and drops the events that wait for its socket.
    pub(super) fn clear_slot(&mut self, position: usize) {
        let slot = self.slots.swap_remove(position);
        if let SlotState::Occupied {
            serial_queue, held, ..
        } = slot.state
        {
            let held = held.map(|held| held.events).into_iter().flatten();
            for event in serial_queue.into_iter().flatten().chain(held) {
                self.count_unparked(&event);
            }
        }
    }

    pub(super) fn clear_disconnected(&mut self) {
        let is_over = |slot: &NamespaceSlot| match &slot.state {
            SlotState::Occupied { socket, .. } => !socket.is_connected(),
            SlotState::Connecting => false,
        };
        while let Some(position) = self.slots.iter().position(is_over) {
            self.clear_slot(position);
        }
    }

    /// Updates the expiry of replaced principals.
    fn renew(&mut self) {
        for slot in &mut self.slots {
            if let SlotState::Occupied {
                socket, validity, ..
            } = &mut slot.state
                && validity.is_outdated(socket)
            {
                *validity = Validity::of(socket, tokio::time::Instant::now().into_std());
            }
        }
    }

    /// Returns the reason for a packet that is valid but unexpected in this state, or overdue.
    pub(super) fn misplaced(&mut self) -> CloseReason {
        self.reason = Some(DisconnectReason::ForcedServerClose);
        CloseReason::ForcedClose
    }

    pub(super) fn undecodable(&self, error: DecodeError) -> CloseReason {
        self.io.metrics().count(Counter::SocketPacketErrors);
        tracing::debug!(session = ?self.shared.outbox.sid(), %error, "a packet cannot be decoded");
        match self.io.config().sockets.parser.is_binary() {
            true => CloseReason::ParseError,
            // The reason that the official server reports.
            false => CloseReason::ForcedClose,
        }
    }
}

/// Closes all sockets, whatever the cause of the session's end.
impl Drop for Connection {
    fn drop(&mut self) {
        let reason = self.reason.unwrap_or(DisconnectReason::TransportError);
        for slot in &self.slots {
            if let SlotState::Occupied { socket, .. } = &slot.state {
                socket.close_described(reason, self.description);
            }
        }
        if let Some(watchers) = self.shared.watchers() {
            watchers.close();
        }
        self.shared.release();
        let jobs = self.jobs.take().into_iter().flat_map(|jobs| jobs.waiting);
        let handlers = jobs.filter_map(|job| match job {
            Job::Handler(running) => Some(running),
            // Pending middleware and admissions have no further effect. A dropped claim releases
            // its socket.
            Job::Middleware(_) | Job::Admission(_) => None,
        });
        self.io.detach(handlers.collect(), &self.shared);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_client_costs_less_than_a_kibibyte_in_this_layer() {
        let client = size_of::<Connection>() + size_of::<ConnInner>() + size_of::<NamespaceSlot>();
        // Includes eight bytes for the idle time of a client, and eight for its joins. Includes
        // eight for the messages that a custom parser waits for.
        assert!(client <= 424, "{client}");
        // Includes eight bytes for the ids that clients of Engine.IO v3 compute.
        let socket = size_of::<crate::socket::core::socket::SocketInner>();
        assert!(socket <= 352, "{socket}");
    }
}
