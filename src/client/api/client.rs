use std::{
    collections::HashMap,
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicU64, Ordering},
    },
};

use parking_lot::Mutex;
use roomcast_protocol::socket::Nsp;
use tokio::sync::{mpsc, oneshot};

use super::{
    Change, Command, Settings,
    command::Watcher,
    shared::{Budget, SharedNamespace},
};
use crate::socket::ListenerId;

/// One connection to a server, shared by one [`Socket`](super::Socket) per namespace.
///
/// Clones are handles to the same client. The client connects when the application connects the
/// first socket. It disconnects when the last socket disconnects, or when the last handle is
/// dropped. Handles are `Client`, `Socket` and [`Events`](super::Events). Events that are queued at
/// that time are sent first, except those of sockets that are not connected.
///
/// ```no_run
/// # async fn example() -> Result<(), roomcast::client::ClientError> {
/// use roomcast::client::Client;
///
/// let client = Client::builder("https://example.org").build()?;
/// let chat = client.socket("/chat")?;
/// let news = client.socket("/news")?;
/// chat.on("said", async |who: String, text: String| println!("{who}: {text}"));
/// news.on("headline", async |text: String| println!("{text}"));
/// chat.connect().await?;
/// news.connect().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client(Arc<Handle>);

/// The shared state of all handles. The connection's task ends when it is dropped.
pub(crate) struct Handle {
    /// The queue to the task, bounded by `budget`.
    commands: mpsc::UnboundedSender<Command>,
    pub(super) sockets: Mutex<HashMap<Nsp, Arc<SharedNamespace>>>,
    pub(crate) budget: Arc<Budget>,
    pub(crate) settings: Arc<Settings>,
    last_listener: AtomicU64,
}

impl Client {
    pub(crate) fn new(settings: Arc<Settings>, commands: mpsc::UnboundedSender<Command>) -> Self {
        Self(Arc::new(Handle {
            commands,
            sockets: Mutex::default(),
            budget: Budget::new(settings.target.options.max_queued),
            settings,
            last_listener: AtomicU64::new(0),
        }))
    }

    pub(crate) fn upgrade(handle: &Weak<Handle>) -> Option<Self> {
        handle.upgrade().map(Self)
    }

    pub(crate) fn downgrade(&self) -> Weak<Handle> {
        Arc::downgrade(&self.0)
    }

    /// Calls a function on each change of the connection: open, close and reconnect attempts.
    ///
    /// Functions start in the order of registration.
    ///
    /// ```no_run
    /// # async fn example() -> Result<(), roomcast::client::ClientError> {
    /// # let client = roomcast::client::Client::builder("").build()?;
    /// use roomcast::client::{Change, Client};
    ///
    /// client.on_change(async |client: Client, change: Change| match change {
    ///     Change::ReconnectAttempt(20) => client.close().await,
    ///     change => println!("{change:?}"),
    /// });
    /// # Ok(())
    /// # }
    /// ```
    pub fn on_change<F, R>(&self, function: F) -> ListenerId
    where
        F: Fn(Self, Change) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        let id = self.next_listener();
        self.command(Command::Watch(Watcher {
            id,
            function: Arc::new(move |client, change| Box::pin(function(client, change))),
        }));
        id
    }

    /// Removes a function that [`on_change`](Self::on_change) registered.
    pub fn off(&self, id: ListenerId) {
        self.command(Command::Unwatch(id));
    }

    /// Makes the client reconnect after it loses the connection, as by default.
    pub fn enable_reconnection(&self) {
        self.command(Command::SetReconnection(true));
    }

    /// Stops the client from reconnecting after it loses the connection. An attempt in progress
    /// continues.
    pub fn disable_reconnection(&self) {
        self.command(Command::SetReconnection(false));
    }

    /// Disconnects all sockets, and waits until the close packet is written, for at most 5 s.
    ///
    /// No socket reconnects by itself. The client opens a new connection when the application
    /// connects a socket.
    pub async fn close(&self) {
        let (sender, done) = oneshot::channel();
        self.command(Command::Close(sender));
        let _ = done.await;
    }

    pub(crate) fn handle(&self) -> &Handle {
        &self.0
    }

    pub(crate) fn next_listener(&self) -> ListenerId {
        ListenerId::new(self.0.last_listener.fetch_add(1, Ordering::Relaxed))
    }

    /// Enqueues a command. Returns whether the task is running.
    ///
    /// The task ends before its handles only if its runtime shuts down.
    pub(crate) fn command(&self, command: Command) -> bool {
        self.0.commands.send(command).is_ok()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let server = &self.0.settings.target.authority;
        f.debug_struct("Client")
            .field("server", server)
            .finish_non_exhaustive()
    }
}
