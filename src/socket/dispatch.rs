//! Events of one client on their way to their handlers: which start at once, which wait, and when
//! those may go on.
//!
//! Events start in the order in which they arrive. One that is handled serially waits in the lane
//! of its socket for the one at work; one for which there is no room waits among the parked.

use std::{collections::VecDeque, sync::Arc};

use roomcast_protocol::{engine::CloseReason, socket::Packet};

use super::{
    connection::{Connection, Job, Place},
    event::Name,
    id::SocketId,
    running::{Call, Running},
    socket::Socket,
};
use crate::metrics::Counter;

/// An event that waits for its turn.
pub(super) struct Parked {
    pub(super) socket: Socket,
    handler: Option<u32>,
    is_serial: bool,
    packet: Packet,
}

impl Parked {
    fn bytes(&self) -> usize {
        let args = &self.packet.args;
        args.iter().map(<[u8]>::len).sum::<usize>()
            + args
                .attachments()
                .iter()
                .map(bytes::Bytes::len)
                .sum::<usize>()
    }
}

impl Connection {
    /// Something happens at a client.
    pub(super) fn event(&mut self, packet: Packet) -> Result<(), CloseReason> {
        let seat = self.seats.iter_mut().find(|seat| seat.nsp == packet.nsp);
        let Some(Place::Taken { socket, lane, .. }) = seat.map(|seat| &mut seat.place) else {
            return Err(self.misplaced());
        };
        if !socket.is_connected() {
            return Ok(());
        }
        let handlers = &socket.namespace_inner().handlers;
        let handler = handlers.find(packet.event_name());
        let is_serial = handler
            .and_then(|position| handlers.event(position))
            .is_some_and(|registered| registered.is_serial);
        let event = Parked {
            socket: socket.clone(),
            handler,
            is_serial,
            packet,
        };
        match lane {
            Some(lane) if is_serial => {
                lane.push_back(event);
                let bytes = lane.back().map_or(0, Parked::bytes);
                self.count_parked(bytes)
            }
            _ if self.running >= self.io.config().max_in_flight => {
                if is_serial {
                    *lane = Some(VecDeque::new());
                }
                let bytes = event.bytes();
                self.parked.push_back(event);
                self.count_parked(bytes)
            }
            lane => {
                if is_serial {
                    *lane = Some(VecDeque::new());
                }
                let socket = is_serial.then(|| event.socket.id());
                if !self.start(event)
                    && let Some(id) = socket
                {
                    self.free_lane(id);
                }
                Ok(())
            }
        }
    }

    fn count_parked(&mut self, bytes: usize) -> Result<(), CloseReason> {
        let config = self.io.config();
        // One event is always taken, like one packet by an outbox.
        let is_first = self.parked_events == 0;
        self.parked_events += 1;
        self.parked_bytes += bytes;
        let fits = self.parked_events <= config.max_parked_events
            && (is_first || self.parked_bytes <= config.outbox_bytes);
        if fits {
            Ok(())
        } else {
            Err(CloseReason::Overflow)
        }
    }

    pub(super) fn count_unparked(&mut self, event: &Parked) {
        self.parked_events -= 1;
        self.parked_bytes -= event.bytes();
    }

    /// Starts the handlers of an event. `true`: its own one waits.
    fn start(&mut self, event: Parked) -> bool {
        let Parked {
            socket,
            handler,
            is_serial,
            packet,
        } = event;
        if !socket.is_connected() {
            return false;
        }
        let handlers = Arc::clone(&socket.namespace_inner().handlers);
        let name = match handler {
            Some(position) => Name::Registered(position),
            None if handlers.any.is_empty() && handlers.fallback.is_none() => {
                socket.metrics().count(Counter::EventsUnhandled);
                return false;
            }
            None => Name::Wire(packet.event_name().into()),
        };
        for watcher in &handlers.any {
            let call = Call {
                socket: socket.clone(),
                name: name.clone(),
                id: None,
                is_serial: false,
            };
            if let Some(running) = call.start(&**watcher, packet.args.clone()) {
                self.run(running);
            }
        }
        let registered = handler.and_then(|position| handlers.event(position));
        let own = registered
            .map(|registered| registered.handler())
            .or(handlers.fallback.as_deref());
        let Some(own) = own else {
            socket.metrics().count(Counter::EventsUnhandled);
            return false;
        };
        socket.metrics().count(Counter::EventsHandled);
        tracing::debug!(
            socket = %socket.id(),
            event = socket.event_name(&name),
            arguments = packet.args.len(),
            wants_ack = packet.id.is_some(),
            "event"
        );
        let call = Call {
            socket,
            name,
            id: packet.id,
            is_serial,
        };
        match call.start(own, packet.args) {
            Some(running) => {
                self.run(running);
                true
            }
            None => false,
        }
    }

    pub(super) fn run(&mut self, running: Running) {
        self.running += 1;
        self.wait_for(Job::Handler(running));
    }

    /// The serial event at work on a socket has ended: the next ones may start.
    pub(super) fn free_lane(&mut self, id: SocketId) {
        loop {
            let lane = self
                .seats
                .iter_mut()
                .find_map(|seat| match &mut seat.place {
                    Place::Taken { socket, lane, .. } if socket.id() == id => Some(lane),
                    Place::Taken { .. } | Place::Waiting => None,
                });
            let Some(lane) = lane else {
                return;
            };
            let Some(event) = lane.as_mut().and_then(VecDeque::pop_front) else {
                *lane = None;
                return;
            };
            if self.running >= self.io.config().max_in_flight {
                self.parked.push_back(event);
                return;
            }
            self.count_unparked(&event);
            if self.start(event) {
                return;
            }
        }
    }

    /// Starts parked events while there is room for them.
    pub(super) fn unpark(&mut self) {
        while self.running < self.io.config().max_in_flight {
            let Some(event) = self.parked.pop_front() else {
                return;
            };
            self.count_unparked(&event);
            let serial = event.is_serial.then(|| event.socket.id());
            if !self.start(event)
                && let Some(id) = serial
            {
                self.free_lane(id);
            }
        }
    }
}
