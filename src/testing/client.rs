use std::{future::Future, net::SocketAddr, time::Duration};

use roomcast_protocol::socket::{Args, Argument, Arguments, Parser};
use serde_json::Value;
use tokio::time::timeout;

use crate::{
    SocketId, client,
    client::{ClientError, Incoming, Transports},
};

/// A client that is not connected yet; from [`TestServer::client`](super::TestServer::client).
#[derive(Clone, Debug)]
#[must_use = "it connects when it is told to"]
pub struct ClientBuilder {
    client: client::ClientBuilder,
    deadline: Duration,
}

impl ClientBuilder {
    /// It speaks what its server speaks.
    pub(super) fn new(address: SocketAddr, path: &str, parser: Parser) -> Self {
        let client = client::Client::builder(format!("http://{address}"));
        Self {
            client: client.path(path).parser(parser),
            deadline: DEADLINE,
        }
    }

    /// What it sends along when it connects: the option `auth` of stock clients, an object.
    pub fn auth(self, auth: Value) -> Self {
        self.with(|client| client.auth(auth))
    }

    /// The namespace it connects to. Default `/`.
    pub fn namespace(self, name: &str) -> Self {
        self.with(|client| client.namespace(name))
    }

    /// Adds a header to its requests.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.with(|client| client.header(name, value))
    }

    /// Adds a parameter to the query of its requests.
    pub fn query(self, name: &str, value: &str) -> Self {
        self.with(|client| client.query(name, value))
    }

    /// The transports it uses. Default is a WebSocket.
    pub fn transports(self, transports: Transports) -> Self {
        self.with(|client| client.transports(transports))
    }

    /// How long connecting, an acknowledgement or an awaited event may take. Default 10 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// [`ClientError::Namespace`] is what stock clients call `connect_error`.
    ///
    /// # Panics
    ///
    /// When the server is not ours.
    pub async fn connect(self) -> Result<Client, ClientError> {
        let client = self.client.connect_timeout(self.deadline);
        let client = client.ack_timeout(self.deadline).connect().await?;
        Ok(Client {
            id: SocketId::parse(client.id()).expect("the server is ours"),
            client,
            deadline: self.deadline,
        })
    }

    fn with(mut self, change: impl FnOnce(client::ClientBuilder) -> client::ClientBuilder) -> Self {
        self.client = change(self.client);
        self
    }
}

/// A connected client. Dropping it closes the connection.
///
/// Events that nobody has asked for wait; from 1,024 on nothing more is read, acknowledgements
/// included.
#[derive(Debug)]
pub struct Client {
    id: SocketId,
    client: client::Client,
    deadline: Duration,
}

impl Client {
    /// The id of its socket.
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// The secret by which its session can be recovered. `None`: the server keeps none.
    ///
    /// A client that offers it in [`auth`](ClientBuilder::auth) as `pid`, with the last argument of
    /// the last event that it has got as `offset`, goes on as the same socket.
    #[must_use]
    pub fn pid(&self) -> Option<&str> {
        self.client.pid()
    }

    /// Sends an event: a tuple is several arguments, `()` is none.
    ///
    /// # Errors
    ///
    /// When it is disconnected, or the arguments cannot be sent.
    pub async fn emit(&self, event: &str, args: impl Arguments) -> Result<(), ClientError> {
        self.in_time(self.client.emit(event, args), "sending").await
    }

    /// Sends an event and waits for its acknowledgement: one value, or [`Args`] for all of it.
    ///
    /// # Errors
    ///
    /// When it does not come in time or has another shape, and as [`emit`](Self::emit).
    pub async fn emit_with_ack<R: Argument>(
        &self,
        event: &str,
        args: impl Arguments,
    ) -> Result<R, ClientError> {
        self.client.emit_with_ack(event, args).await
    }

    /// The next event, whatever its name.
    ///
    /// # Errors
    ///
    /// When none comes in time, or the client is disconnected.
    pub async fn next(&mut self) -> Result<Incoming, ClientError> {
        let next = async { self.client.next().await.ok_or(ClientError::Disconnected) };
        self.in_time(next, "an event").await
    }

    /// The argument of the next event of this name, or [`Args`] for all of them. Events of other
    /// names before it are passed over.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next), and when the argument has another shape.
    pub async fn event<R: Argument>(&mut self, name: &str) -> Result<R, ClientError> {
        let named = async {
            loop {
                match self.client.next().await {
                    Some(event) if event.name == name => break Ok(event.args),
                    Some(_) => {}
                    None => break Err(ClientError::Disconnected),
                }
            }
        };
        let args: Args = self.in_time(named, "an event").await?;
        R::take(&args, &mut 0).map_err(ClientError::Answer)
    }

    /// Answers an event that asked for an acknowledgement; nothing happens if it did not.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    pub async fn ack(&self, event: &Incoming, args: impl Arguments) -> Result<(), ClientError> {
        self.in_time(self.client.ack(event, args), "sending").await
    }

    /// Leaves the namespace and waits until the server has ended the connection.
    pub async fn disconnect(self) {
        // However it ends, it has ended.
        let _ = self.client.disconnect().await;
    }

    /// Waits until the server ends it, passing over events. `true`: it said goodbye, `false`: the
    /// connection was lost.
    ///
    /// # Errors
    ///
    /// When it does not happen in time.
    pub async fn closed(&mut self) -> Result<bool, ClientError> {
        let ended = async {
            while self.client.next().await.is_some() {}
            Ok(matches!(self.client.end(), Some(ClientError::Disconnected)))
        };
        self.in_time(ended, "the end").await
    }

    async fn in_time<T>(
        &self,
        what: impl Future<Output = Result<T, ClientError>>,
        name: &'static str,
    ) -> Result<T, ClientError> {
        timeout(self.deadline, what)
            .await
            .unwrap_or(Err(ClientError::Timeout(name)))
    }
}

/// How long anything may take that is awaited.
const DEADLINE: Duration = Duration::from_secs(10);
