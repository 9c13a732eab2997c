//! What happens on a server, told to whoever watches it.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
};

use super::{
    namespace::Namespace, reason::DisconnectReason, refusal::Refusal, room::Room, socket::Socket,
};
use crate::{
    engine::Handshake,
    metrics::{Counter, Metrics},
};

/// Something that has happened on a server, as [`Builder::on_event`](crate::Builder::on_event) sees
/// it.
///
/// Watchers are called in the task in which it happened, after the fact and without any lock held,
/// so they may use everything; but they must not wait. Two things that happen on different
/// connections at the same time may be told in either order.
///
/// ```
/// use roomcast::{Io, Lifecycle};
///
/// let mut io = Io::builder();
/// io.on_event(|event: &Lifecycle<'_>| match event {
///     Lifecycle::Connected { socket } => println!("{} is there", socket.id()),
///     Lifecycle::Disconnected { socket, reason, .. } => println!("{} is gone: {reason}", socket.id()),
///     _ => {}
/// });
/// ```
///
/// The official server spreads these over events of its own:
///
/// ```js
/// io.on("connection", (socket) => { socket.on("disconnect", (reason) => {}); });
/// io.on("new_namespace", (namespace) => {});
/// io.of("/").adapter.on("create-room", (room) => {});
/// socket.conn.once("upgrade", () => {});
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum Lifecycle<'a> {
    /// A client was let into a namespace; told before its `on_connect` handlers start.
    Connected {
        /// The client.
        socket: &'a Socket,
    },
    /// A client has left a namespace and all its rooms; told before its `disconnect` handlers
    /// start.
    Disconnected {
        /// The client.
        socket: &'a Socket,
        /// Why.
        reason: DisconnectReason,
        /// More about it, if there is more to say: what was wrong with the transport.
        description: Option<&'a str>,
    },
    /// A client was not let into a namespace.
    Refused {
        /// The namespace that it asked for, which need not exist.
        namespace: &'a str,
        /// The request that opened its connection.
        handshake: &'a Handshake,
        /// What it was told.
        refusal: &'a Refusal,
    },
    /// A namespace has come into being: when the server is built (all but `/`), or on demand.
    NamespaceCreated {
        /// The namespace.
        namespace: &'a Namespace,
    },
    /// A namespace that was made on demand has gone with its last client.
    NamespaceRemoved {
        /// Its name, with the leading slash.
        namespace: &'a str,
    },
    /// A room has got its first member.
    ///
    /// The rooms of sockets' own ids are not told of: they come and go with the sockets.
    RoomCreated {
        /// Its namespace, with the leading slash.
        namespace: &'a str,
        /// The room.
        room: &'a Room,
    },
    /// A room has lost its last member.
    RoomDeleted {
        /// Its namespace, with the leading slash.
        namespace: &'a str,
        /// The room.
        room: &'a Room,
    },
    /// A socket has joined a room.
    RoomJoined {
        /// The socket.
        socket: &'a Socket,
        /// The room.
        room: &'a Room,
    },
    /// A socket has left a room, by itself or with its end.
    RoomLeft {
        /// The socket.
        socket: &'a Socket,
        /// The room.
        room: &'a Room,
    },
    /// A connection went over from polling to WebSocket.
    Upgraded {
        /// The request that opened it.
        handshake: &'a Handshake,
    },
    /// A connection is being closed because its client reads too slowly, or sends faster than its
    /// events are handled.
    SlowClient {
        /// The request that opened it.
        handshake: &'a Handshake,
    },
}

/// Those who watch a server.
#[derive(Default)]
pub(crate) struct Watchers(Vec<Watcher>);

type Watcher = Box<dyn Fn(&Lifecycle<'_>) + Send + Sync>;

impl Watchers {
    pub(crate) fn add(&mut self, watcher: impl Fn(&Lifecycle<'_>) + Send + Sync + 'static) {
        self.0.push(Box::new(watcher));
    }

    /// Whether nobody watches, so that nothing need be collected.
    #[inline]
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Tells everybody. Called without any lock held.
    pub(crate) fn tell(&self, metrics: &Metrics, event: &Lifecycle<'_>) {
        for watcher in &self.0 {
            if catch_unwind(AssertUnwindSafe(|| watcher(event))).is_err() {
                metrics.count(Counter::HandlerPanics);
                tracing::error!(?event, "a watcher of the server has panicked");
            }
        }
    }
}

impl fmt::Debug for Watchers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Watchers").field(&self.0.len()).finish()
    }
}
