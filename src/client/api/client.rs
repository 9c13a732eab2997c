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
use crate::ListenerId;

/// One connection to a server, with one [`Socket`](super::Socket) for each namespace that is used on it. Cloning
/// gives another handle.
///
/// The connection is made when the first socket is told to connect, and ends when the last one is
/// disconnected, or when the last handle is dropped: that of a client, of a socket, or a stream of
/// events.
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

/// What keeps the task of a connection alive.
pub(crate) struct Handle {
    /// The queue to the task, which `budget` bounds.
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
            budget: Budget::new(settings.options.max_queued),
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

    /// Calls a function whenever something happens to the connection: it is opened or closed, and each
    /// attempt to reconnect. The functions are called in the order in which they came.
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

    /// Calls a function of [`on_change`](Self::on_change) no more.
    pub fn off(&self, id: ListenerId) {
        self.command(Command::Unwatch(id));
    }

    /// Says whether a lost connection is made anew, from now on; it does not end an attempt that is
    /// under way.
    pub fn set_reconnection(&self, is_on: bool) {
        self.command(Command::SetReconnection(is_on));
    }

    /// Ends the connection for all sockets, and waits until that is written; at most 5 s. None of them
    /// connects again by itself. A socket that is told to connect makes a new connection.
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

    /// Whether the task is still there; it ends before its handles only with its runtime.
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
