//! Adds sockets to a namespace and removes them.

use roomcast_protocol::{Frame, Stamp};

use crate::{
    engine::{Limits, Mode, Push},
    metrics::Gauge,
    socket::{
        core::{Socket, namespace::NamespaceInner},
        recovery::Pid,
        types::{SocketId, shrink_map},
    },
};

impl NamespaceInner {
    /// Drops the replay data of a client that cannot recover.
    pub(crate) fn discard_replay(&self, socket: &Socket) {
        if let Some(channel) = &self.channel {
            socket.outbox().discard_replay(channel.id());
        }
    }

    /// Moves a socket to the recoverable members of the namespace.
    pub(crate) fn retain_recoverable(&self, socket: &Socket) {
        let id = socket.id();
        if let Some(channel) = &self.channel {
            channel.add_recoverable(id.clone(), socket.clone());
        }
        // The socket is added to the recoverable table before it is removed from the connected one.
        // So a search always finds it in one of the tables.
        let mut members = self.members.lock();
        let was_present = members.contains(&id);
        members.retain_recoverable(id.clone(), socket.outbox());
        drop(members);
        if was_present {
            self.metrics().shift(Gauge::Sockets, -1);
        }
        self.forget_socket(&id);
    }

    /// Admits a recovering client: it receives the missed events, then the `CONNECT` answer.
    ///
    /// Returns the number of missed events, or `None` if the client can no longer recover.
    pub(crate) fn readmit(
        &self,
        old: &Socket,
        socket: &Socket,
        known: Stamp,
        limits: Limits,
    ) -> Option<usize> {
        let hello = self.hello(socket)?;
        let (id, outbox) = (socket.id(), socket.outbox());
        // From here on, the old outbox, which is still in the rooms, forwards its data. So no event
        // is missed while the new outbox replaces it step by step.
        let missed = old.outbox().hand_over(known, outbox, limits, &hello)?;
        self.sockets.write().insert(id.clone(), socket.clone());
        self.members.lock().resume(id.clone(), outbox);
        self.remove_recoverable(&id);
        self.metrics().shift(Gauge::Sockets, 1);
        socket.rejoin(old);
        Some(missed)
    }

    /// Returns the `CONNECT` answer that admits a client.
    fn hello(&self, socket: &Socket) -> Option<Frame> {
        let admitted = Admitted {
            sid: socket.id(),
            pid: socket.recoverable().map(|recoverable| recoverable.pid),
        };
        let (parser, nsp) = (self.config().sockets.parser, self.name.as_str());
        let encoded = if socket.outbox().revision().is_v3() {
            // These clients expect no payload.
            parser.connect(nsp, &())
        } else {
            parser.connect(nsp, &admitted)
        };
        match encoded {
            Ok(frame) => Some(frame),
            Err(error) => {
                let namespace = self.name.as_str();
                crate::throttled_log!(error, namespace, %error, "a connect packet cannot be encoded");
                None
            }
        }
    }

    /// Admits a socket. It receives the missed events, its `CONNECT` answer with its id, then all
    /// later events.
    pub(crate) fn admit(&self, socket: &Socket, missed: &[Frame]) -> Result<(), NotAdmitted> {
        let frame = self.hello(socket).ok_or(NotAdmitted::EncodeFailed)?;
        // The socket can be found by its id before the first broadcast reaches its client.
        self.sockets.write().insert(socket.id(), socket.clone());
        let mut members = self.members.lock();
        if members.is_closed() || self.is_removed() {
            drop(members);
            self.sockets.write().remove(&socket.id());
            return Err(NotAdmitted::NamespaceRemoved);
        }
        if let Some(channel) = &self.channel
            && let Some(recoverable) = socket.recoverable()
        {
            let (id, floor) = (channel.id(), Some(recoverable.floor()));
            socket
                .outbox()
                .retain_for_replay(id, floor, channel.limits());
        }
        // All this happens under the lock of the member list. So no broadcast precedes the missed
        // events and the `CONNECT` answer, and no later broadcast is missed.
        for frame in missed.iter().chain([&frame]) {
            let _ = socket.outbox().push(frame, Mode::Reliable);
        }
        members.insert(socket.id(), socket.outbox().clone());
        drop(members);
        socket.notify_push(&frame, Push::Queued);
        self.metrics().shift(Gauge::Sockets, 1);
        self.socket_changed(&socket.0.id);
        Ok(())
    }

    /// Notifies adapters that treat sockets as rooms of a new or removed socket. Recoverable
    /// sockets count as existing.
    fn socket_changed(&self, id: &SocketId) {
        let is_there = || {
            let members = self.members.lock();
            members.contains(id) || members.recoverable(id).is_some()
        };
        self.cluster.socket_changed(&self.name, id, is_there);
    }

    /// Removes a socket. Returns whether it was the last one of a namespace that is removed when
    /// empty.
    pub(crate) fn dismiss(&self, id: &SocketId) -> bool {
        self.forget_socket(id);
        let mut members = self.members.lock();
        if members.remove(id) {
            self.metrics().shift(Gauge::Sockets, -1);
        }
        members.remove_recoverable(id);
        let is_over = self.removed_when_empty && members.close_if_empty();
        drop(members);
        self.remove_recoverable(id);
        self.socket_changed(id);
        is_over
    }

    fn remove_recoverable(&self, id: &SocketId) {
        if let Some(channel) = &self.channel {
            channel.remove_recoverable(id);
        }
    }

    fn forget_socket(&self, id: &SocketId) {
        let mut sockets = self.sockets.write();
        let removed = sockets.remove(id);
        shrink_map(&mut sockets);
        drop(sockets);
        drop(removed);
    }
}

/// Why a socket was not admitted to its namespace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotAdmitted {
    /// The namespace was removed concurrently.
    NamespaceRemoved,
    /// The `CONNECT` answer cannot be encoded.
    EncodeFailed,
}

/// The payload of the `CONNECT` answer.
#[derive(serde::Serialize)]
struct Admitted {
    sid: SocketId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<Pid>,
}
