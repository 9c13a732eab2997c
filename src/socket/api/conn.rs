use std::{fmt, sync::Arc};

use roomcast_protocol::engine::{CloseReason, Transport};

use crate::{
    engine::{ConnectionId, Handshake},
    socket::{
        core::{ConnInner, EngineConnectionEvent, Listeners, Socket},
        types::{ListenError, ListenerId},
    },
};

/// The connection of a socket, shared by all sockets of one client. Clones share one reference
/// count.
///
/// Use it below the level of events: to detect transport changes, to wait until a client has
/// received its data, or to count bytes.
///
/// ```
/// use roomcast::{Event, Io, connection::EngineConnectionEvent, errors::ListenError};
///
/// let io = Io::builder().namespace("/", |namespace| {
///     namespace.on_connect(async |event: Event| {
///         event.socket.conn().on_event(|event| {
///             if let EngineConnectionEvent::Upgrade { transport } = event {
///                 println!("now on {transport}");
///             }
///         })?;
///         Ok::<_, ListenError>(())
///     })
/// });
/// # io.build()?;
/// # Ok::<(), roomcast::BuildError>(())
/// ```
///
/// ```js
/// // the same on the official server
/// io.on("connection", (socket) => {
///   socket.conn.on("upgrade", (transport) => console.log(`now on ${transport.name}`));
/// });
/// ```
#[derive(Clone)]
pub struct EngineConnection(Arc<ConnInner>);

impl EngineConnection {
    /// Returns the current transport.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.0.outbox().transport()
    }

    /// Returns the revision of Engine.IO that the client uses: 4, or 3 for clients of Socket.IO 1
    /// and 2 ([`Config::allow_eio3`](crate::Config::allow_eio3)).
    #[must_use]
    pub fn protocol(&self) -> u8 {
        self.0.outbox().revision().number()
    }

    /// Returns the request that opened the connection.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        self.0.handshake()
    }

    /// Returns the id of the connection in log lines. It is not a secret.
    #[must_use]
    pub fn log_id(&self) -> ConnectionId {
        ConnectionId::of(self.0.outbox().sid())
    }

    /// Returns the bytes queued for the client: its frames, and 256 bytes for each. This is the
    /// value that counts towards the limits of queues.
    #[must_use]
    pub fn queued_bytes(&self) -> usize {
        self.0.outbox().queued_bytes()
    }

    /// Returns the connected sockets of the connection, one per namespace.
    #[must_use]
    pub fn sockets(&self) -> Vec<Socket> {
        self.0.sockets()
    }

    /// Adds an observer of the connection.
    ///
    /// The observer runs in the task that causes the event, without a lock held, and must not
    /// block. It is removed when the connection ends. While observers exist, every broadcast to the
    /// namespaces of this client looks for them.
    ///
    /// # Errors
    ///
    /// Fails if the connection has
    /// [`Config::max_listeners_per_socket`](crate::Config::max_listeners_per_socket) observers, or
    /// is closed.
    pub fn on_event(
        &self,
        watcher: impl Fn(&EngineConnectionEvent<'_>) + Send + Sync + 'static,
    ) -> Result<ListenerId, ListenError> {
        let sockets = self.sockets();
        let limit = sockets.first().ok_or(ListenError::Disconnected)?;
        let limit = limit.io().config().sockets.max_listeners_per_socket;
        let id = self.0.make_watchers().add(Arc::new(watcher), limit)?;
        // The outbox reports a drain only on request.
        let _ = self.0.outbox().watch_drain();
        for socket in &sockets {
            socket.observe();
        }
        Ok(id)
    }

    /// Removes the observer with this id. Returns `false` if it does not exist.
    pub fn off(&self, watcher: ListenerId) -> bool {
        let Some(watchers) = self.0.watchers() else {
            return false;
        };
        let was_removed = watchers.remove(watcher);
        // Broadcasts can skip the sockets when no observer remains.
        if was_removed && !watchers.has_watchers() {
            for socket in self.sockets() {
                if !socket.listeners().is_some_and(Listeners::has_outgoing) {
                    socket.namespace_inner().set_observed(&socket, false);
                }
            }
        }
        was_removed
    }

    /// Closes the connection without a packet to any namespace. The client sees a lost connection,
    /// and stock clients reconnect. [`Socket::disconnect`](crate::Socket::disconnect) sends a
    /// packet.
    pub fn close(&self) {
        self.0.outbox().close(CloseReason::ForcedClose);
    }
}

impl fmt::Debug for EngineConnection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("transport", &self.transport())
            .finish_non_exhaustive()
    }
}

impl Socket {
    /// Returns the connection of this socket.
    #[must_use]
    pub fn conn(&self) -> EngineConnection {
        EngineConnection(self.shared_arc())
    }
}
