use std::{future::Future, net::SocketAddr, time::Duration};

use roomcast_protocol::socket::{Args, Argument, Arguments, Parser};
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};
use tokio::time::timeout;

use super::handle::{Handle, Incoming};
use crate::{
    Contract, Request, SocketId,
    client::{ClientError, Options, Transports, refused},
};

/// A client that is not connected yet; see [`TestServer::client`](super::TestServer::client).
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until `connect` is called"]
pub struct ClientBuilder {
    options: Options,
    auth: Map<String, Value>,
    deadline: Duration,
}

impl ClientBuilder {
    /// Creates a builder with the parser of the server.
    pub(super) fn new(address: SocketAddr, path: &str, parser: Parser) -> Self {
        let mut options = Options::new(format!("http://{address}"));
        options.path = path.to_owned();
        options.parser = parser;
        Self {
            options,
            auth: Map::new(),
            deadline: DEADLINE,
        }
    }

    /// Sets the payload of the connect packet: the option `auth` of stock clients, an object.
    pub fn auth(mut self, auth: Value) -> Self {
        if let Value::Object(fields) = &auth {
            self.auth.clone_from(fields);
        }
        self.with(|options| options.auth = Some(auth))
    }

    /// Sets the namespace to connect to. Default `/`.
    pub fn namespace(self, name: &str) -> Self {
        self.with(|options| options.namespace = Some(name.to_owned()))
    }

    /// Adds a header to the client's requests.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.with(|options| options.headers.push((name.to_owned(), value.to_owned())))
    }

    /// Adds a query parameter to the client's requests.
    pub fn query(self, name: &str, value: &str) -> Self {
        self.with(|options| options.query.push((name.to_owned(), value.to_owned())))
    }

    /// Sets the transports to use. Default: WebSocket only.
    pub fn transports(self, transports: Transports) -> Self {
        self.with(|options| options.transports = transports)
    }

    /// Sets the timeout of connects, acknowledgements and awaited events. Default 10 s.
    pub fn deadline(mut self, deadline: Duration) -> Self {
        self.deadline = deadline;
        self
    }

    /// Connects.
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] corresponds to `connect_error` of stock clients.
    ///
    /// # Panics
    ///
    /// If the server is not a Roomcast server.
    pub async fn connect(self) -> Result<Client, ClientError> {
        let mut options = self.options.clone();
        options.connect_timeout = self.deadline;
        let client = Handle::connect(&options, self.deadline).await?;
        Ok(Client {
            id: SocketId::parse(client.id()).expect("the server is ours"),
            client,
            offset: None,
            builder: self,
        })
    }

    fn with(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }
}

/// A connected client. Dropping it closes the connection.
///
/// Received events are queued. When 1,024 are queued, the client reads nothing more, including
/// acknowledgements.
#[derive(Debug)]
pub struct Client {
    id: SocketId,
    client: Handle,
    /// The offset of the last received event, if the client can recover its socket.
    offset: Option<String>,
    builder: ClientBuilder,
}

impl Client {
    /// Returns the id of the client's socket.
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.id.clone()
    }

    /// Returns the secret with which the client can recover its socket, or `None` if the server
    /// retains none.
    ///
    /// To recover, pass it in [`auth`](ClientBuilder::auth) as `pid`, and the last argument of the
    /// last received event as `offset`.
    #[must_use]
    pub fn pid(&self) -> Option<&str> {
        self.client.pid()
    }

    /// Sends an event: a tuple is several arguments, `()` is none.
    ///
    /// # Errors
    ///
    /// If the client is disconnected, or the arguments cannot be sent.
    pub async fn emit(&self, event: &str, args: impl Arguments) -> Result<(), ClientError> {
        in_time(
            self.builder.deadline,
            self.client.emit(event, args),
            "sending",
        )
        .await
    }

    /// Sends an event and waits for its acknowledgement: one value, a tuple for several, or
    /// [`Args`] for all arguments.
    ///
    /// ```
    /// use roomcast::{Event, Io, Refusal, testing::ClientError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), ClientError> {
    /// let io = Io::builder().namespace("/", |namespace| {
    ///     namespace.on("close", async |_: Event| {
    ///         Err::<(), _>(Refusal::new("FORBIDDEN", "for admins only"))
    ///     })
    /// });
    /// let server = roomcast::testing::serve(io).await;
    /// let client = server.client().connect().await?;
    /// match client.emit_with_ack::<u32>("close", ()).await {
    ///     Err(ClientError::Refused { code, .. }) => assert_eq!(code, "FORBIDDEN"),
    ///     other => panic!("{other:?}"),
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ClientError::Refused`] if the handler refused the event, unless `R` also accepts the
    /// object of a refusal, as [`Value`] does. Also if no acknowledgement arrives in time or it
    /// does not match `R`, and as for [`emit`](Self::emit).
    pub async fn emit_with_ack<R: Argument>(
        &self,
        event: &str,
        args: impl Arguments,
    ) -> Result<R, ClientError> {
        let answer = self.client.request(event, args).await?;
        R::take_all(&answer).map_err(|error| refused(&answer).unwrap_or(ClientError::Answer(error)))
    }

    /// Sends a typed event; see [`Contract`].
    ///
    /// # Errors
    ///
    /// As for [`emit`](Self::emit).
    pub async fn send<T: Contract>(&self, event: T) -> Result<(), ClientError> {
        self.emit(T::EVENT, event).await
    }

    /// Sends a typed event and waits for its reply; see [`Request`].
    ///
    /// # Errors
    ///
    /// As for [`emit_with_ack`](Self::emit_with_ack).
    pub async fn request<T: Request>(&self, event: T) -> Result<T::Reply, ClientError> {
        self.emit_with_ack(T::EVENT, event).await
    }

    /// Returns the next typed event of this contract. Other events before it are discarded.
    ///
    /// # Errors
    ///
    /// As for [`event`](Self::event).
    pub async fn contract<T: Contract + DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        self.event(T::EVENT).await
    }

    /// Returns the next event of any name.
    ///
    /// # Errors
    ///
    /// If none arrives in time, or the client is disconnected.
    pub async fn next(&mut self) -> Result<Incoming, ClientError> {
        let deadline = self.builder.deadline;
        let next = async { self.take().await.ok_or_else(|| self.client.ended()) };
        in_time(deadline, next, "an event").await
    }

    /// Returns the argument of the next event of this name, a tuple for several, or [`Args`] for
    /// all. Other events before it are discarded.
    ///
    /// # Errors
    ///
    /// As for [`next`](Self::next), and if the arguments do not match `R`.
    pub async fn event<R: Argument>(&mut self, name: &str) -> Result<R, ClientError> {
        let deadline = self.builder.deadline;
        let named = async {
            loop {
                match self.take().await {
                    Some(event) if event.name == name => break Ok(event.args),
                    Some(_) => {}
                    None => break Err(self.client.ended()),
                }
            }
        };
        let args: Args = in_time(deadline, named, "an event").await?;
        R::take_all(&args).map_err(ClientError::Answer)
    }

    /// Checks that no event arrives within this time.
    ///
    /// This takes that time, and later events are not detected. If the server acknowledges
    /// something afterwards, waiting for that is better proof: events sent before an
    /// acknowledgement arrive before it, so `within` may be zero then.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unexpected`] with the name of the event that arrived.
    /// [`ClientError::Disconnected`] if the server disconnects the socket, or another error if the
    /// connection ends.
    pub async fn nothing_within(&mut self, within: Duration) -> Result<(), ClientError> {
        match timeout(within, self.take()).await {
            Err(_) => Ok(()),
            Ok(Some(event)) => Err(ClientError::Unexpected(event.name)),
            Ok(None) => Err(self.client.ended()),
        }
    }

    /// Breaks the connection without a close frame and reconnects with the same options, as stock
    /// clients do.
    ///
    /// If the server has [recovery](crate::Builder::recovery), the new connection asks to recover
    /// the old socket. The events taken from this client count as received.
    ///
    /// # Errors
    ///
    /// As for [`ClientBuilder::connect`].
    pub async fn reconnect(self) -> Result<Self, ClientError> {
        let builder = self.builder;
        let mut auth = builder.auth.clone();
        if let Some(pid) = self.client.pid() {
            auth.insert("pid".into(), pid.into());
        }
        if let Some(offset) = self.offset {
            auth.insert("offset".into(), offset.into());
        }
        let offering = match auth.is_empty() {
            true => builder.clone(),
            false => builder.clone().auth(Value::Object(auth)),
        };
        // The old connection breaks before the new one is opened, as after a network failure.
        drop(self.client);
        let client = offering.connect().await?;
        Ok(Self { builder, ..client })
    }

    /// Acknowledges an event; does nothing if the event requests no acknowledgement.
    ///
    /// # Errors
    ///
    /// As for [`emit`](Self::emit).
    pub async fn ack(&self, event: &Incoming, args: impl Arguments) -> Result<(), ClientError> {
        in_time(
            self.builder.deadline,
            self.client.ack(event, args),
            "sending",
        )
        .await
    }

    /// Leaves the namespace and waits until the server has closed the connection.
    pub async fn disconnect(self) {
        // The client is disconnected in either case.
        let _ = self.client.disconnect().await;
    }

    /// Waits until the server ends the connection, discarding events. Returns whether the server
    /// sent a disconnect; if not, the connection was lost.
    ///
    /// # Errors
    ///
    /// If the connection does not end in time.
    pub async fn closed(&mut self) -> Result<bool, ClientError> {
        let deadline = self.builder.deadline;
        let ended = async {
            while self.take().await.is_some() {}
            let end = self.client.end();
            Ok(matches!(end, Some(ClientError::Disconnected(_))))
        };
        in_time(deadline, ended, "the end").await
    }

    /// Receives the next event and records its offset.
    async fn take(&mut self) -> Option<Incoming> {
        let event = self.client.next().await?;
        // Only events without an acknowledgement carry an offset, as their last argument.
        if self.client.pid().is_some() && event.ack.is_none() {
            let last = event.args.len().checked_sub(1);
            if let Some(offset) = last.and_then(|last| event.args.get(last).ok()) {
                self.offset = Some(offset);
            }
        }
        Some(event)
    }
}

async fn in_time<T>(
    deadline: Duration,
    operation: impl Future<Output = Result<T, ClientError>>,
    name: &'static str,
) -> Result<T, ClientError> {
    timeout(deadline, operation)
        .await
        .unwrap_or(Err(ClientError::Timeout(name)))
}

/// Default timeout of all awaited operations.
const DEADLINE: Duration = Duration::from_secs(10);
