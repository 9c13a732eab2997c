//! Handles `CONNECT` packets: admits or refuses clients.

use std::{sync::Arc, task::Poll, time::Instant};

use roomcast_protocol::{
    DecodeError,
    engine::{CloseReason, Transport},
    socket::{Args, Limits, Nsp},
};

use super::connection::{Connection, Job, NamespaceSlot, SlotState};
use crate::{
    Principal,
    engine::Mode,
    metrics::Counter,
    socket::{
        connect::{Admission, ConnectGrant, ConnectOutcome, Lookup, Validity},
        core::{Connect, Handlers, Lifecycle, LogKind, Socket},
        dispatch::Call,
        life::{Claim, NotAdmitted, Restored},
        types::Refusal,
    },
};

impl Connection {
    /// Handles a `CONNECT` packet.
    pub(super) fn connect(
        &mut self,
        nsp: &Nsp,
        args: &Args,
        now: Instant,
    ) -> Result<(), CloseReason> {
        if let Err(too_many) = self.charge_join(now) {
            return self.limit_join(nsp, too_many, now);
        }
        match self.slots.iter().position(|slot| slot.nsp == *nsp) {
            Some(position) => match &self.slots.get(position).map(|slot| &slot.state) {
                // The server disconnected this socket, and the client reconnects.
                Some(SlotState::Occupied { socket, .. }) if !socket.is_connected() => {
                    self.clear_slot(position);
                }
                Some(SlotState::Occupied { .. } | SlotState::Connecting) | None => {
                    return Err(self.misplaced());
                }
            },
            // Slots of disconnected sockets are retained only until their space is needed.
            None if self.slots.len() >= self.io.config().sockets.max_namespaces_per_connection => {
                self.clear_disconnected();
            }
            None => {}
        }
        let lookup = self.io.lookup_namespace(nsp.as_str());
        if matches!(lookup, Lookup::Missing) {
            self.refuse(nsp, &Refusal::invalid_namespace());
            return Ok(());
        }
        let payload: usize = args.iter().map(<[u8]>::len).sum();
        if payload > Limits::default().max_connect_payload {
            // The payload lives as long as the socket, so only a short one is accepted.
            return match &lookup {
                Lookup::Found(handlers) if handlers.authenticate.is_some() => {
                    self.refuse(nsp, &Refusal::unauthenticated("token too long"));
                    Ok(())
                }
                Lookup::Found(_) | Lookup::Undecided(_) | Lookup::Missing => {
                    Err(self.undecodable(DecodeError::TooLarge))
                }
            };
        }
        if self.slots.len() >= self.io.config().sockets.max_namespaces_per_connection {
            self.refuse(nsp, &Refusal::new("", "Too many namespaces"));
            return Ok(());
        }
        if self.running + self.shared.detached() >= self.io.config().sockets.max_in_flight {
            // Handlers of new and of left namespaces count like event handlers.
            self.refuse(nsp, &Refusal::new("", "Too many events in progress"));
            return Ok(());
        }
        // The packet's own name would keep the packet's bytes alive.
        let nsp = Nsp::from(nsp.as_str());
        let shared = Arc::clone(&self.shared);
        let connect = Connect::new(self.io.clone(), nsp.clone(), shared, args.clone());
        // Most clients use one namespace, and the default growth allocates four slots.
        self.slots.reserve_exact(1);
        self.slots.push(NamespaceSlot {
            nsp,
            state: SlotState::Connecting,
        });
        if let Lookup::Found(handlers) = &lookup
            && handlers.is_open()
            && (self.io.recovery_table().is_none() || connect.offer().is_none())
        {
            let grant = ConnectGrant {
                handlers: Arc::clone(handlers),
                principal: connect.shared_principal(),
                claim: None,
            };
            self.admit(&connect, grant, now);
            return Ok(());
        }
        let may_look_up = connect.offer().is_some() && self.may_look_up(now);
        let mut admission = Admission::new(lookup, connect, may_look_up);
        match admission.poll_now() {
            Poll::Ready((connect, outcome)) => self.decided(&connect, outcome, now),
            Poll::Pending => self.wait_for(Job::Admission(admission)),
        }
        Ok(())
    }

    /// Returns the deadline for the first namespace. It does not apply to a client that waits for
    /// the decision about a `CONNECT`, unless it was extended already.
    pub(super) fn connect_deadline(&self) -> Option<Instant> {
        let connect_by = self.connect_by?;
        let is_connecting = |slot: &NamespaceSlot| matches!(slot.state, SlotState::Connecting);
        let is_waiting = !self.is_connect_extended && self.slots.iter().any(is_connecting);
        (!is_waiting).then_some(connect_by)
    }

    /// Extends the deadline for the first namespace once, if a decision has outlasted it. So a
    /// client that is refused has the whole time again for another `CONNECT`.
    fn extend_connect(&mut self, now: Instant) {
        if !self.is_connect_extended && self.connect_by.is_some_and(|at| at <= now) {
            self.connect_by = Some(now + self.io.config().sockets.connect_timeout);
            self.is_connect_extended = true;
        }
    }

    pub(super) fn decided(&mut self, connect: &Connect, outcome: ConnectOutcome, now: Instant) {
        self.extend_connect(now);
        match outcome {
            Ok(grant) => self.admit(connect, grant, now),
            Err(refusal) => {
                self.slots.retain(|slot| slot.nsp != *connect.nsp());
                self.refuse(connect.nsp(), &refusal);
            }
        }
    }

    fn admit(&mut self, connect: &Connect, grant: ConnectGrant, now: Instant) {
        let ConnectGrant {
            handlers,
            principal,
            claim,
        } = grant;
        let address = self.shared.handshake.address();
        if let Some(more) = self
            .io
            .permit_connection_log(LogKind::Authenticated, address.ip())
        {
            crate::socket::core::io::connection_log!(
                self.io,
                namespace = connect.nsp().as_str(),
                user = principal.subject,
                %address,
                is_guest = principal.guest,
                more,
                "authenticated"
            );
        }
        let resumed = claim.and_then(|claim| self.resume(connect, claim, &handlers, &principal));
        let socket = match resumed {
            Some(socket) => socket,
            None => match self.enter(connect, &handlers, &principal) {
                Ok(socket) => socket,
                Err(refusal) => {
                    self.slots.retain(|slot| slot.nsp != *connect.nsp());
                    self.refuse(connect.nsp(), &refusal);
                    return;
                }
            },
        };
        self.seat(connect, &socket, &handlers, now);
    }

    /// Completes the admission of a socket that is in its namespace.
    fn seat(&mut self, connect: &Connect, socket: &Socket, handlers: &Handlers, now: Instant) {
        if self.shared.watchers().is_some() {
            socket.observe();
        }
        socket.complete_admission();
        if let Some(reason) = socket.disconnect_reason() {
            self.slots.retain(|slot| slot.nsp != *connect.nsp());
            // The client may have received its disconnect before its `CONNECT` answer. The last
            // packet counts, so send another disconnect. A broken connection needs none.
            if !reason.is_recoverable() {
                self.dismiss(connect.nsp());
            }
            return;
        }
        self.io.metrics().count(Counter::SocketsConnected);
        let address = self.shared.handshake.address();
        let scope = socket.log_scope();
        let is_resumed = socket.recovered();
        if let Some(more) = self.io.permit_connection_log(LogKind::Joined, address.ip()) {
            let transport = self.shared.outbox.transport();
            let principal = socket.principal();
            let (namespace, user) = (connect.nsp().as_str(), &principal.subject);
            let socket = socket.id();
            if is_resumed {
                crate::socket::core::io::connection_log!(
                    self.io, %socket, namespace, user, %address, %transport, more, "resumed"
                );
            } else {
                crate::socket::core::io::connection_log!(
                    self.io, %socket, namespace, user, %address, %transport, more, "connected"
                );
            }
        }
        drop(scope);
        self.connect_by = None;
        if let Some(slot) = self
            .slots
            .iter_mut()
            .find(|slot| slot.nsp == *connect.nsp())
        {
            slot.state = SlotState::Occupied {
                socket: socket.clone(),
                serial_queue: None,
                held: None,
                validity: Validity::of(socket, now),
            };
        }
        self.io.notify(&Lifecycle::Connected { socket });
        for handler in &handlers.connect {
            let call = Call::own(socket, "connect");
            if let Some(running) = call.start(&**handler, connect.payload().clone()) {
                self.run(running);
            }
        }
        // The credentials may have been revoked after the check and before the revoking code could
        // find the socket.
        socket.revalidate();
        // A recovering client is not found while the application removes the namespace.
        if socket.namespace_inner().is_removed() {
            socket.disconnect();
        }
    }

    /// Creates a new socket and adds it to its namespace.
    fn enter(
        &self,
        connect: &Connect,
        handlers: &Arc<Handlers>,
        principal: &Arc<Principal>,
    ) -> Result<Socket, Refusal> {
        loop {
            let namespace = self.io.namespace_to_enter(connect.nsp(), handlers)?;
            let socket = Socket::new(
                self.io.clone(),
                Arc::clone(&namespace),
                Arc::clone(&self.shared),
                Arc::clone(principal),
                connect.payload().clone(),
                connect.states(),
            );
            if let (Some(table), Some(known)) = (self.io.recovery_table(), socket.recoverable()) {
                table.enter(known.pid, socket.downgrade());
            }
            // The socket is added to the connection before the namespace. So code that finds it in
            // the namespace can close the whole connection.
            self.shared.sockets.lock().push(socket.downgrade());
            let Err(why) = namespace.admit(&socket, &[]) else {
                return Ok(socket);
            };
            if let (Some(table), Some(known)) = (self.io.recovery_table(), socket.recoverable()) {
                table.forget(known.pid);
            }
            self.shared.forget(&socket);
            match why {
                // The last socket of the namespace has just left. The next lookup creates a new
                // namespace.
                NotAdmitted::NamespaceRemoved => self.io.take_down(&namespace),
                NotAdmitted::EncodeFailed => {
                    socket.end_for_good();
                    return Err(Refusal::internal());
                }
            }
        }
    }

    /// Recovers the socket that the client had before its connection broke, if that is still
    /// possible.
    fn resume(
        &self,
        connect: &Connect,
        mut claim: Claim,
        handlers: &Arc<Handlers>,
        principal: &Arc<Principal>,
    ) -> Option<Socket> {
        if let Some(restored) = claim.take_restored() {
            return claim.settle(self.restore(connect, restored, handlers, principal));
        }
        let resumed = claim.resume(|old| {
            let (shared, principal) = (Arc::clone(&self.shared), Arc::clone(principal));
            let payload = connect.payload().clone();
            let socket = Socket::recover(old, shared, principal, payload, connect.states());
            // As with a new socket, the connection is updated before the namespace.
            self.shared.sockets.lock().push(socket.downgrade());
            socket
        });
        if resumed.is_none() {
            self.shared.remove_closed();
        }
        resumed
    }

    /// Creates the socket of a client that was on another server.
    fn restore(
        &self,
        connect: &Connect,
        restored: Restored,
        handlers: &Arc<Handlers>,
        principal: &Arc<Principal>,
    ) -> Option<Socket> {
        let namespace = self.io.namespace_to_enter(connect.nsp(), handlers).ok()?;
        let pid = restored.pid();
        let restored = restored.resume(&namespace, |id, recoverable| {
            let socket = Socket::with(
                self.io.clone(),
                Arc::clone(&namespace),
                Arc::clone(&self.shared),
                Arc::clone(principal),
                connect.payload().clone(),
                connect.states(),
                id,
                Some(Box::new(recoverable)),
            );
            self.shared.sockets.lock().push(socket.downgrade());
            socket
        });
        match (&restored, self.io.recovery_table()) {
            // Other clients can claim the socket from now on, because this client's `CONNECT`
            // answer is queued.
            (Some(socket), Some(table)) => table.enter(pid, socket.downgrade()),
            (Some(_), None) => {}
            (None, _) => self.shared.remove_closed(),
        }
        restored
    }

    /// Sends the client a disconnect from a namespace.
    fn dismiss(&self, nsp: &Nsp) {
        let parser = self.io.config().sockets.parser;
        if let Ok(frame) = parser.disconnect(nsp.as_str()) {
            // A closed connection accepts no data.
            let _ = self.shared.push(&frame, Mode::Reliable, self.io.metrics());
        }
    }

    pub(super) fn refuse(&self, nsp: &Nsp, refusal: &Refusal) {
        self.io.metrics().count(Counter::SocketsRefused);
        let address = self.shared.handshake.address();
        if let Some(more) = self.io.may_log_refusal(refusal) {
            crate::socket::core::io::connection_log!(
                self.io,
                namespace = nsp.as_str(),
                %address,
                reason = refusal.reason(),
                more,
                "refused"
            );
        }
        self.io.notify(&Lifecycle::Refused {
            namespace: nsp.as_str(),
            handshake: self.shared.handshake(),
            refusal,
        });
        match self.encode_refusal(nsp, refusal) {
            Ok(frame) => {
                let _ = self.shared.push(&frame, Mode::Reliable, self.io.metrics());
            }
            Err(error) => {
                // The client would wait forever for an answer. Closing its connection ends the
                // wait.
                crate::throttled_log!(error, namespace = nsp.as_str(), %error, "could not encode a refusal");
                self.shared.outbox.close(CloseReason::ForcedClose);
            }
        }
        if self.io.record_violation(refusal, address.ip()) {
            let outbox = &self.shared.outbox;
            match outbox.transport() {
                Transport::WebSocket => outbox.close(CloseReason::ForcedClose),
                // A close packet would need another poll, and polls of this address are no longer
                // answered.
                Transport::Polling => outbox.abort(CloseReason::ForcedClose),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::{
        task::{Context, Waker},
        time::Duration,
    };

    use bytes::Bytes;
    use roomcast_protocol::{
        Frame,
        socket::{Decoder, Parser},
    };

    use super::*;
    use crate::{
        config::Recovery,
        engine::{Outbox, SessionHandler as _, TestOutboxes, random_sid},
        metrics::Gauge,
        socket::{Io, fuzzing, recovery::Offer},
    };

    /// Polls the connection, and returns the messages that it has sent.
    fn run(connection: &mut Connection, outbox: &Outbox) -> Vec<String> {
        let polled = connection.poll(&mut Context::from_waker(Waker::noop()));
        assert!(polled.is_pending());
        let frames = TestOutboxes::take(outbox);
        let messages = frames.iter().flat_map(Frame::messages);
        let texts = messages.map(|(_, message)| String::from_utf8_lossy(message).into_owned());
        texts.collect()
    }

    fn now() -> Instant {
        tokio::time::Instant::now().into_std()
    }

    #[tokio::test(start_paused = true)]
    async fn slow_first_decision_refuses_and_extends_the_deadline_once() {
        const SECOND: Duration = Duration::from_secs(1);
        const TOO_LATE: &str =
            r#"4{"message":"connecting took too long","data":{"code":"CONNECT_TIMEOUT"}}"#;
        let io = Io::builder().namespace("/", |namespace| {
            namespace.authenticate(async |_: Connect| {
                std::future::pending::<()>().await;
                Ok::<_, Refusal>(Principal::new("ann"))
            })
        });
        let io = io.build().unwrap();
        let limit = io.config().sockets.connect_timeout;
        let outboxes = TestOutboxes::polling(Arc::clone(io.metrics()));
        let outbox = outboxes.outbox(random_sid(), usize::MAX);
        let start = now();
        let mut connection = Connection::new(&io, outbox.clone(), fuzzing::handshake(), start);
        assert_eq!(connection.poll_timeout(), Some(start + limit));
        tokio::time::advance(SECOND).await;
        let args = Args::default();
        connection.connect(&Nsp::ROOT, &args, now()).unwrap();

        tokio::time::advance(limit - SECOND).await;
        assert_eq!(connection.poll_timeout(), None);
        assert_eq!(connection.handle_timeout(now()), Ok(()));
        assert_eq!(run(&mut connection, &outbox), Vec::<String>::new());
        tokio::time::advance(2 * SECOND).await;
        let sent = run(&mut connection, &outbox);
        assert!(sent.len() == 1 && sent[0].ends_with(TOO_LATE), "{sent:?}");
        assert_eq!(connection.handle_timeout(now()), Ok(()));
        let extended = Some(now() + limit);
        assert_eq!(connection.poll_timeout(), extended);

        // Another decision that is pending does not extend the deadline again.
        connection.connect(&Nsp::ROOT, &args, now()).unwrap();
        assert_eq!(connection.poll_timeout(), extended);
        tokio::time::advance(limit).await;
        let closed = connection.handle_timeout(now());
        assert_eq!(closed, Err(CloseReason::ForcedClose));
    }

    #[tokio::test]
    async fn unencodable_connect_answer_closes_the_connection() {
        let builder = Io::builder()
            .recovery(Recovery::default())
            .namespaces(|_| true, |namespace| namespace);
        let io = builder.build().unwrap();
        let outboxes = TestOutboxes::polling(Arc::clone(io.metrics()));
        let outbox = outboxes.outbox(random_sid(), usize::MAX);
        let handshake = fuzzing::handshake();
        let mut connection = Connection::new(&io, outbox.clone(), handshake, Instant::now());
        // JSON cannot encode a name with a comma, but MessagePack can.
        let frame = Parser::MessagePack.connect("/a,b", &()).unwrap();
        let (_, message) = frame.messages().next().unwrap();
        let mut decoder = Decoder::with_parser(Parser::MessagePack, Limits::default());
        let packet = decoder.binary(Bytes::copy_from_slice(message)).unwrap();
        let packet = packet.unwrap();
        connection
            .connect(&packet.nsp, &packet.args, Instant::now())
            .unwrap();

        assert!(connection.slots.is_empty() && connection.shared.sockets.lock().is_empty());
        assert_eq!(io.metrics().gauge(Gauge::Sockets), 0);
        assert!(io.namespaces().is_empty());
        assert!(TestOutboxes::take(&outbox).is_empty());
        assert!(TestOutboxes::is_closing(&outbox));
    }

    #[tokio::test(start_paused = true)]
    async fn client_taken_over_before_its_admission_is_complete_is_recovered() {
        let io = Io::builder()
            .recovery(Recovery::default())
            .namespace("/", |namespace| namespace);
        let io = io.build().unwrap();
        let table = io.recovery_table().unwrap();
        let outboxes = TestOutboxes::polling(Arc::clone(io.metrics()));
        let start = || {
            let outbox = outboxes.outbox(random_sid(), usize::MAX);
            Connection::new(&io, outbox, fuzzing::handshake(), now())
        };
        let socket = || io.of("/").inner().unwrap().all_sockets().pop();
        let mut first = start();
        first.connect(&Nsp::ROOT, &Args::default(), now()).unwrap();
        let pid = socket().unwrap().recoverable().unwrap().pid;
        let offer = Offer { pid, last: None };
        let resume = |connection: &Connection, claim: Claim| {
            let shared = Arc::clone(&connection.shared);
            let connect = Connect::new(io.clone(), Nsp::ROOT, shared, Args::default());
            let handlers = &io.fixed_namespace("/").unwrap().handlers;
            let resumed = connection.resume(&connect, claim, handlers, io.anonymous());
            (connect, resumed.unwrap(), Arc::clone(handlers))
        };
        let mut second = start();
        let claim = table.claim(offer, &Nsp::ROOT).await.unwrap();
        let (connect, resumed, handlers) = resume(&second, claim);

        // A third connection takes the client over before the second one has completed.
        let root = Nsp::ROOT;
        let mut claiming = std::pin::pin!(table.claim(offer, &root));
        let mut context = Context::from_waker(Waker::noop());
        assert!(claiming.as_mut().poll(&mut context).is_pending());
        second.seat(&connect, &resumed, &handlers, now());
        assert!(second.slots.is_empty());
        let mut third = start();
        let (connect, resumed, handlers) = resume(&third, claiming.await.unwrap());
        third.seat(&connect, &resumed, &handlers, now());
        assert!(socket().is_some_and(|socket| socket.is_connected()));
        assert_eq!(io.metrics().gauge(Gauge::Sockets), 1);
        assert_eq!(io.metrics().gauge(Gauge::RecoverySessions), 0);
    }
}
