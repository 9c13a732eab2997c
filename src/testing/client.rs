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

/// A client that is not connected yet; from [`TestServer::client`](super::TestServer::client).
#[derive(Clone, Debug)]
#[must_use = "it connects when it is told to"]
pub struct ClientBuilder {
    options: Options,
    auth: Map<String, Value>,
    deadline: Duration,
}

impl ClientBuilder {
    /// The client uses the parser of its server.
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

    /// What it sends along when it connects: the option `auth` of stock clients, an object.
    pub fn auth(mut self, auth: Value) -> Self {
        if let Value::Object(fields) = &auth {
            self.auth.clone_from(fields);
        }
        self.with(|options| options.auth = Some(auth))
    }

    /// The namespace it connects to. Default `/`.
    pub fn namespace(self, name: &str) -> Self {
        self.with(|options| options.namespace = Some(name.to_owned()))
    }

    /// Adds a header to its requests.
    pub fn header(self, name: &str, value: &str) -> Self {
        self.with(|options| options.headers.push((name.to_owned(), value.to_owned())))
    }

    /// Adds a parameter to the query of its requests.
    pub fn query(self, name: &str, value: &str) -> Self {
        self.with(|options| options.query.push((name.to_owned(), value.to_owned())))
    }

    /// The transports it uses. Default is a WebSocket.
    pub fn transports(self, transports: Transports) -> Self {
        self.with(|options| options.transports = transports)
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
    /// [`ClientError::Refused`] is what stock clients call `connect_error`.
    ///
    /// # Panics
    ///
    /// When the server is not ours.
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
/// Events that nobody has asked for wait; from 1,024 on nothing more is read, acknowledgements
/// included.
#[derive(Debug)]
pub struct Client {
    id: SocketId,
    client: Handle,
    /// The offset of the event that came last, if the client can come back as the same socket.
    offset: Option<String>,
    builder: ClientBuilder,
}

impl Client {
    /// The id of its socket.
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// The secret by which the client can come back as the same socket; `None` if the server keeps none.
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
        in_time(
            self.builder.deadline,
            self.client.emit(event, args),
            "sending",
        )
        .await
    }

    /// Sends an event and waits for its acknowledgement: one value, a tuple for several, or [`Args`]
    /// for all of them.
    ///
    /// ```
    /// use roomcast::{Event, Io, Refusal, testing::ClientError};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), ClientError> {
    /// let mut io = Io::builder();
    /// io.namespace("/").on("close", async |_: Event| {
    ///     Err::<(), _>(Refusal::new("FORBIDDEN", "for admins only"))
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
    /// [`ClientError::Refused`] when the handler has refused the event, unless what was asked for takes
    /// the object of a refusal as well, as [`Value`] does. When no answer comes in time or it has
    /// another shape, and as [`emit`](Self::emit).
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
    /// As [`emit`](Self::emit).
    pub async fn send<T: Contract>(&self, event: T) -> Result<(), ClientError> {
        self.emit(T::EVENT, event).await
    }

    /// Sends a typed event and waits for its reply; see [`Request`].
    ///
    /// # Errors
    ///
    /// As [`emit_with_ack`](Self::emit_with_ack).
    pub async fn request<T: Request>(&self, event: T) -> Result<T::Reply, ClientError> {
        self.emit_with_ack(T::EVENT, event).await
    }

    /// The next typed event of this contract. Other events before it are passed over.
    ///
    /// # Errors
    ///
    /// As [`event`](Self::event).
    pub async fn contract<T: Contract + DeserializeOwned>(&mut self) -> Result<T, ClientError> {
        self.event(T::EVENT).await
    }

    /// The next event, whatever its name.
    ///
    /// # Errors
    ///
    /// When none comes in time, or the client is disconnected.
    pub async fn next(&mut self) -> Result<Incoming, ClientError> {
        let deadline = self.builder.deadline;
        let next = async { self.take().await.ok_or_else(|| self.client.ended()) };
        in_time(deadline, next, "an event").await
    }

    /// The argument of the next event of this name, a tuple for several, or [`Args`] for all. Events of other
    /// names before it are passed over.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next), and when the argument has another shape.
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

    /// Makes sure that no event comes within this time.
    ///
    /// This takes that time, and what comes later is not seen. Where the server answers something
    /// afterwards, that is the better proof: whatever it has sent before an acknowledgement is there
    /// before it, so `within` may be zero then.
    ///
    /// # Errors
    ///
    /// [`ClientError::Unexpected`] with the name of the event that came, and
    /// [`ClientError::Disconnected`] if the server disconnects the socket, or another error if the
    /// connection ends.
    pub async fn nothing_within(&mut self, within: Duration) -> Result<(), ClientError> {
        match timeout(within, self.take()).await {
            Err(_) => Ok(()),
            Ok(Some(event)) => Err(ClientError::Unexpected(event.name)),
            Ok(None) => Err(self.client.ended()),
        }
    }

    /// Breaks the connection without a goodbye and connects anew with the same options, as stock
    /// clients do. Where the server has [recovery](crate::Builder::recovery), the new connection
    /// offers the old socket: with the events that were taken from this client as those that it has got.
    ///
    /// # Errors
    ///
    /// As [`ClientBuilder::connect`].
    pub async fn reconnect(self) -> Result<Self, ClientError> {
        let builder = self.builder;
        let mut auth = builder.auth.clone();
        if let (Some(pid), Some(offset)) = (self.client.pid(), self.offset) {
            auth.insert("pid".into(), pid.into());
            auth.insert("offset".into(), offset.into());
        }
        let offering = match auth.is_empty() {
            true => builder.clone(),
            false => builder.clone().auth(Value::Object(auth)),
        };
        // The old connection breaks before the new one is made, as when a network is lost.
        drop(self.client);
        let client = offering.connect().await?;
        Ok(Self { builder, ..client })
    }

    /// Answers an event that asked for an acknowledgement; nothing happens if it did not.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    pub async fn ack(&self, event: &Incoming, args: impl Arguments) -> Result<(), ClientError> {
        in_time(
            self.builder.deadline,
            self.client.ack(event, args),
            "sending",
        )
        .await
    }

    /// Leaves the namespace and waits until the server has ended the connection.
    pub async fn disconnect(self) {
        // However it ends, it has ended.
        let _ = self.client.disconnect().await;
    }

    /// Waits until the server ends the connection, passing over events. Returns whether
    /// the server said goodbye; if not, the connection was lost.
    ///
    /// # Errors
    ///
    /// When it does not happen in time.
    pub async fn closed(&mut self) -> Result<bool, ClientError> {
        let deadline = self.builder.deadline;
        let ended = async {
            while self.take().await.is_some() {}
            let end = self.client.end();
            Ok(matches!(end, Some(ClientError::Disconnected(_))))
        };
        in_time(deadline, ended, "the end").await
    }

    /// The next event, noted as the last one that this client has got.
    async fn take(&mut self) -> Option<Incoming> {
        let event = self.client.next().await?;
        // Only events that ask for no acknowledgement carry an offset, as their last argument.
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
    what: impl Future<Output = Result<T, ClientError>>,
    name: &'static str,
) -> Result<T, ClientError> {
    timeout(deadline, what)
        .await
        .unwrap_or(Err(ClientError::Timeout(name)))
}

/// How long anything may take that is awaited.
const DEADLINE: Duration = Duration::from_secs(10);
