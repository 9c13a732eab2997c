use std::{
    collections::HashMap,
    future::poll_fn,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use parking_lot::Mutex;
use roomcast_protocol::{
    Frame,
    socket::{Args, Argument, Arguments, Kind, Packet, Parser},
};
use serde_json::Value;
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use super::{ClientError, Connection, Options, Transports};

/// A connected client: a handle of the task that drives its [`Connection`].
///
/// Dropping it closes the connection. Events that nobody takes wait: from 1,024 on nothing is read
/// any more, and the server will in the end think the client dead.
#[derive(Debug)]
pub struct Client {
    id: String,
    pid: Option<String>,
    namespace: String,
    parser: Parser,
    last_ack: AtomicU64,
    ack_timeout: Duration,
    commands: mpsc::Sender<Command>,
    events: Mutex<mpsc::Receiver<Incoming>>,
    end: Arc<OnceLock<ClientError>>,
    driver: AbortHandle,
}

/// An event that a server sent.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Incoming {
    /// The name of the event.
    pub name: String,
    /// The arguments of the event.
    pub args: Args,
    /// The acknowledgement that the server asks for; [`Client::ack`] gives it.
    pub ack: Option<u64>,
}

/// How a [`Client`] connects.
#[derive(Clone, Debug)]
#[must_use]
pub struct ClientBuilder {
    options: Options,
    ack_timeout: Duration,
}

impl ClientBuilder {
    /// What the server's authentication gets; must be an object. Default is nothing.
    pub fn auth(mut self, auth: impl Into<Value>) -> Self {
        self.options.auth = Some(auth.into());
        self
    }

    /// A further request header, for example `Cookie`. Default is none.
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.headers.push((name.into(), value.into()));
        self
    }

    /// A further query parameter. Default is none.
    pub fn query(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.options.query.push((name.into(), value.into()));
        self
    }

    /// The namespace. Default is the path of the URL.
    pub fn namespace(mut self, name: impl Into<String>) -> Self {
        self.options.namespace = Some(name.into());
        self
    }

    /// The path of HTTP requests. Default is `/socket.io/`.
    pub fn path(mut self, path: impl Into<String>) -> Self {
        self.options.path = path.into();
        self
    }

    /// The transports. Default is WebSocket.
    pub fn transports(mut self, transports: Transports) -> Self {
        self.options.transports = transports;
        self
    }

    /// How packets are written, which must be how the server does it. Default is JSON.
    pub fn parser(mut self, parser: Parser) -> Self {
        self.options.parser = parser;
        self
    }

    /// How long connecting may take, the namespace included. Default is 20 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.options.connect_timeout = timeout;
        self
    }

    /// How long an acknowledgement is waited for. Default is 20 s.
    pub fn ack_timeout(mut self, timeout: Duration) -> Self {
        self.ack_timeout = timeout;
        self
    }

    /// All the other options.
    pub fn options(mut self, change: impl FnOnce(&mut Options)) -> Self {
        change(&mut self.options);
        self
    }

    /// Connects. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub async fn connect(self) -> Result<Client, ClientError> {
        let connection = Connection::open(&self.options).await?;
        let (commands, queue) = mpsc::channel(QUEUE);
        let (sink, events) = mpsc::channel(QUEUE);
        let end = Arc::default();
        let client = Client {
            id: connection.id().to_owned(),
            pid: connection.pid().map(str::to_owned),
            namespace: connection.namespace().to_owned(),
            parser: self.options.parser,
            last_ack: AtomicU64::new(0),
            ack_timeout: self.ack_timeout,
            commands,
            events: Mutex::new(events),
            end: Arc::clone(&end),
            driver: tokio::spawn(drive(connection, queue, sink, end)).abort_handle(),
        };
        Ok(client)
    }
}

impl Client {
    /// Begins to describe a client of the server at `url`.
    pub fn builder(url: impl Into<String>) -> ClientBuilder {
        ClientBuilder {
            options: Options::new(url),
            ack_timeout: Duration::from_secs(20),
        }
    }

    /// The socket's id in its namespace.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// The secret by which the session can be recovered; see [`Connection::pid`].
    #[must_use]
    pub fn pid(&self) -> Option<&str> {
        self.pid.as_deref()
    }

    /// Sends an event.
    ///
    /// # Errors
    /// If it cannot be encoded or the connection has ended.
    pub async fn emit(&self, name: &str, args: impl Arguments) -> Result<(), ClientError> {
        let frame = self.parser.event(&self.namespace, None, name, &args);
        self.send(frame.map_err(ClientError::encode)?, None).await
    }

    /// Sends an event and waits for its acknowledgement, of which the first argument is returned, or
    /// all of them as [`Args`].
    ///
    /// # Errors
    /// If it cannot be encoded, the connection has ended or ends, nothing comes in time, or what
    /// comes is no `T`.
    pub async fn emit_with_ack<T: Argument>(
        &self,
        name: &str,
        args: impl Arguments,
    ) -> Result<T, ClientError> {
        let answer = self.request(name, args).await?;
        T::take(&answer, &mut 0).map_err(ClientError::Answer)
    }

    /// Sends an event and waits for its acknowledgement, of which all arguments are returned.
    ///
    /// # Errors
    /// As [`emit_with_ack`](Self::emit_with_ack).
    pub async fn request(&self, name: &str, args: impl Arguments) -> Result<Args, ClientError> {
        let id = self.last_ack.fetch_add(1, Ordering::Relaxed) + 1;
        let frame = self.parser.event(&self.namespace, Some(id), name, &args);
        let (sender, answer) = oneshot::channel();
        self.send(frame.map_err(ClientError::encode)?, Some((id, sender)))
            .await?;
        match tokio::time::timeout(self.ack_timeout, answer).await {
            Ok(Ok(args)) => Ok(args),
            Ok(Err(_)) => Err(ClientError::Disconnected),
            Err(_) => Err(ClientError::Timeout("an acknowledgement")),
        }
    }

    /// Gives the acknowledgement that an event asked for; nothing happens if it did not.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub async fn ack(&self, event: &Incoming, args: impl Arguments) -> Result<(), ClientError> {
        let Some(id) = event.ack else { return Ok(()) };
        let frame = self.parser.ack(&self.namespace, id, &args);
        self.send(frame.map_err(ClientError::encode)?, None).await
    }

    /// The next event; `None` when the connection has ended. For one task at a time.
    pub async fn next(&self) -> Option<Incoming> {
        poll_fn(|cx| self.events.lock().poll_recv(cx)).await
    }

    /// Why the connection has ended; `None` before [`next`](Self::next) is.
    #[must_use]
    pub fn end(&self) -> Option<&ClientError> {
        self.end.get()
    }

    /// Leaves the namespace, ends the session, and waits until the server has done so as well; at
    /// most 5 s.
    ///
    /// # Errors
    /// If the connection breaks before that is written.
    pub async fn disconnect(self) -> Result<(), ClientError> {
        let (sender, done) = oneshot::channel();
        let closing = self.commands.send(Command::Close(sender)).await;
        closing.map_err(|_| ClientError::Disconnected)?;
        done.await.unwrap_or(Err(ClientError::Disconnected))
    }

    async fn send(&self, frame: Frame, ack: Option<Pending>) -> Result<(), ClientError> {
        let sent = self.commands.send(Command::Send(frame, ack)).await;
        sent.map_err(|_| ClientError::Disconnected)
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.driver.abort();
    }
}

type Pending = (u64, oneshot::Sender<Args>);

#[derive(Debug)]
enum Command {
    Send(Frame, Option<Pending>),
    Close(oneshot::Sender<Result<(), ClientError>>),
}

/// Drives a connection until it ends or its handle has gone.
async fn drive(
    connection: Connection,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Incoming>,
    end: Arc<OnceLock<ClientError>>,
) {
    if let Err(error) = serve(connection, commands, &events).await {
        // Known before the events end.
        let _ = end.set(error);
    }
    drop(events);
}

async fn serve(
    mut connection: Connection,
    mut commands: mpsc::Receiver<Command>,
    events: &mpsc::Sender<Incoming>,
) -> Result<(), ClientError> {
    let mut answers: HashMap<u64, oneshot::Sender<Args>> = HashMap::new();
    let mut waiting = None;
    loop {
        let has_room = connection.queued() < HIGH_WATER;
        tokio::select! {
            command = commands.recv(), if has_room => match command {
                Some(Command::Send(frame, ack)) => {
                    if answers.len() >= QUEUE {
                        answers.retain(|_, answer| !answer.is_closed());
                    }
                    answers.extend(ack);
                    connection.send(&frame)?;
                }
                Some(Command::Close(done)) => {
                    let _ = done.send(connection.end().await);
                    return Ok(());
                }
                None => return Ok(()),
            },
            permit = events.reserve(), if waiting.is_some() => match (permit, waiting.take()) {
                (Ok(permit), Some(event)) => permit.send(event),
                (Ok(_), None) => {}
                (Err(_), _) => return Ok(()),
            },
            packet = connection.next(), if waiting.is_none() => match packet {
                Ok(Packet { kind: Kind::Ack, id: Some(id), args, .. }) => {
                    if let Some(answer) = answers.remove(&id) {
                        let _ = answer.send(args);
                    }
                }
                Ok(packet) => {
                    waiting = Some(Incoming {
                        name: packet.event_name().to_owned(),
                        ack: packet.id,
                        args: packet.args,
                    });
                }
                Err(error) => return Err(error),
            },
        }
    }
}

/// Commands that may wait for the driver, events for their taker, and answers before those that
/// nobody waits for are forgotten.
const QUEUE: usize = 1024;
/// With more bytes than this to be written, commands wait.
const HIGH_WATER: usize = 1 << 20;
