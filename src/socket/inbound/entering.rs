//! A client asks to be let into a namespace, and is or is not.

use std::{sync::Arc, task::Poll, time::Instant};

use roomcast_protocol::{
    DecodeError,
    engine::{CloseReason, Transport},
    socket::{Limits, Nsp, Packet},
};

use super::connection::{Connection, Job, Place, Seat};
use crate::{
    Principal,
    engine::Mode,
    metrics::Counter,
    socket::{
        connect::{Admission, Entering, Entrance, Lookup, Validity},
        core::{Connect, Handlers, Lifecycle, Socket},
        dispatch::Call,
        life::{Claim, NotAdmitted},
        recovery::Offer,
        words::Refusal,
    },
};

impl Connection {
    /// A client asks to be let in.
    pub(super) fn connect(&mut self, packet: &Packet, now: Instant) -> Result<(), CloseReason> {
        match self.seats.iter().position(|seat| seat.nsp == packet.nsp) {
            Some(position) => match &self.seats.get(position).map(|seat| &seat.place) {
                Some(Place::Taken { socket, .. }) if !socket.is_connected() => {
                    self.clear_seat(position);
                }
                Some(Place::Taken { .. } | Place::Waiting) | None => return Err(self.misplaced()),
            },
            None if self.seats.len() >= self.io.config().sockets.max_namespaces_per_connection => {
                self.clear_disconnected();
            }
            None => {}
        }
        let lookup = self.io.lookup_namespace(packet.nsp.as_str());
        if matches!(lookup, Lookup::Missing) {
            self.refuse(&packet.nsp, &Refusal::new("", "Invalid namespace"));
            return Ok(());
        }
        let payload: usize = packet.args.iter().map(<[u8]>::len).sum();
        if payload > Limits::default().max_connect_payload {
            // It is kept as long as the socket, so only a short one is taken.
            return match &lookup {
                Lookup::Found(handlers) if handlers.authenticate.is_some() => {
                    self.refuse(&packet.nsp, &Refusal::unauthenticated("token too long"));
                    Ok(())
                }
                Lookup::Found(_) | Lookup::Ask(_) | Lookup::Missing => {
                    Err(self.undecodable(DecodeError::TooLarge))
                }
            };
        }
        if self.seats.len() >= self.io.config().sockets.max_namespaces_per_connection {
            self.refuse(&packet.nsp, &Refusal::new("", "Too many namespaces"));
            return Ok(());
        }
        if self.running + self.shared.detached() >= self.io.config().sockets.max_in_flight {
            // Handlers of new and of left namespaces count like those of events.
            self.refuse(
                &packet.nsp,
                &Refusal::new("", "Too many events in progress"),
            );
            return Ok(());
        }
        // The packet's own name would keep the bytes of the packet.
        let nsp = Nsp::from(packet.nsp.as_str());
        let shared = Arc::clone(&self.shared);
        let connect = Connect::new(self.io.clone(), nsp.clone(), shared, packet.args.clone());
        // Most clients are in one namespace, and growing by itself makes room for four.
        self.seats.reserve_exact(1);
        self.seats.push(Seat {
            nsp,
            place: Place::Waiting,
        });
        if let Lookup::Found(handlers) = &lookup
            && handlers.is_open()
            && (self.io.sessions().is_none() || Offer::of(connect.payload()).is_none())
        {
            let entering = Entering {
                handlers: Arc::clone(handlers),
                principal: connect.shared_principal(),
                claim: None,
            };
            self.admit(&connect, entering, now);
            return Ok(());
        }
        let mut admission = Admission::new(lookup, connect);
        match admission.poll_now() {
            Poll::Ready((connect, entrance)) => self.decided(&connect, entrance, now),
            Poll::Pending => self.wait_for(Job::Admission(admission)),
        }
        Ok(())
    }

    pub(super) fn decided(&mut self, connect: &Connect, entrance: Entrance, now: Instant) {
        match entrance {
            Ok(entering) => self.admit(connect, entering, now),
            Err(refusal) => {
                self.seats.retain(|seat| seat.nsp != *connect.nsp());
                self.refuse(connect.nsp(), &refusal);
            }
        }
    }

    fn admit(&mut self, connect: &Connect, entering: Entering, now: Instant) {
        let Entering {
            handlers,
            principal,
            claim,
        } = entering;
        let socket = match claim.and_then(|claim| self.resume(connect, claim, &principal)) {
            Some(socket) => socket,
            None => match self.enter(connect, &handlers, &principal) {
                Ok(socket) => socket,
                Err(refusal) => {
                    self.seats.retain(|seat| seat.nsp != *connect.nsp());
                    self.refuse(connect.nsp(), &refusal);
                    return;
                }
            },
        };
        if self.shared.watchers().is_some() {
            socket.become_curious();
        }
        if !socket.is_connected() {
            // Somebody has disconnected the whole client meanwhile, and did not find it.
            if let (Some(sessions), Some(known)) = (self.io.sessions(), socket.recoverable()) {
                sessions.forget(known.pid);
            }
            socket.end_session();
            self.seats.retain(|seat| seat.nsp != *connect.nsp());
            return;
        }
        self.io.metrics().count(Counter::SocketsConnected);
        tracing::info!(
            socket = %socket.id(),
            namespace = connect.nsp().as_str(),
            user = principal.subject,
            address = %self.shared.handshake.address(),
            transport = %self.shared.outbox.transport(),
            recovered = socket.recovered(),
            "connected"
        );
        self.connect_by = None;
        if let Some(seat) = self
            .seats
            .iter_mut()
            .find(|seat| seat.nsp == *connect.nsp())
        {
            seat.place = Place::Taken {
                socket: socket.clone(),
                lane: None,
                held: None,
                validity: Validity::of(&socket, now),
            };
        }
        self.io.tell(&Lifecycle::Connected { socket: &socket });
        for handler in &handlers.connect {
            let call = Call::own(&socket, "connect");
            if let Some(running) = call.start(&**handler, connect.payload().clone()) {
                self.run(running);
            }
        }
        // It may have been revoked after it was looked at and before anybody found the socket.
        socket.revalidate();
    }

    /// A new socket, which is in its namespace.
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
            if let (Some(sessions), Some(known)) = (self.io.sessions(), socket.recoverable()) {
                sessions.enter(known.pid, socket.downgrade());
            }
            // Known to its connection first, so that whoever finds it can close all of it.
            self.shared.sockets.lock().push(socket.downgrade());
            let Err(why) = namespace.admit(&socket) else {
                return Ok(socket);
            };
            if let (Some(sessions), Some(known)) = (self.io.sessions(), socket.recoverable()) {
                sessions.forget(known.pid);
            }
            self.shared.forget(&socket);
            match why {
                // Its last socket has just left; the next look-up makes a new one.
                NotAdmitted::TakenDown => self.io.take_down(&namespace),
                NotAdmitted::Untold => {
                    socket.end_session();
                    return Err(Refusal::internal());
                }
            }
        }
    }

    /// The socket that a client has been before, if it can still be that.
    fn resume(
        &self,
        connect: &Connect,
        claim: Claim,
        principal: &Arc<Principal>,
    ) -> Option<Socket> {
        let resumed = claim.resume(|old| {
            let (shared, principal) = (Arc::clone(&self.shared), Arc::clone(principal));
            let payload = connect.payload().clone();
            let socket = Socket::recover(old, shared, principal, payload, connect.states());
            self.shared.sockets.lock().push(socket.downgrade());
            socket
        });
        if resumed.is_none() {
            self.shared.forget_gone();
        }
        resumed
    }

    fn refuse(&self, nsp: &Nsp, refusal: &Refusal) {
        self.io.metrics().count(Counter::SocketsRefused);
        let address = self.shared.handshake.address();
        if let Some(more) = self.io.speak_of_refusal() {
            tracing::info!(
                namespace = nsp.as_str(),
                %address,
                reason = refusal.reason(),
                more,
                "refused"
            );
        }
        self.io.tell(&Lifecycle::Refused {
            namespace: nsp.as_str(),
            handshake: self.shared.handshake(),
            refusal,
        });
        let data = refusal
            .connect_data()
            .and_then(|data| serde_json::value::to_raw_value(&data).ok());
        let parser = self.io.config().sockets.parser;
        match parser.connect_error(nsp.as_str(), refusal.message(), data.as_deref()) {
            Ok(frame) => {
                let _ = self.shared.push(&frame, Mode::Reliable, self.io.metrics());
            }
            Err(error) => {
                // A client that would wait for an answer in vain is told by the end of its connection.
                tracing::error!(namespace = nsp.as_str(), %error, "a refusal cannot be encoded");
                self.shared.outbox.close(CloseReason::ForcedClose);
            }
        }
        if self.io.blame(refusal, address.ip()) {
            let outbox = &self.shared.outbox;
            match outbox.transport() {
                Transport::WebSocket => outbox.close(CloseReason::ForcedClose),
                // Its polls are not answered any more.
                Transport::Polling => outbox.abort(CloseReason::ForcedClose),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use roomcast_protocol::socket::{Decoder, Parser};

    use super::*;
    use crate::{
        config::Recovery,
        engine::{Unattended, random_sid},
        metrics::Gauge,
        socket::{Io, fuzzing},
    };

    #[tokio::test]
    async fn a_client_that_cannot_be_told_of_its_socket_has_none_and_its_connection_is_closed() {
        let mut builder = Io::builder().recovery(Recovery::default());
        builder.namespaces(|_| true);
        let io = builder.build().unwrap();
        let outboxes = Unattended::polling(Arc::clone(io.metrics()));
        let outbox = outboxes.outbox(random_sid(), usize::MAX);
        let handshake = fuzzing::handshake();
        let mut connection = Connection::new(&io, outbox.clone(), handshake, Instant::now());
        // JSON has no way to write a name with a comma, and MessagePack has.
        let frame = Parser::MessagePack.connect("/a,b", &()).unwrap();
        let (_, message) = frame.messages().next().unwrap();
        let mut decoder = Decoder::with_parser(Parser::MessagePack, Limits::default());
        let packet = decoder.binary(Bytes::copy_from_slice(message)).unwrap();
        connection
            .connect(&packet.unwrap(), Instant::now())
            .unwrap();

        assert!(connection.seats.is_empty() && connection.shared.sockets.lock().is_empty());
        assert_eq!(io.metrics().gauge(Gauge::Sockets), 0);
        assert!(io.namespaces().is_empty());
        assert!(Unattended::take(&outbox).is_empty());
        assert!(Unattended::is_closing(&outbox));
    }
}
