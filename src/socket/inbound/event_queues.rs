//! Dispatches the events of one client to their handlers, and queues events that have to wait.
//!
//! Events start in order of arrival, except in three cases:
//!
//! - A serial event waits in the serial queue of its socket while another serial event of the
//!   socket is being handled.
//! - An event is parked if the limit of running handlers and middleware is reached.
//! - While packet middleware processes an event, later events of the same socket are held.
//!
//! Middleware runs when an event has left the serial queue and the parked events, so that events
//! start in order with middleware too.

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
        dispatch::{Call, MiddlewareRun, Running},
        types::{Name, Refusal, SocketId},
    },
};

/// An event that waits to be started.
pub(super) struct ParkedEvent {
    pub(super) socket: Socket,
    handler: Option<u32>,
    is_serial: bool,
    packet: Packet,
}

impl ParkedEvent {
    fn bytes(&self) -> usize {
        self.packet.args.size()
    }
}

/// Events of a socket that wait for an event in packet middleware.
#[derive(Default)]
pub(super) struct HeldEvents {
    pub(super) events: VecDeque<ParkedEvent>,
    /// The number of events at the front that are older than the rest, because they were parked or
    /// in the serial queue before.
    older: usize,
}

/// An event that waits in packet middleware.
pub(super) struct EventInMiddleware {
    run: MiddlewareRun,
    call: Call,
}

impl Future for EventInMiddleware {
    type Output = Result<Incoming, Refusal>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        self.run.poll(cx)
    }
}

impl Connection {
    /// Handles an `EVENT` packet.
    pub(super) fn event(&mut self, packet: Packet) -> Result<(), CloseReason> {
        let slot = self.slots.iter().find(|slot| slot.nsp == packet.nsp);
        let Some(SlotState::Occupied { socket, held, .. }) = slot.map(|slot| &slot.state) else {
            return Err(self.misplaced());
        };
        // The client has not received its disconnect yet, so this packet is not an error.
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
            // Most events do not wait.
            self.begin(socket, handler, is_serial, packet);
            return Ok(());
        }
        let event = ParkedEvent {
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

    /// Starts an event or queues it. Returns whether it was queued. A started event may still wait
    /// in middleware or in its handler.
    fn arrive(&mut self, event: ParkedEvent) -> bool {
        let id = event.socket.id();
        let Some((serial_queue, held)) = self.queues(&id) else {
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
                    self.free_serial_queue(&id);
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
        // The size of a single event is not limited, like that of a single packet in an outbox.
        let is_only = self.parked_events == 1;
        let fits = self.parked_events <= config.sockets.max_parked_events
            && (is_only || self.parked_bytes <= config.outbox.outbox_bytes);
        if fits {
            Ok(())
        } else {
            Err(CloseReason::Overflow)
        }
    }

    pub(super) fn count_unparked(&mut self, event: &ParkedEvent) {
        self.parked_events -= 1;
        self.parked_bytes -= event.bytes();
    }

    /// Starts the handlers of an event. Returns whether the event or its handler waits. Then the
    /// next serial event of its socket must not start, if this one is serial.
    fn start(&mut self, event: ParkedEvent) -> bool {
        if !event.socket.is_connected() {
            return false;
        }
        if self.in_middleware > 0
            && let Some(held) = self.held_events(&event.socket.0.id)
        {
            // The event was parked or in the serial queue, so it is older than the events held
            // since.
            let bytes = event.bytes();
            held.events.insert(held.older, event);
            held.older += 1;
            self.parked_events += 1;
            self.parked_bytes += bytes;
            return true;
        }
        let ParkedEvent {
            socket,
            handler,
            is_serial,
            packet,
        } = event;
        self.begin(socket, handler, is_serial, packet)
    }

    /// Starts the handlers of an event that need not be queued. It may still wait in middleware or
    /// in its handler. Returns the same as `start`.
    fn begin(
        &mut self,
        socket: Socket,
        handler: Option<u32>,
        is_serial: bool,
        packet: Packet,
    ) -> bool {
        let handlers = Arc::clone(&socket.namespace_inner().handlers);
        let is_watched = !handlers.any.is_empty() || !handlers.packet_middleware.is_empty();
        let is_observed = is_watched || handlers.fallback.is_some() || socket.listeners().is_some();
        let name = match handler {
            Some(position) => Name::Registered(position),
            None if !is_observed => {
                socket.metrics().count(Counter::EventsUnhandled);
                return false;
            }
            None => Name::Wire(packet.event_name().into()),
        };
        self.watch(&handlers, &socket, &name, &packet.args);
        let has_own_middleware = socket
            .listeners()
            .is_some_and(Listeners::has_packet_middleware);
        let call = Call {
            socket,
            name,
            id: packet.id,
            is_serial,
        };
        if has_own_middleware || !handlers.packet_middleware.is_empty() {
            self.run_middleware(&handlers, call, packet.args)
        } else {
            self.fire(&handlers, call, packet.args)
        }
    }

    /// Calls the catch-all handlers.
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

    /// Runs the middleware of the namespace, then of the socket. Returns whether the event or its
    /// registered handler waits.
    fn run_middleware(&mut self, handlers: &Handlers, call: Call, args: Args) -> bool {
        let mut middleware = handlers.packet_middleware.clone();
        let listeners = call.socket.listeners().into_iter();
        middleware.extend(listeners.flat_map(Listeners::packet_middleware));
        let (socket, name) = (call.socket.clone(), call.name.clone());
        let incoming = Incoming::new(socket, name, args, call.id.is_some());
        let run = MiddlewareRun::new(incoming, middleware);
        let mut event = EventInMiddleware { run, call };
        // Waiting middleware is polled again among the jobs of the connection, with a real waker.
        match event.run.poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(outcome) => self.apply_outcome(&event.call, outcome),
            Poll::Pending => {
                if let Some(held) = self.held_slot(&event.call.socket.0.id) {
                    *held = Some(Box::default());
                }
                self.in_middleware += 1;
                self.running += 1;
                self.wait_for(Job::Middleware(Some(Box::new(event))));
                true
            }
        }
    }

    /// Applies the middleware's decision about an event. Returns whether its registered handler
    /// waits.
    fn apply_outcome(&mut self, call: &Call, outcome: Result<Incoming, Refusal>) -> bool {
        if !call.socket.is_connected() {
            return false;
        }
        match outcome {
            Ok(incoming) => {
                let handlers = Arc::clone(&call.socket.namespace_inner().handlers);
                let (name, args) = incoming.into_parts();
                let call = Call {
                    socket: call.socket.clone(),
                    name,
                    ..*call
                };
                self.fire(&handlers, call, args)
            }
            Err(refusal) => {
                // As in the official server, the client does not receive the refusal.
                call.report(&refusal, false);
                false
            }
        }
    }

    /// Continues with an event whose middleware has completed, then with the events held because of
    /// it.
    pub(super) fn middleware_done(
        &mut self,
        event: &EventInMiddleware,
        outcome: Result<Incoming, Refusal>,
    ) {
        self.in_middleware -= 1;
        let id = event.call.socket.id();
        let mut waiting = self
            .held_slot(&id)
            .and_then(Option::take)
            .unwrap_or_default();
        if !self.apply_outcome(&event.call, outcome) && event.call.is_serial {
            self.free_serial_queue(&id);
        }
        while let Some(event) = waiting.events.pop_front() {
            self.count_unparked(&event);
            self.arrive(event);
            if let Some(held) = self.held_events(&id) {
                // The event that was just started is in middleware, and the rest waits for it.
                held.events.append(&mut waiting.events);
                return;
            }
        }
    }

    /// Calls the handlers of an event. Only the first one can acknowledge it. Returns whether the
    /// handler of the namespace, or its fallback, waits.
    fn fire(&mut self, handlers: &Handlers, mut call: Call, args: Args) -> bool {
        // Middleware may have changed the event's name to one with a handler.
        if let Name::Wire(wire) = &call.name
            && let Some(position) = handlers.find(wire.as_bytes())
        {
            call.name = Name::Registered(position);
        }
        let own = match call.name {
            Name::Registered(position) => handlers.event(position),
            Name::Wire(_) | Name::Own(_) => None,
        };
        let own = own.map(|registered| registered.handler());
        let socket = &call.socket;
        let listeners = socket.listeners();
        let listeners = listeners.map(|known| known.take(socket.event_name(&call.name)));
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
            event = socket.event_name(&call.name),
            arguments = args.len(),
            wants_ack = call.id.is_some(),
            "event"
        );
        if listeners.is_empty()
            && let Some(own) = own
        {
            let running = call.start(own, args);
            return running.map(|running| self.run(running)).is_some();
        }
        let mut waits = false;
        // Only the first handler receives the id, and may acknowledge.
        let mut next = |is_serial| Call {
            socket: call.socket.clone(),
            name: call.name.clone(),
            id: call.id.take(),
            is_serial,
        };
        if let Some(own) = own
            && let Some(running) = next(call.is_serial).start(own, args.clone())
        {
            self.run(running);
            waits = true;
        }
        for listener in listeners {
            if let Some(running) = next(false).start(&*listener, args.clone()) {
                self.run(running);
            }
        }
        waits
    }

    pub(super) fn run(&mut self, running: Running) {
        self.running += 1;
        self.wait_for(Job::Handler(running));
    }

    /// Starts the next serial events of a socket after the running one has ended.
    pub(super) fn free_serial_queue(&mut self, id: &SocketId) {
        loop {
            // A loop instead of recursion, because thousands of queued events may complete
            // immediately.
            let Some((serial_queue, _)) = self.queues(id) else {
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

    /// Starts parked events while there is room.
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
                self.free_serial_queue(&id);
            }
        }
    }

    /// Returns the serial queue of a socket and the slot of its held events.
    fn queues(
        &mut self,
        id: &SocketId,
    ) -> Option<(&mut Option<VecDeque<ParkedEvent>>, &mut HeldSlot)> {
        self.slots
            .iter_mut()
            .find_map(|slot| match &mut slot.state {
                SlotState::Occupied {
                    socket,
                    serial_queue,
                    held,
                    ..
                } if socket.0.id == *id => Some((serial_queue, held)),
                SlotState::Occupied { .. } | SlotState::Connecting => None,
            })
    }

    fn held_slot(&mut self, id: &SocketId) -> Option<&mut HeldSlot> {
        self.queues(id).map(|(_, held)| held)
    }

    fn held_events(&mut self, id: &SocketId) -> Option<&mut HeldEvents> {
        self.held_slot(id)?.as_deref_mut()
    }
}

type HeldSlot = Option<Box<HeldEvents>>;
