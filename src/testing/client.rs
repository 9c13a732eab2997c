use std::{fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use roomcast_protocol::{
    Frame,
    socket::{Args, Argument, ArgumentError, Arguments, EncodeError, Kind, Nsp, Packet, Parser},
    websocket::handshake::AnswerError,
};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
    time::timeout,
};

use super::link::{Link, Read, Shared, bytes};
use crate::SocketId;

/// A client that is not connected yet; from [`TestServer::client`](super::TestServer::client).
#[derive(Clone, Debug)]
#[must_use = "it connects when it is told to"]
pub struct ClientBuilder {
    address: SocketAddr,
    path: String,
    parser: Parser,
    nsp: Nsp,
    query: String,
    headers: Vec<(String, String)>,
    auth: Value,
    deadline: Duration,
}

impl ClientBuilder {
    /// It speaks what its server speaks.
    pub(super) fn new(address: SocketAddr, path: String, parser: Parser) -> Self {
        Self {
            address,
            path,
            parser,
            nsp: Nsp::ROOT,
            query: String::new(),
            headers: Vec::new(),
            auth: Value::Null,
            deadline: DEADLINE,
        }
    }

    /// What it sends along when it connects: the option `auth` of stock clients, an object.
    pub fn auth(mut self, auth: Value) -> Self {
        self.auth = auth;
        self
    }

    /// The namespace it connects to. Default `/`.
    pub fn namespace(mut self, name: &str) -> Self {
        self.nsp = Nsp::from(name);
        self
    }

    /// Adds a header to its first request.
    pub fn header(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// Adds a parameter to the query of its first request.
    pub fn query(mut self, name: &str, value: &str) -> Self {
        let mut query = form_urlencoded::Serializer::new(std::mem::take(&mut self.query));
        self.query = query.append_pair(name, value).finish();
        self
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
    pub async fn connect(self) -> Result<Client, ClientError> {
        let deadline = self.deadline;
        timeout(deadline, self.open())
            .await
            .unwrap_or(Err(ClientError::Timeout))
    }

    async fn open(self) -> Result<Client, ClientError> {
        let separator = if self.query.is_empty() { "" } else { "&" };
        let target = format!(
            "{}?EIO=4&transport=websocket{separator}{}",
            self.path, self.query
        );
        let mut link = Link::open(self.address, self.parser, &target, &self.headers).await?;
        let hello = self
            .parser
            .connect(self.nsp.as_str(), &self.auth)
            .map_err(ClientError::Encode)?;
        link.write(&bytes(&hello)).await?;
        let packet = loop {
            match link.read().await? {
                Read::Packet(packet) if packet.nsp == self.nsp => break packet,
                Read::Packet(_) | Read::Nothing => {}
                Read::Reply(reply) => link.write(&reply).await?,
            }
        };
        let id = match packet.kind {
            Kind::Connect => {
                let admitted: Admitted = packet.args.get(0).map_err(ClientError::Decode)?;
                admitted.sid
            }
            Kind::ConnectError => {
                let refused: Refused = packet.args.get(0).map_err(ClientError::Decode)?;
                return Err(ClientError::Refused {
                    message: refused.message,
                    data: refused.data,
                });
            }
            Kind::Disconnect | Kind::Event | Kind::Ack => return Err(ClientError::Disconnected),
        };
        let shared = Arc::<Shared>::default();
        let (sender, writes) = mpsc::channel(MAX_WRITES);
        let (taken, events) = mpsc::channel(MAX_EVENTS);
        let running = link.run(self.nsp.clone(), Arc::clone(&shared), writes, taken);
        Ok(Client {
            id,
            parser: self.parser,
            nsp: self.nsp,
            shared,
            writes: sender,
            events,
            last_ack: 0,
            deadline: self.deadline,
            task: tokio::spawn(running).abort_handle(),
        })
    }
}

/// A connected client. Dropping it closes the connection.
///
/// Events that nobody has asked for wait, at most 1,024; more end the connection.
pub struct Client {
    id: SocketId,
    parser: Parser,
    nsp: Nsp,
    shared: Arc<Shared>,
    writes: mpsc::Sender<Vec<u8>>,
    events: mpsc::Receiver<Received>,
    last_ack: u64,
    deadline: Duration,
    task: AbortHandle,
}

impl Client {
    /// The id of its socket.
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// Sends an event: a tuple is several arguments, `()` is none.
    ///
    /// # Errors
    ///
    /// When it is disconnected, or the arguments cannot be sent.
    pub async fn emit(&mut self, event: &str, args: impl Arguments) -> Result<(), ClientError> {
        let frame = self.parser.event(self.nsp.as_str(), None, event, &args);
        self.write(&frame.map_err(ClientError::Encode)?).await
    }

    /// Sends an event and waits for its acknowledgement: one value, or [`Args`] for all of it.
    ///
    /// # Errors
    ///
    /// When it does not come in time or has another shape, and as [`emit`](Self::emit).
    pub async fn emit_with_ack<R: Argument>(
        &mut self,
        event: &str,
        args: impl Arguments,
    ) -> Result<R, ClientError> {
        self.last_ack += 1;
        let id = self.last_ack;
        let frame = self.parser.event(self.nsp.as_str(), Some(id), event, &args);
        let frame = frame.map_err(ClientError::Encode)?;
        let (sender, answer) = oneshot::channel();
        self.shared.acks.lock().insert(id, sender);
        let answered = async {
            self.write(&frame).await?;
            answer.await.map_err(|_| ClientError::Disconnected)
        };
        let outcome = timeout(self.deadline, answered).await;
        self.shared.acks.lock().remove(&id);
        let args: Args = outcome.unwrap_or(Err(ClientError::Timeout))?;
        R::take(&args, &mut 0).map_err(ClientError::Decode)
    }

    /// The next event, whatever its name.
    ///
    /// # Errors
    ///
    /// When none comes in time, or the client is disconnected.
    pub async fn next(&mut self) -> Result<Received, ClientError> {
        match timeout(self.deadline, self.events.recv()).await {
            Ok(Some(event)) => Ok(event),
            Ok(None) => Err(ClientError::Disconnected),
            Err(_) => Err(ClientError::Timeout),
        }
    }

    /// The argument of the next event of this name, or [`Args`] for all of them. Events of other
    /// names before it are passed over.
    ///
    /// # Errors
    ///
    /// As [`next`](Self::next), and when the argument has another shape.
    pub async fn event<R: Argument>(&mut self, name: &str) -> Result<R, ClientError> {
        let deadline = self.deadline;
        let named = async {
            loop {
                let event = self.next().await?;
                if event.name() == name {
                    return R::take(event.args(), &mut 0).map_err(ClientError::Decode);
                }
            }
        };
        timeout(deadline, named)
            .await
            .unwrap_or(Err(ClientError::Timeout))
    }

    /// Answers an event that asked for an acknowledgement; nothing happens if it did not.
    ///
    /// # Errors
    ///
    /// As [`emit`](Self::emit).
    pub async fn answer(
        &mut self,
        event: &Received,
        args: impl Arguments,
    ) -> Result<(), ClientError> {
        let Some(id) = event.0.id else {
            return Ok(());
        };
        let frame = self
            .parser
            .ack(self.nsp.as_str(), id, &args)
            .map_err(ClientError::Encode)?;
        self.write(&frame).await
    }

    /// Leaves the namespace and closes the connection.
    pub async fn disconnect(self) {
        if let Ok(goodbye) = self.parser.disconnect(self.nsp.as_str()) {
            let _ = self.write(&goodbye).await;
        }
        let mut this = self;
        // The task writes what waits before it notices that nobody writes any more.
        let (writes, _) = mpsc::channel(1);
        drop(std::mem::replace(&mut this.writes, writes));
        let ended = async { while this.events.recv().await.is_some() {} };
        let _ = timeout(this.deadline, ended).await;
    }

    /// Waits until the server ends it, passing over events. `true`: it said goodbye, `false`: the
    /// connection was lost.
    ///
    /// # Errors
    ///
    /// When it does not happen in time.
    pub async fn closed(&mut self) -> Result<bool, ClientError> {
        let ended = async { while self.events.recv().await.is_some() {} };
        match timeout(self.deadline, ended).await {
            Ok(()) => Ok(self.shared.goodbye.get().copied().unwrap_or(false)),
            Err(_) => Err(ClientError::Timeout),
        }
    }

    async fn write(&self, frame: &Frame) -> Result<(), ClientError> {
        let sent = self.writes.send(bytes(frame));
        match timeout(self.deadline, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(_)) => Err(ClientError::Disconnected),
            Err(_) => Err(ClientError::Timeout),
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("id", &self.id)
            .field("namespace", &self.nsp)
            .finish_non_exhaustive()
    }
}

/// An event that a client has received.
#[derive(Clone, Debug)]
pub struct Received(Packet);

impl Received {
    pub(super) fn new(packet: Packet) -> Self {
        Self(packet)
    }

    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.0.event_name()
    }

    /// Its arguments.
    #[must_use]
    pub fn args(&self) -> &Args {
        &self.0.args
    }

    /// Whether the server asked for an acknowledgement; see [`Client::answer`].
    #[must_use]
    pub fn wants_ack(&self) -> bool {
        self.0.id.is_some()
    }
}

/// Why a client cannot do something.
#[derive(Debug)]
#[non_exhaustive]
pub enum ClientError {
    /// The connection cannot be made or has broken.
    Io(io::Error),
    /// The server does not open a WebSocket.
    Handshake(AnswerError),
    /// A header or the query cannot be sent.
    InvalidRequest,
    /// The server does not let it in.
    Refused {
        /// Why, for people.
        message: String,
        /// What else the server says.
        data: Option<Value>,
    },
    /// It took longer than the deadline.
    Timeout,
    /// It is disconnected.
    Disconnected,
    /// Arguments cannot be sent.
    Encode(EncodeError),
    /// What came has another shape.
    Decode(ArgumentError),
}

impl fmt::Display for ClientError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Io(_) => f.write_str("the connection has failed"),
            Self::Handshake(_) => f.write_str("the server does not open a WebSocket"),
            Self::InvalidRequest => f.write_str("a header or the query cannot be sent"),
            Self::Refused { message, .. } => write!(f, "refused: {message}"),
            Self::Timeout => f.write_str("it took too long"),
            Self::Disconnected => f.write_str("the client is disconnected"),
            Self::Encode(_) => f.write_str("arguments cannot be sent"),
            Self::Decode(_) => f.write_str("what came has another shape"),
        }
    }
}

impl std::error::Error for ClientError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            Self::Handshake(error) => Some(error),
            Self::Encode(error) => Some(error),
            Self::Decode(error) => Some(error),
            Self::InvalidRequest | Self::Refused { .. } | Self::Timeout | Self::Disconnected => {
                None
            }
        }
    }
}

impl From<io::Error> for ClientError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<AnswerError> for ClientError {
    fn from(error: AnswerError) -> Self {
        Self::Handshake(error)
    }
}

/// What lets a client in.
#[derive(Deserialize, Serialize)]
struct Admitted {
    sid: SocketId,
}

/// What does not.
#[derive(Deserialize)]
struct Refused {
    message: String,
    data: Option<Value>,
}

/// How long anything may take that is awaited.
const DEADLINE: Duration = Duration::from_secs(10);
/// Packets that may wait to be written.
const MAX_WRITES: usize = 64;
/// Events that may wait to be asked for.
const MAX_EVENTS: usize = 1024;
