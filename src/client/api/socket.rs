use std::{
    any::Any,
    fmt,
    sync::{Arc, OnceLock},
};

use roomcast_protocol::socket::Nsp;
use tokio::sync::{oneshot, watch};

use super::{
    Auth, Client, Command,
    shared::{SharedNamespace, SocketState},
};
use crate::client::ClientError;

/// A client's socket in one namespace. Clones are handles to the same socket.
///
/// [`emit`](Self::emit) never waits. Events that are sent while the socket is disconnected are
/// queued in order until it connects. [`max_buffered`](super::super::ClientBuilder::max_buffered)
/// limits the queue.
///
/// Besides the events of the server, a socket has three own events: `connect`, `disconnect` with a
/// [`DisconnectReason`](super::super::DisconnectReason), and `connect_error` with a
/// [`ConnectError`](super::ConnectError).
#[derive(Clone)]
pub struct Socket {
    client: Client,
    shared: Arc<SharedNamespace>,
}

impl Socket {
    pub(crate) fn new(client: Client, shared: Arc<SharedNamespace>) -> Self {
        Self { client, shared }
    }

    /// Returns the client whose connection this socket shares with other namespaces.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the name of the namespace, with its leading slash.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.shared.nsp.as_str()
    }

    /// Returns the server's id of the socket, or `None` if it is not connected.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        self.shared.state.borrow().id.as_deref().map(str::to_owned)
    }

    /// Returns whether the server has admitted the socket and the connection is open.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.state.borrow().id.is_some()
    }

    /// Returns whether the socket is connected, or connects as soon as the server is reachable.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.shared.state.borrow().is_active
    }

    /// Returns whether the server recovered the previous session: the id is the same, and no event
    /// was missed.
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.shared.state.borrow().recovered
    }

    /// Starts to connect, without waiting. Does nothing if the socket [is active](Self::is_active).
    pub fn open(&self) {
        self.begin(None);
    }

    /// Connects, and waits for the first outcome.
    ///
    /// If the server is unreachable, the client continues to try after the error, unless
    /// [reconnection is off](super::super::ClientBuilder::without_reconnection).
    ///
    /// # Errors
    /// Fails if the server is unreachable, refuses the namespace ([`ClientError::Refused`]), or
    /// does not answer in time.
    pub async fn connect(&self) -> Result<(), ClientError> {
        let (sender, outcome) = oneshot::channel();
        self.begin(Some(sender));
        outcome.await.unwrap_or(Err(ClientError::DRIVER_ENDED))
    }

    fn begin(&self, outcome: Option<oneshot::Sender<Result<(), ClientError>>>) {
        // The task sets this flag, too. Setting it here makes it true before this method returns.
        self.shared
            .state
            .send_modify(|state| state.is_active = true);
        self.command(|shared| Command::Open(shared, outcome));
    }

    /// Leaves the namespace, and waits until the server has handled that, for at most 5 s.
    ///
    /// The connection ends with its last socket. Events that are sent after this are queued until
    /// the application connects the socket again.
    ///
    /// The server handles all events that were sent before, and ends the session, which cannot be
    /// recovered. If the connection breaks or the server does not respond, neither is certain.
    pub async fn disconnect(&self) {
        let (sender, done) = oneshot::channel();
        self.command(|shared| Command::Disconnect(shared, sender));
        let _ = done.await;
    }

    /// Sets the payload of each future `CONNECT`. Defaults to the `auth` of the
    /// [builder](super::super::ClientBuilder::auth).
    pub fn set_auth(&self, auth: impl Into<Auth>) {
        let auth = auth.into();
        self.command(|shared| Command::SetAuth(shared, auth));
    }

    /// Waits until the socket is connected, if it is not, or is connected under another id.
    pub(crate) async fn connected_again(&self) {
        let mut state = self.shared.state.subscribe();
        let before = state.borrow().id.clone();
        let is_other = |state: &SocketState| state.id.is_some() && state.id != before;
        // The sender lives as long as this handle.
        let _ = state.wait_for(is_other).await;
    }

    /// Returns the state that all handles share for another module. It has one type, and is created
    /// by the first call.
    pub(crate) fn attachment<T: Any + Default + Send + Sync>(&self) -> Arc<T> {
        let attachment = self
            .shared
            .attachment
            .get_or_init(|| Arc::new(T::default()));
        let attachment = Arc::clone(attachment).downcast();
        attachment.expect("all attachments of sockets have one type")
    }

    pub(crate) fn command(&self, command: impl FnOnce(Arc<SharedNamespace>) -> Command) -> bool {
        self.client.command(command(Arc::clone(&self.shared)))
    }
}

impl Client {
    /// Returns the socket of a namespace, always the same for one name. It is not connected yet.
    ///
    /// The leading slash is optional.
    ///
    /// # Errors
    /// Returns [`ClientError::Encode`] if the name contains a comma.
    pub fn socket(&self, namespace: &str) -> Result<Socket, ClientError> {
        let nsp = Nsp::from(namespace);
        let settings = &self.handle().settings;
        let named = settings.target.options.parser.disconnect(nsp.as_str());
        named.map_err(ClientError::Encode)?;
        let mut sockets = self.handle().sockets.lock();
        let shared = sockets.entry(nsp.clone()).or_insert_with(|| {
            Arc::new(SharedNamespace {
                nsp,
                state: watch::Sender::new(SocketState::default()),
                attachment: OnceLock::new(),
            })
        });
        Ok(Socket::new(self.clone(), Arc::clone(shared)))
    }
}

impl fmt::Debug for Socket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Socket")
            .field("namespace", &self.namespace())
            .field("state", &*self.shared.state.borrow())
            .finish_non_exhaustive()
    }
}
