//! Records what clients send, for replays.
//!
//! A recorder is part of a tracer. It observes each selected socket, masks what the client sends
//! and the server's answers, and queues them as lines. The payload of `CONNECT` is never recorded.

mod backlog;
mod line;
mod mask;

use std::collections::{HashMap, hash_map::Entry};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Instant;

use parking_lot::Mutex;
use roomcast::{Socket, SocketId, connection::EngineConnectionEvent};
use roomcast_protocol::socket::RESERVED_EVENTS;
use serde_json::{Value, value::to_raw_value};

pub(crate) use self::backlog::Backlog;
pub(crate) use self::line::{
    Answered, Dropped, Ended, Header, Opened, RecordLine, SentEvent, VERSION,
};
use self::line::{Closed, Skipped};
pub(crate) use self::mask::{Masker, Policy, Vocabulary, names_user};
use super::packet::{Kind, Packet};
use super::tracer::{Line, Tracer};
use super::watch::created;
use crate::metrics::Size;

/// The state of one recording.
#[derive(Debug)]
pub(crate) struct Recorder {
    masker: Masker,
    start: Instant,
    connections: Mutex<Connections>,
    /// Bytes of the lines in the queue.
    queued: AtomicUsize,
    /// Bytes of all lines.
    recorded: AtomicU64,
    is_full: AtomicBool,
}

#[derive(Debug, Default)]
struct Connections {
    /// The number of the last recorded connection.
    last: u32,
    /// The numbers of the connected sockets.
    numbers: HashMap<SocketId, u32>,
}

/// When a recorder found a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Found {
    /// While it connected.
    Connecting,
    /// When the recording started.
    Connected,
}

impl Recorder {
    pub(crate) fn new(masker: Masker) -> Self {
        Self {
            masker,
            start: Instant::now(),
            connections: Mutex::default(),
            queued: AtomicUsize::new(0),
            recorded: AtomicU64::new(0),
            is_full: AtomicBool::new(false),
        }
    }

    /// Returns whether texts and users are removed.
    pub(crate) const fn is_masked(&self) -> bool {
        self.masker.is_masked()
    }

    /// Returns whether the recording has reached its maximum size, and must end.
    pub(crate) fn is_full(&self) -> bool {
        self.is_full.load(Ordering::Relaxed)
    }

    /// Returns the milliseconds since the start.
    pub(crate) fn at_ms(&self) -> f64 {
        milliseconds(self.start, Instant::now())
    }

    /// Returns the bytes of the queued lines.
    pub(super) fn queued_bytes(&self) -> usize {
        self.queued.load(Ordering::Relaxed)
    }

    /// Returns the size of the table of recorded connections.
    pub(super) fn connections(&self) -> Size {
        Size::of_map(&self.connections.lock().numbers)
    }

    /// Notes that a line has left the queue.
    pub(crate) fn take(&self, line: &Line) {
        self.queued.fetch_sub(line.len(), Ordering::Relaxed);
    }

    /// Queues a line, or counts it if it finds no place. Returns whether it is queued.
    fn queue(&self, tracer: &Tracer, line: &RecordLine) -> bool {
        if tracer.is_stopped() {
            return false;
        }
        let text = line.text();
        let length = text.len();
        let recorded = self.recorded.fetch_add(length as u64, Ordering::Relaxed);
        if recorded >= MAX_RECORDED {
            self.is_full.store(true, Ordering::Relaxed);
            return false;
        }
        // The reader can take the line before this function ends, so its bytes are counted first.
        let queued = self.queued.fetch_add(length, Ordering::Relaxed);
        let is_queued = if queued > MAX_QUEUED {
            tracer.count_dropped(1);
            false
        } else {
            tracer.queue(text)
        };
        if !is_queued {
            self.queued.fetch_sub(length, Ordering::Relaxed);
        }
        is_queued
    }

    /// Queues a line about an open connection, as [`queue`](Self::queue) does. An observer can
    /// still run while its socket disconnects on another thread, and its line is ignored then:
    /// nothing follows the close of a connection.
    fn queue_of(&self, tracer: &Tracer, socket: &SocketId, line: &RecordLine) -> bool {
        let connections = self.connections.lock();
        connections.numbers.contains_key(socket) && self.queue(tracer, line)
    }

    /// Returns a number for a new connection, or `None` if the socket has one or there are too
    /// many.
    fn admit(&self, tracer: &Tracer, socket: SocketId) -> Option<u32> {
        let mut connections = self.connections.lock();
        let next = connections.last + 1;
        match connections.numbers.entry(socket) {
            Entry::Occupied(_) => return None,
            Entry::Vacant(_) if next > MAX_CONNECTIONS => {}
            Entry::Vacant(place) => {
                place.insert(next);
                connections.last = next;
                return Some(next);
            }
        }
        drop(connections);
        tracer.count_dropped(1);
        None
    }

    /// Takes back the number of a connection that found no place in the queue.
    fn withdraw(&self, socket: &SocketId, number: u32) {
        let mut connections = self.connections.lock();
        connections.numbers.remove(socket);
        // A later connection may already have the next number.
        if connections.last == number {
            connections.last -= 1;
        }
    }
}

/// Records that a socket is connected, and what its client sends from now on.
pub(super) fn observe(tracer: &Arc<Tracer>, recorder: &Recorder, socket: &Socket, found: Found) {
    let Some(connection) = recorder.admit(tracer, socket.id()) else {
        return;
    };
    let namespace = socket.namespace().name().to_owned();
    let opened = RecordLine::Open(Opened {
        at_ms: recorder.at_ms(),
        connection,
        namespace: namespace.clone(),
        transport: socket.transport().as_str().to_owned(),
        user: recorder.masker.user(&socket.principal().subject),
        before: found == Found::Connected,
    });
    // The lines of a connection that is not in the recording would be useless.
    if !recorder.queue(tracer, &opened) {
        recorder.withdraw(&socket.id(), connection);
        return;
    }
    let observer = Observer {
        tracer: Arc::clone(tracer),
        socket: socket.id(),
        connection,
        namespace,
        attachments: AtomicU64::new(0),
        pending: Mutex::default(),
    };
    let engine = socket.conn();
    match engine.on_event(move |event| observer.notify(event)) {
        Ok(listener) => {
            let mut observed = tracer.observed.lock();
            // A tracer that has ended removes no further observers.
            if tracer.is_stopped() {
                drop(observed);
                engine.off(listener);
            } else {
                observed.insert(socket.id(), (engine, listener));
            }
        }
        Err(error) => {
            let reason = error.to_string();
            close(tracer, recorder, socket, &reason);
        }
    }
    // A socket can disconnect before it has a number, and has no close then.
    if found == Found::Connected && !socket.is_connected() {
        disconnected(tracer, recorder, socket, DISCONNECTED);
    }
}

/// Records that a socket disconnected.
pub(super) fn disconnected(tracer: &Tracer, recorder: &Recorder, socket: &Socket, reason: &str) {
    let observed = tracer.observed.lock().remove(&socket.id());
    if let Some((connection, listener)) = observed {
        connection.off(listener);
    }
    close(tracer, recorder, socket, reason);
}

fn close(tracer: &Tracer, recorder: &Recorder, socket: &Socket, reason: &str) {
    // The lock is held until the line is queued: see `Recorder::queue_of`.
    let mut connections = recorder.connections.lock();
    if let Some(connection) = connections.numbers.remove(&socket.id()) {
        let line = RecordLine::Close(Closed {
            at_ms: recorder.at_ms(),
            connection,
            reason: reason.to_owned(),
        });
        let _ = recorder.queue(tracer, &line);
    }
}

/// The observer of one socket.
struct Observer {
    tracer: Arc<Tracer>,
    socket: SocketId,
    connection: u32,
    namespace: String,
    /// Attachments of the last packet that have not arrived yet.
    attachments: AtomicU64,
    /// The recorded events that are not answered, by the id of their acknowledgement.
    pending: Mutex<HashMap<u64, Pending>>,
}

/// An event that is not answered.
struct Pending {
    event: String,
    arrived: Instant,
}

impl Observer {
    fn notify(&self, event: &EngineConnectionEvent<'_>) {
        let Some(recorder) = &self.tracer.recorder else {
            return;
        };
        match event {
            EngineConnectionEvent::Packet { data } => self.received(recorder, data),
            EngineConnectionEvent::PacketCreate { data } => self.created(recorder, &created(data)),
            // Other events are not what clients send.
            EngineConnectionEvent::Heartbeat | _ => {}
        }
    }

    fn received(&self, recorder: &Recorder, data: &[u8]) {
        let take = |left: u64| left.checked_sub(1);
        let order = Ordering::Relaxed;
        if self.attachments.fetch_update(order, order, take).is_ok() {
            return;
        }
        let packet = Packet::read(data);
        if let Some(attachments) = packet.attachments {
            self.attachments.store(attachments, order);
        }
        if packet.kind == Kind::Other {
            return self.skip(recorder, "not in JSON");
        }
        if packet.kind != Kind::Event || !self.concerns(&packet) {
            return;
        }
        if packet.attachments.is_some() {
            return self.skip(recorder, "binary attachments");
        }
        if data.len() > MAX_EVENT {
            return self.skip(recorder, "too large");
        }
        let mut list = packet.list().unwrap_or_default().into_iter();
        let Some(Value::String(name)) = list.next() else {
            return self.skip(recorder, "invalid");
        };
        if name.len() > MAX_NAME || RESERVED_EVENTS.contains(&&*name) {
            return self.skip(recorder, "invalid");
        }
        let Ok(args) = to_raw_value(&recorder.masker.arguments(&name, list.collect())) else {
            return;
        };
        // A pseudonym can be longer than what it replaces.
        if args.get().len() > MAX_EVENT {
            return self.skip(recorder, "too large");
        }
        let line = RecordLine::Event(SentEvent {
            at_ms: recorder.at_ms(),
            connection: self.connection,
            event: recorder.masker.event(&name),
            args,
            ack: packet.ack_id,
        });
        let is_queued = recorder.queue_of(&self.tracer, &self.socket.clone(), &line);
        if let Some(id) = packet.ack_id {
            let mut pending = self.pending.lock();
            // The answer to an event that is not recorded must not count for an earlier one.
            pending.remove(&id);
            if is_queued && pending.len() < MAX_PENDING {
                let arrived = Instant::now();
                let event = name;
                pending.insert(id, Pending { event, arrived });
            }
        }
    }

    fn created(&self, recorder: &Recorder, packet: &Packet<'_>) {
        if packet.kind != Kind::Ack || !self.concerns(packet) {
            return;
        }
        let pending = packet.ack_id.and_then(|id| {
            let pending = self.pending.lock().remove(&id)?;
            Some((id, pending))
        });
        let Some((ack, pending)) = pending else {
            return;
        };
        if packet.attachments.is_some() {
            return self.skip(recorder, "answer with binary attachments");
        }
        if packet.bytes > MAX_EVENT {
            return self.skip(recorder, "answer too large");
        }
        let Some(list) = packet.list() else {
            return self.skip(recorder, "invalid answer");
        };
        let Ok(args) = to_raw_value(&recorder.masker.answer(&pending.event, list)) else {
            return;
        };
        if args.get().len() > MAX_EVENT {
            return self.skip(recorder, "answer too large");
        }
        let line = RecordLine::Answer(Answered {
            at_ms: recorder.at_ms(),
            connection: self.connection,
            ack,
            latency_ms: milliseconds(pending.arrived, Instant::now()),
            args,
        });
        let _ = recorder.queue_of(&self.tracer, &self.socket.clone(), &line);
    }

    /// Returns whether a packet is of the namespace of the observed socket.
    fn concerns(&self, packet: &Packet<'_>) -> bool {
        // Old clients send the query with the namespace.
        let name = packet.namespace.split(|byte| *byte == b'?').next();
        name == Some(self.namespace.as_bytes())
    }

    fn skip(&self, recorder: &Recorder, reason: &str) {
        let line = RecordLine::Skipped(Skipped {
            at_ms: recorder.at_ms(),
            connection: self.connection,
            reason: reason.to_owned(),
        });
        let _ = recorder.queue_of(&self.tracer, &self.socket.clone(), &line);
    }
}

/// Returns the milliseconds between two times, in steps of a microsecond.
fn milliseconds(from: Instant, to: Instant) -> f64 {
    let microseconds = to.saturating_duration_since(from).as_micros();
    f64::from(u32::try_from(microseconds).unwrap_or(u32::MAX)) / 1000.0
}

/// The reason of the close of a socket that disconnected while it was found.
const DISCONNECTED: &str = "disconnected";
/// Maximum connections of a recording, also of those that have ended.
const MAX_CONNECTIONS: u32 = 10_000;
/// Bytes from which on no more lines are queued. They are dropped and counted.
const MAX_QUEUED: usize = 16 << 20;
/// Bytes of lines from which on the recording ends.
const MAX_RECORDED: u64 = 256 << 20;
/// Maximum bytes of a recorded event or answer.
const MAX_EVENT: usize = 256 << 10;
/// Maximum bytes of the name of an event.
const MAX_NAME: usize = 256;
/// Maximum unanswered events of a connection whose answers are recorded.
const MAX_PENDING: usize = 1024;

#[cfg(test)]
mod tests {
    use super::super::filter::Filter;
    use super::super::tracer::{Detail, QUEUE, Reader};
    use super::*;

    fn recorder() -> Recorder {
        Recorder::new(Masker::new(Policy::Consented).unwrap())
    }

    fn line() -> RecordLine {
        RecordLine::Dropped(Dropped { lines: 1 })
    }

    #[test]
    fn lines_beyond_the_bounds_are_dropped_and_counted() {
        let (id, filter) = (uuid::Uuid::nil(), Filter::Everyone);
        let (tracer, mut lines) =
            Tracer::new(id, Reader::Caller, filter, Detail::Masked, None, "n");
        let recorder = recorder();
        recorder.queued.store(MAX_QUEUED + 1, Ordering::Relaxed);
        assert!(!recorder.queue(&tracer, &line()));
        assert_eq!(tracer.take_dropped(), 1);
        recorder.queued.store(0, Ordering::Relaxed);
        for _ in 0..QUEUE {
            assert!(recorder.queue(&tracer, &line()));
        }
        assert!(!recorder.queue(&tracer, &line()));
        assert_eq!(tracer.take_dropped(), 1);
        while let Ok(line) = lines.try_recv() {
            recorder.take(&line);
        }
        assert_eq!(recorder.queued.load(Ordering::Relaxed), 0);
        assert!(!recorder.is_full());
        recorder.recorded.store(MAX_RECORDED, Ordering::Relaxed);
        assert!(!recorder.queue(&tracer, &line()));
        assert!(recorder.is_full() && lines.try_recv().is_err());
    }

    #[test]
    fn each_socket_gets_a_number_once_until_there_are_too_many() {
        let (id, filter) = (uuid::Uuid::nil(), Filter::Everyone);
        let (tracer, _lines) = Tracer::new(id, Reader::Caller, filter, Detail::Masked, None, "n");
        let recorder = recorder();
        let socket = |n: u32| SocketId::parse(&format!("{n:020}")).unwrap();
        assert_eq!(recorder.admit(&tracer, socket(1)), Some(1));
        assert_eq!(recorder.admit(&tracer, socket(1)), None);
        assert_eq!(tracer.take_dropped(), 0);
        recorder.connections.lock().last = MAX_CONNECTIONS;
        assert_eq!(recorder.admit(&tracer, socket(2)), None);
        assert_eq!(tracer.take_dropped(), 1);
    }
}
