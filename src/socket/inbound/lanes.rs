//! Events of one client on their way to their handlers: which start at once, which wait, and when
//! those may go on.
//!
//! Events start in the order in which they arrive. One that is handled serially waits in the serial queue
//! of its socket for the one at work; one for which there is no room waits among the parked; and
//! while a check of packets thinks about one, those behind it on the same socket are held.

use std::{
    collections::VecDeque,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
};

use roomcast_protocol::{
    engine::CloseReason,
    socket::{Args, Packet},
};

use super::connection::{Connection, Job, SlotState};
use crate::{
    metrics::Counter,
    socket::{
        core::{Handlers, Incoming, Listeners, Socket},
        dispatch::{Call, Checking, Running},
        words::{Name, Refusal, SocketId},
    },
};

/// An event that waits for its turn.
pub(super) struct Parked {
    pub(super) socket: Socket,
    handler: Option<u32>,
    is_serial: bool,
    packet: Packet,
}

impl Parked {
    fn bytes(&self) -> usize {
        self.packet.args.size()
    }
}

/// Events of a socket that wait for one before them to be checked.
#[derive(Default)]
pub(super) struct Held {
    pub(super) events: VecDeque<Parked>,
    /// How many at the front had been waiting elsewhere before.
    older: usize,
}

/// An event that all watchers have seen and all checks let pass.
struct Passed {
    socket: Socket,
    name: Name,
    id: Option<u64>,
    is_serial: bool,
    args: Args,
}

/// An event that a check thinks about.
pub(super) struct Checked {
    checking: Checking,
    socket: Socket,
    name: Name,
    id: Option<u64>,
    is_serial: bool,
}

impl Future for Checked {
    type Output = Result<Incoming, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.checking.poll(cx)
    }
}

impl Connection {
    /// Something happens at a client.
    pub(super) fn event(&mut self, packet: Packet) -> Result<(), CloseReason> {
        let slot = self.slots.iter().find(|slot| slot.nsp == packet.nsp);
        let Some(SlotState::Occupied { socket, held, .. }) = slot.map(|slot| &slot.state) else {
            return Err(self.misplaced());
        };
        if !socket.is_connected() {
            return Ok(());
        }
        let handlers = &socket.namespace_inner().handlers;
        let handler = handlers.find(packet.event_name_bytes());
        let is_serial = handler
            .and_then(|position| handlers.event(position))
            .is_some_and(|registered| registered.is_serial);
        let socket = socket.clone();
        if !is_serial && held.is_none() && self.running < self.io.config().sockets.max_in_flight {
            // Most have nothing to wait for.
            self.begin(socket, handler, is_serial, packet);
            return Ok(());
        }
        let event = Parked {
            socket,
            handler,
            is_serial,
            packet,
        };
        if self.arrive(event) {
            self.check_parked()
        } else {
            Ok(())
        }
    }

    /// An event has its turn among those of its socket. `true`: it still has to wait.
    fn arrive(&mut self, event: Parked) -> bool {
        let id = event.socket.id();
        let slots = self.slots.iter_mut();
        let state = slots.map(|slot| &mut slot.state).find(|state| match state {
            SlotState::Occupied { socket, .. } => socket.id() == id,
            SlotState::Connecting => false,
        });
        let Some(SlotState::Occupied {
            serial_queue, held, ..
        }) = state
        else {
            return false;
        };
        let is_serial = event.is_serial;
        let bytes = event.bytes();
        if let Some(held) = held {
            held.events.push_back(event);
        } else if let Some(serial_queue) = serial_queue
            && is_serial
        {
            serial_queue.push_back(event);
        } else {
            if is_serial {
                *serial_queue = Some(VecDeque::new());
            }
            if self.running < self.io.config().sockets.max_in_flight {
                if !self.start(event) && is_serial {
                    self.free_serial_queue(id);
                }
                return false;
            }
            self.parked.push_back(event);
        }
        self.parked_events += 1;
        self.parked_bytes += bytes;
        true
    }

    fn check_parked(&self) -> Result<(), CloseReason> {
        let config = self.io.config();
        // One event is always taken, like one packet by an outbox.
        let is_only = self.parked_events == 1;
        let fits = self.parked_events <= config.sockets.max_parked_events
            && (is_only || self.parked_bytes <= config.outbox.outbox_bytes);
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

    /// Starts the handlers of an event. `true`: its own one waits, or it does itself.
    fn start(&mut self, event: Parked) -> bool {
        if !event.socket.is_connected() {
            return false;
        }
        if self.checking > 0
            && let Some(held) = self.held(event.socket.id())
        {
            // It has waited elsewhere, so it is older than what has come since.
            let bytes = event.bytes();
            held.events.insert(held.older, event);
            held.older += 1;
            self.parked_events += 1;
            self.parked_bytes += bytes;
            return true;
        }
        let Parked {
            socket,
            handler,
            is_serial,
            packet,
        } = event;
        self.begin(socket, handler, is_serial, packet)
    }

    /// The same for one that nothing holds back.
    fn begin(
        &mut self,
        socket: Socket,
        handler: Option<u32>,
        is_serial: bool,
        packet: Packet,
    ) -> bool {
        let handlers = Arc::clone(&socket.namespace_inner().handlers);
        let is_watched = !handlers.any.is_empty() || !handlers.checks.is_empty();
        let is_wanted = is_watched || handlers.fallback.is_some() || socket.listeners().is_some();
        let name = match handler {
            Some(position) => Name::Registered(position),
            None if !is_wanted => {
                socket.metrics().count(Counter::EventsUnhandled);
                return false;
            }
            None => Name::Wire(packet.event_name().into()),
        };
        self.watch(&handlers, &socket, &name, &packet.args);
        let own_checks = socket.listeners().is_some_and(Listeners::has_checks);
        let passed = Passed {
            socket,
            name,
            id: packet.id,
            is_serial,
            args: packet.args,
        };
        if own_checks || !handlers.checks.is_empty() {
            self.check(&handlers, passed)
        } else {
            self.fire(&handlers, passed)
        }
    }

    /// Calls those who watch all events.
    fn watch(&mut self, handlers: &Handlers, socket: &Socket, name: &Name, args: &Args) {
        let call = || Call {
            socket: socket.clone(),
            name: name.clone(),
            id: None,
            is_serial: false,
        };
        for watcher in &handlers.any {
            if let Some(running) = call().start(&**watcher, args.clone()) {
                self.run(running);
            }
        }
        let Some(listeners) = socket.listeners() else {
            return;
        };
        for watcher in listeners.any() {
            if let Some(running) = call().start(&*watcher, args.clone()) {
                self.run(running);
            }
        }
    }

    /// Asks the checks about an event, those of the namespace first. `true`: it or its own handler
    /// waits.
    fn check(&mut self, handlers: &Handlers, event: Passed) -> bool {
        let mut checks = handlers.checks.clone();
        checks.extend(
            event
                .socket
                .listeners()
                .into_iter()
                .flat_map(Listeners::checks),
        );
        let Passed {
            socket,
            name,
            id,
            is_serial,
            args,
        } = event;
        let incoming = Incoming::new(socket.clone(), name.clone(), args, id.is_some());
        let mut checked = Checked {
            checking: Checking::new(incoming, checks),
            socket,
            name,
            id,
            is_serial,
        };
        match checked
            .checking
            .poll(&mut Context::from_waker(Waker::noop()))
        {
            Poll::Ready(verdict) => self.judge(&checked, verdict),
            Poll::Pending => {
                if let Some(held) = self.hold(checked.socket.id()) {
                    *held = Some(Box::default());
                }
                self.checking += 1;
                self.running += 1;
                self.wait_for(Job::Check(Some(Box::new(checked))));
                true
            }
        }
    }

    /// What the checks have said about an event. `true`: its own handler waits.
    fn judge(&mut self, checked: &Checked, verdict: Result<Incoming, Refusal>) -> bool {
        let socket = &checked.socket;
        if !socket.is_connected() {
            return false;
        }
        match verdict {
            Ok(incoming) => {
                let handlers = Arc::clone(&socket.namespace_inner().handlers);
                let (name, args) = incoming.into_parts();
                let passed = Passed {
                    socket: socket.clone(),
                    name,
                    id: checked.id,
                    is_serial: checked.is_serial,
                    args,
                };
                self.fire(&handlers, passed)
            }
            Err(refusal) => {
                // As with the official server the client learns nothing of it.
                let call = Call {
                    socket: socket.clone(),
                    name: checked.name.clone(),
                    id: None,
                    is_serial: false,
                };
                call.fail(&refusal);
                false
            }
        }
    }

    /// A check has thought long enough: its event goes on, and those that were held behind it.
    pub(super) fn checked(&mut self, checked: &Checked, verdict: Result<Incoming, Refusal>) {
        self.checking -= 1;
        let id = checked.socket.id();
        let mut waiting = self.hold(id).and_then(Option::take).unwrap_or_default();
        if !self.judge(checked, verdict) && checked.is_serial {
            self.free_serial_queue(id);
        }
        while let Some(event) = waiting.events.pop_front() {
            self.count_unparked(&event);
            self.arrive(event);
            if let Some(held) = self.held(id) {
                // One is being checked in its turn.
                held.events.append(&mut waiting.events);
                return;
            }
        }
    }

    /// Calls the handlers of an event; the first of them answers. `true`: the one of the namespace
    /// waits.
    fn fire(&mut self, handlers: &Handlers, event: Passed) -> bool {
        let Passed {
            socket,
            name,
            id,
            is_serial,
            args,
        } = event;
        let (name, position) = match name {
            Name::Wire(wire) => match handlers.find(wire.as_bytes()) {
                Some(position) => (Name::Registered(position), Some(position)),
                None => (Name::Wire(wire), None),
            },
            Name::Registered(position) => (Name::Registered(position), Some(position)),
            Name::Own(own) => (Name::Own(own), None),
        };
        let own = position.and_then(|position| handlers.event(position));
        let own = own.map(|registered| registered.handler());
        let listeners = socket.listeners();
        let listeners = listeners.map(|known| known.take(socket.event_name(&name)));
        let listeners = listeners.unwrap_or_default();
        let own = match own {
            None if listeners.is_empty() => handlers.fallback.as_deref(),
            own => own,
        };
        if own.is_none() && listeners.is_empty() {
            socket.metrics().count(Counter::EventsUnhandled);
            return false;
        }
        socket.metrics().count(Counter::EventsHandled);
        tracing::debug!(
            socket = %socket.id(),
            event = socket.event_name(&name),
            arguments = args.len(),
            wants_ack = id.is_some(),
            "event"
        );
        if listeners.is_empty()
            && let Some(own) = own
        {
            let call = Call {
                socket,
                name,
                id,
                is_serial,
            };
            let running = call.start(own, args);
            return running.map(|running| self.run(running)).is_some();
        }
        let mut id = id;
        let mut call = |is_serial| Call {
            socket: socket.clone(),
            name: name.clone(),
            id: id.take(),
            is_serial,
        };
        let mut waits = false;
        if let Some(own) = own {
            let call = call(is_serial);
            if let Some(running) = call.start(own, args.clone()) {
                self.run(running);
                waits = true;
            }
        }
        for listener in listeners {
            if let Some(running) = call(false).start(&*listener, args.clone()) {
                self.run(running);
            }
        }
        waits
    }

    pub(super) fn run(&mut self, running: Running) {
        self.running += 1;
        self.wait_for(Job::Handler(running));
    }

    /// The serial event at work on a socket has ended: the next ones may start.
    pub(super) fn free_serial_queue(&mut self, id: SocketId) {
        loop {
            let serial_queue = self
                .slots
                .iter_mut()
                .find_map(|slot| match &mut slot.state {
                    SlotState::Occupied {
                        socket,
                        serial_queue,
                        ..
                    } if socket.id() == id => Some(serial_queue),
                    SlotState::Occupied { .. } | SlotState::Connecting => None,
                });
            let Some(serial_queue) = serial_queue else {
                return;
            };
            let Some(event) = serial_queue.as_mut().and_then(VecDeque::pop_front) else {
                *serial_queue = None;
                return;
            };
            if self.running >= self.io.config().sockets.max_in_flight {
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
        while self.running < self.io.config().sockets.max_in_flight {
            let Some(event) = self.parked.pop_front() else {
                return;
            };
            self.count_unparked(&event);
            let serial = event.is_serial.then(|| event.socket.id());
            if !self.start(event)
                && let Some(id) = serial
            {
                self.free_serial_queue(id);
            }
        }
    }

    /// Where events of a socket are held while one is checked.
    fn hold(&mut self, id: SocketId) -> Option<&mut Option<Box<Held>>> {
        let slots = self.slots.iter_mut();
        slots
            .map(|slot| &mut slot.state)
            .find_map(|state| match state {
                SlotState::Occupied { socket, held, .. } if socket.id() == id => Some(held),
                SlotState::Occupied { .. } | SlotState::Connecting => None,
            })
    }

    fn held(&mut self, id: SocketId) -> Option<&mut Held> {
        self.hold(id)?.as_deref_mut()
    }
}
