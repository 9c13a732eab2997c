//! Handles packets of the server for a namespace.

use roomcast_protocol::socket::{Arguments, Kind, Nsp, Packet, Parser};

use super::{
    Driver,
    calls::Calls,
    connecting::MALFORMED,
    namespace::{Namespace, Stage},
};
use crate::{
    client::{
        api::{Incoming, ListenerTarget, Pending},
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
                if namespace.early_bytes > self.settings.options.max_message {
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
        let Some(namespace) = self.namespaces.get(nsp) else {
            return;
        };
        let Some(socket) = self.socket(&namespace.shared) else {
            return;
        };
        let name = packet.event_name().to_owned();
        if let Some(namespace) = self.namespaces.get_mut(nsp) {
            if ack.is_none() {
                namespace.note(&packet.args);
            }
            let event = Incoming::new(socket, name, packet.args, ack);
            dispatch(namespace, &mut self.calls, event, false);
        }
    }

    /// Dispatches an event that the client generates itself.
    pub(super) fn own_event(&mut self, nsp: &Nsp, name: &str, args: &impl Arguments) {
        let Some(namespace) = self.namespaces.get(nsp) else {
            return;
        };
        let Some(socket) = self.socket(&namespace.shared) else {
            return;
        };
        let args = arguments(Parser::Json, args).unwrap_or_default();
        let event = Incoming::new(socket, name.to_owned(), args, None);
        if let Some(namespace) = self.namespaces.get_mut(nsp) {
            dispatch(namespace, &mut self.calls, event, true);
        }
    }
}

/// Dispatches an event to all its listeners.
///
/// The first handler for its name acknowledges it. If there is none, the first stream may.
fn dispatch(namespace: &mut Namespace, calls: &mut Calls, mut event: Incoming, is_own: bool) {
    let any = match is_own {
        true => Vec::new(),
        false => namespace.listeners.of_any(),
    };
    let named = namespace.listeners.take_named(&event.name);
    let mut ack = event.take_ack();
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
