use std::{fmt, sync::Arc};

use roomcast_protocol::engine::{CloseReason, Transport};

use crate::{
    engine::Handshake,
    socket::{
        core::{ConnEvent, ConnInner, Socket},
        types::{ListenError, ListenerId},
    },
};

/// The connection below a socket, which all sockets of one client share. Cloning is a reference
/// count.
///
/// What it tells is for looking below the events: to see when the transport changes, to wait until
/// a client has taken what was sent, or to count bytes.
///
/// ```
/// use roomcast::{ConnEvent, Event, Io, ListenError};
///
/// let mut io = Io::builder();
/// io.namespace("/").on_connect(async |event: Event| {
///     event.socket.conn().on_event(|event| {
///         if let ConnEvent::Upgrade { transport } = event {
///             println!("now on {transport}");
///         }
///     })?;
///     Ok::<_, ListenError>(())
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
pub struct Conn(Arc<ConnInner>);

impl Conn {
    pub(crate) fn new(shared: Arc<ConnInner>) -> Self {
        Self(shared)
    }

    /// The transport that carries it now.
    #[must_use]
    pub fn transport(&self) -> Transport {
        self.0.outbox().transport()
    }

    /// The request that opened it.
    #[must_use]
    pub fn handshake(&self) -> &Handshake {
        self.0.handshake()
    }

    /// The connected sockets on it, one for each namespace.
    #[must_use]
    pub fn sockets(&self) -> Vec<Socket> {
        self.0.sockets()
    }

    /// Watches it. The watcher is called in the task in which something happens, without any lock
    /// held, and must not wait. It ends with the connection.
    ///
    /// Somebody who watches makes every broadcast to the namespaces of this client look for its
    /// watchers.
    ///
    /// # Errors
    ///
    /// When as many watch as
    /// [`Config::max_listeners_per_socket`](crate::Config::max_listeners_per_socket) allows, or the
    /// connection is over.
    pub fn on_event(
        &self,
        watcher: impl Fn(&ConnEvent<'_>) + Send + Sync + 'static,
    ) -> Result<ListenerId, ListenError> {
        let sockets = self.sockets();
        let limit = sockets.first().ok_or(ListenError::Disconnected)?;
        let limit = limit.io().config().sockets.max_listeners_per_socket;
        let id = self.0.make_watchers().add(Arc::new(watcher), limit)?;
        // The outbox tells of a drain only if it was asked to.
        let _ = self.0.outbox().watch_drain();
        for socket in &sockets {
            socket.observe();
        }
        Ok(id)
    }

    /// Ends what was registered under this id; `false` if it is not there any more.
    #[expect(clippy::must_use_candidate, reason = "often nobody asks")]
    pub fn off(&self, watcher: ListenerId) -> bool {
        self.0
            .watchers()
            .is_some_and(|watchers| watchers.remove(watcher))
    }

    /// Closes it without telling any namespace: to the client it is lost, and stock clients come
    /// back. [`Socket::disconnect`](crate::Socket::disconnect) says goodbye.
    pub fn close(&self) {
        self.0.outbox().close(CloseReason::ForcedClose);
    }
}

impl fmt::Debug for Conn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Conn")
            .field("transport", &self.transport())
            .finish_non_exhaustive()
    }
}

impl Socket {
    /// The connection below.
    #[must_use]
    pub fn conn(&self) -> Conn {
        Conn::new(self.shared_arc())
    }
}
