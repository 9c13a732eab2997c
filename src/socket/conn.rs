use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use parking_lot::Mutex;
use roomcast_protocol::{
    Frame,
    engine::{CloseReason, Transport},
};

use super::{
    listeners::{ListenError, ListenerId},
    reason::DisconnectReason,
    shared::Shared,
    socket::Socket,
};
use crate::{
    engine::Handshake,
    metrics::{Counter, Metrics},
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
pub struct Conn(Arc<Shared>);

/// Something that has happened on a connection.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub enum ConnEvent<'a> {
    /// A message has come in: the text or the bytes of one Engine.IO packet of type 4.
    Packet {
        /// What it carries, without the packet type.
        data: &'a [u8],
    },
    /// A message was queued for the client.
    PacketCreate {
        /// It as it stands in a polling payload: the packet type first, attachments behind record
        /// separators.
        data: &'a [u8],
    },
    /// The client has answered a ping.
    Heartbeat,
    /// The connection went over to another transport.
    Upgrade {
        /// That one.
        transport: Transport,
    },
    /// Everything that was queued has been handed to the transport.
    Drain,
    /// The connection is over. Its sockets are told after this.
    Close {
        /// Why.
        reason: DisconnectReason,
        /// More about it, if there is more to say.
        description: Option<&'a str>,
    },
}

impl Conn {
    pub(crate) fn new(shared: Arc<Shared>) -> Self {
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
        let limit = limit.io().config().max_listeners_per_socket;
        let id = self.0.make_watchers().add(Arc::new(watcher), limit)?;
        self.0.outbox().watch_drain();
        for socket in &sockets {
            socket.become_curious();
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

/// Those who watch one connection.
#[derive(Default)]
pub(crate) struct ConnWatchers(Mutex<Table>);

#[derive(Default)]
struct Table {
    last: u64,
    watchers: Vec<(ListenerId, Watcher)>,
    closed: bool,
}

type Watcher = Arc<dyn Fn(&ConnEvent<'_>) + Send + Sync>;

impl ConnWatchers {
    fn add(&self, watcher: Watcher, limit: usize) -> Result<ListenerId, ListenError> {
        let mut table = self.0.lock();
        if table.closed {
            return Err(ListenError::Disconnected);
        }
        if table.watchers.len() >= limit {
            return Err(ListenError::TooMany);
        }
        table.last += 1;
        let id = ListenerId::new(table.last);
        table.watchers.push((id, watcher));
        Ok(id)
    }

    fn remove(&self, id: ListenerId) -> bool {
        let mut table = self.0.lock();
        let position = table.watchers.iter().position(|(known, _)| *known == id);
        let gone = position.map(|position| table.watchers.remove(position));
        drop(table);
        gone.is_some()
    }

    pub(crate) fn tell(&self, metrics: &Metrics, event: &ConnEvent<'_>) {
        let watchers: Vec<_> = {
            let table = self.0.lock();
            table
                .watchers
                .iter()
                .map(|(_, watcher)| Arc::clone(watcher))
                .collect()
        };
        for watcher in watchers {
            if catch_unwind(AssertUnwindSafe(|| watcher(event))).is_err() {
                metrics.count(Counter::HandlerPanics);
                tracing::error!("a watcher of a connection has panicked");
            }
        }
    }

    pub(crate) fn tell_created(&self, metrics: &Metrics, frame: &Frame) {
        let data = &frame.polling();
        self.tell(metrics, &ConnEvent::PacketCreate { data });
    }

    /// Forgets all: a watcher may hold the connection itself.
    pub(crate) fn close(&self) {
        let mut table = self.0.lock();
        table.closed = true;
        let gone = std::mem::take(&mut table.watchers);
        drop(table);
        drop(gone);
    }
}
