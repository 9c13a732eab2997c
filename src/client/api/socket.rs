use std::{fmt, sync::Arc};

use roomcast_protocol::socket::Nsp;
use tokio::sync::{oneshot, watch};

use super::{
    Auth, Client, Command,
    shared::{SharedNamespace, SocketState},
};
use crate::client::ClientError;

/// A namespace of a server, as a client uses it. Cloning gives another handle of the same socket.
///
/// [`emit`](Self::emit) never waits. What is sent while the socket is not connected waits in order
/// until it is; [`max_buffered`](super::super::ClientBuilder::max_buffered) bounds how much.
///
/// Besides the events of the server there are three of its own: `connect`, `disconnect` with a
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

    /// The connection that this socket shares with those of other namespaces.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// The name of the namespace, with its leading slash.
    #[must_use]
    pub fn namespace(&self) -> &str {
        self.shared.nsp.as_str()
    }

    /// The id by which the server knows the socket; `None` while it is not connected.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        self.shared.state.borrow().id.as_deref().map(str::to_owned)
    }

    /// Whether the server has let the socket in, and the connection stands.
    #[must_use]
    pub fn is_connected(&self) -> bool {
        self.shared.state.borrow().id.is_some()
    }

    /// Whether the socket is connected, or will be as soon as the server can be reached.
    #[must_use]
    pub fn is_active(&self) -> bool {
        self.shared.state.borrow().is_active
    }

    /// Whether the server went on with the session of the last connection: the id is the same, and
    /// nothing was missed.
    #[must_use]
    pub fn recovered(&self) -> bool {
        self.shared.state.borrow().recovered
    }

    /// Begins to connect, and does not wait. Nothing happens if the socket [is
    /// active](Self::is_active).
    pub fn open(&self) {
        self.begin(None);
    }

    /// Connects, and waits for the first outcome. If the server cannot be reached and the client may
    /// [reconnect](super::super::ClientBuilder::reconnection), it goes on trying after the error was returned.
    ///
    /// # Errors
    /// If the server cannot be reached, refuses the namespace ([`ClientError::Refused`]), or does not
    /// answer in time.
    pub async fn connect(&self) -> Result<(), ClientError> {
        let (sender, outcome) = oneshot::channel();
        self.begin(Some(sender));
        outcome.await.unwrap_or(Err(ClientError::GONE))
    }

    fn begin(&self, outcome: Option<oneshot::Sender<Result<(), ClientError>>>) {
        // The task sets the flag as well. It is set here, so that it is true as soon as this
        // returns.
        self.shared
            .state
            .send_modify(|state| state.is_active = true);
        self.command(|shared| Command::Open(shared, outcome));
    }

    /// Leaves the namespace, and waits until the server has handled that; at most 5 s. The connection
    /// ends with its last socket. Events that are sent from now on wait until the socket is told to
    /// connect.
    ///
    /// The server has handled the events that were sent before, and ends the session: it cannot be
    /// recovered. If the connection breaks or the server is silent, both are unknown.
    pub async fn disconnect(&self) {
        let (sender, done) = oneshot::channel();
        self.command(|shared| Command::Disconnect(shared, sender));
        let _ = done.await;
    }

    /// Sets what the socket sends with each `CONNECT` from now on. Default is that of the
    /// [builder](super::super::ClientBuilder::auth).
    pub fn set_auth(&self, auth: impl Into<Auth>) {
        let auth = auth.into();
        self.command(|shared| Command::SetAuth(shared, auth));
    }

    pub(crate) fn command(&self, command: impl FnOnce(Arc<SharedNamespace>) -> Command) -> bool {
        self.client.command(command(Arc::clone(&self.shared)))
    }
}

impl Client {
    /// The socket of a namespace, which is not connected yet; for one name always the same. The
    /// leading slash may be left out.
    ///
    /// # Errors
    /// [`ClientError::Encode`] if that cannot be the name of a namespace, since it has a comma.
    pub fn socket(&self, namespace: &str) -> Result<Socket, ClientError> {
        let nsp = Nsp::from(namespace);
        let settings = &self.handle().settings;
        let named = settings.options.parser.disconnect(nsp.as_str());
        named.map_err(ClientError::encode)?;
        let mut sockets = self.handle().sockets.lock();
        let shared = sockets.entry(nsp.clone()).or_insert_with(|| {
            Arc::new(SharedNamespace {
                nsp,
                state: watch::Sender::new(SocketState::default()),
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
