//! Handles packets of the server for a namespace.

use std::sync::Arc;

use roomcast_protocol::socket::{Args, Arguments, Kind, Nsp, Packet, Parser};

use super::{Driver, connecting::MALFORMED, namespace::Stage};
use crate::{
    client::{
        api::{Client, Incoming, ListenerTarget, Pending, Socket},
        handshake::{self, Admission},
    },
    socket::arguments,
};

impl Driver {
    pub(super) fn receive(&mut self, packet: Packet) {
        let Some(namespace) = self.namespaces.get_mut(&packet.nsp) else {
            return; // The client has not entered this namespace.
        };
        let nsp = namespace.shared.nsp.clone();
        match (packet.kind, namespace.stage) {
            (Kind::Connect, Stage::Connecting(_)) => match Admission::read(&packet) {
                Ok(admission) => self.entered(&nsp, admission),
                Err(error) => self.give_up(&nsp, &error),
            },
            // The socket was disconnected before the answer arrived.
            (Kind::Connect, Stage::Out) => self.send_disconnect(&nsp, None),
            (Kind::ConnectError, Stage::Connecting(_)) => {
                self.give_up(&nsp, &handshake::refusal(&packet));
            }
            (Kind::Disconnect, Stage::Connecting(_) | Stage::In) => self.disconnected(&nsp),
            (Kind::Event, Stage::In) => self.event(&nsp, packet),
            (Kind::Event, Stage::Connecting(_)) => {
                namespace.early_bytes += handshake::weight(&packet);
                namespace.early.push(packet);
                if namespace.early_bytes > self.settings.target.options.max_message {
                    self.lost(&MALFORMED);
                }
            }
            (Kind::Ack, Stage::In) => {
                if let Some(id) = packet.id {
                    self.acknowledged(&nsp, id, packet.args);
                }
            }
            (Kind::Connect | Kind::ConnectError, Stage::In)
            | (Kind::Ack, Stage::Connecting(_))
            | (Kind::ConnectError | Kind::Disconnect | Kind::Event | Kind::Ack, Stage::Out) => {}
        }
    }

    /// Handles the server's admission of a socket.
    fn entered(&mut self, nsp: &Nsp, admission: Admission) {
        let Some(namespace) = self.namespaces.get_mut(nsp) else {
            return;
        };
        namespace.enter(&admission.sid, admission.pid);
        // The order is that of the official client: missed events, queued events, then `connect`.
        for packet in std::mem::take(&mut namespace.early) {
            self.event(nsp, packet);
        }
        self.flush(nsp, super::phase::HIGH_WATER);
        self.drain(nsp);
        self.own_event(nsp, "connect", &());
        if let Some(namespace) = self.namespaces.get_mut(nsp) {
            namespace.settle(Ok(()));
        }
    }

    /// Handles an event of the server.
    fn event(&mut self, nsp: &Nsp, packet: Packet) {
        let ack = packet.id.map(|id| Pending {
            epoch: self.epoch,
            id,
        });
        let name = packet.event_name().to_owned();
        if ack.is_none()
            && let Some(namespace) = self.namespaces.get_mut(nsp)
        {
            namespace.note(&packet.args);
        }
        self.dispatch(nsp, name, packet.args, ack, false);
    }

    /// Dispatches an event that the client generates itself.
    pub(super) fn own_event(&mut self, nsp: &Nsp, name: &str, args: &impl Arguments) {
        let args = arguments(Parser::Json, args).unwrap_or_default();
        self.dispatch(nsp, name.to_owned(), args, None, true);
    }

    /// Dispatches an event to all its listeners.
    ///
    /// The first handler for its name acknowledges it. If there is none, the first stream may.
    fn dispatch(
        &mut self,
        nsp: &Nsp,
        name: String,
        args: Args,
        mut ack: Option<Pending>,
        is_own: bool,
    ) {
        let Some(namespace) = self.namespaces.get_mut(nsp) else {
            return;
        };
        let Some(client) = Client::upgrade(&self.handle) else {
            return;
        };
        let socket = Socket::new(client, Arc::clone(&namespace.shared));
        let event = Incoming::new(socket, name, args, None);
        let calls = &mut self.calls;
        let any = match is_own {
            true => Vec::new(),
            false => namespace.listeners.of_any(),
        };
        let named = namespace.listeners.take_named(&event.name);
        let has_handler = named
            .iter()
            .any(|target| matches!(target, ListenerTarget::Handler(_)));
        let any = any.into_iter().map(|target| (target, false));
        for (target, is_named) in any.chain(named.into_iter().map(|target| (target, true))) {
            match target {
                ListenerTarget::Handler(handler) => {
                    let ack = if is_named { ack.take() } else { None };
                    calls.call(&*handler, &event, ack);
                }
                ListenerTarget::Stream(sink) => {
                    let ack = if has_handler { None } else { ack.take() };
                    calls.offer(&sink, event.with_ack(ack));
                }
                ListenerTarget::Outgoing(_) => {}
            }
        }
    }
}
