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
    socket::{Args, Arguments, Kind, Packet, Parser},
};
use tokio::{
    sync::{mpsc, oneshot},
    task::AbortHandle,
};

use crate::client::{ClientError, Connection, DisconnectReason, Options};

/// A connected client: a handle of the task that drives its [`Connection`].
///
/// Dropping it closes the connection. Events that nobody takes wait: from 1,024 on nothing is read
/// any more, and the server will in the end think the client dead.
#[derive(Debug)]
pub(super) struct Handle {
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
    /// The acknowledgement that the server asks for; [`Client::ack`](super::Client::ack) gives it.
    pub ack: Option<u64>,
}

impl Handle {
    /// Connects. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// As [`Connection::open`].
    pub(super) async fn connect(
        options: &Options,
        ack_timeout: Duration,
    ) -> Result<Self, ClientError> {
        let connection = Connection::open(options).await?;
        let (commands, queue) = mpsc::channel(QUEUE);
        let (sink, events) = mpsc::channel(QUEUE);
        let end = Arc::default();
        Ok(Self {
            id: connection.id().to_owned(),
            pid: connection.pid().map(str::to_owned),
            namespace: connection.namespace().to_owned(),
            parser: options.parser,
            last_ack: AtomicU64::new(0),
            ack_timeout,
            commands,
            events: Mutex::new(events),
            end: Arc::clone(&end),
            driver: tokio::spawn(drive(connection, queue, sink, end)).abort_handle(),
        })
    }

    /// The socket's id in its namespace.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// The secret by which the client can come back as the same socket; see [`Connection::pid`].
    pub(super) fn pid(&self) -> Option<&str> {
        self.pid.as_deref()
    }

    /// Sends an event.
    ///
    /// # Errors
    /// If it cannot be encoded or the connection has ended.
    pub(super) async fn emit(&self, name: &str, args: impl Arguments) -> Result<(), ClientError> {
        let frame = self.parser.event(&self.namespace, None, name, &args);
        self.send(frame.map_err(ClientError::encode)?, None).await
    }

    /// Sends an event and waits for its acknowledgement, of which all arguments are returned.
    ///
    /// # Errors
    /// If it cannot be encoded, the connection has ended or ends, or nothing comes in time.
    pub(super) async fn request(
        &self,
        name: &str,
        args: impl Arguments,
    ) -> Result<Args, ClientError> {
        let id = self.last_ack.fetch_add(1, Ordering::Relaxed) + 1;
        let frame = self.parser.event(&self.namespace, Some(id), name, &args);
        let (sender, answer) = oneshot::channel();
        self.send(frame.map_err(ClientError::encode)?, Some((id, sender)))
            .await?;
        match tokio::time::timeout(self.ack_timeout, answer).await {
            Ok(Ok(args)) => Ok(args),
            Ok(Err(_)) => Err(self.ended()),
            Err(_) => Err(ClientError::Timeout("an acknowledgement")),
        }
    }

    /// Gives the acknowledgement that an event asked for; nothing happens if it did not.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub(super) async fn ack(
        &self,
        event: &Incoming,
        args: impl Arguments,
    ) -> Result<(), ClientError> {
        let Some(id) = event.ack else { return Ok(()) };
        let frame = self.parser.ack(&self.namespace, id, &args);
        self.send(frame.map_err(ClientError::encode)?, None).await
    }

    /// The next event; `None` when the connection has ended. For one task at a time.
    pub(super) async fn next(&self) -> Option<Incoming> {
        poll_fn(|cx| self.events.lock().poll_recv(cx)).await
    }

    /// Why the connection has ended; `None` before [`next`](Self::next) is.
    pub(super) fn end(&self) -> Option<&ClientError> {
        self.end.get()
    }

    /// Why nothing more can be sent or received.
    pub(super) fn ended(&self) -> ClientError {
        let own = ClientError::Disconnected(DisconnectReason::ClientDisconnect);
        self.end().map_or(own, ClientError::copy)
    }

    /// Leaves the namespace, ends the session, and waits until the server has done so as well; at
    /// most 5 s.
    ///
    /// # Errors
    /// If the connection breaks before that is written.
    pub(super) async fn disconnect(self) -> Result<(), ClientError> {
        let (sender, done) = oneshot::channel();
        let closing = self.commands.send(Command::Close(sender)).await;
        closing.map_err(|_| self.ended())?;
        done.await.unwrap_or_else(|_| Err(self.ended()))
    }

    async fn send(&self, frame: Frame, ack: Option<Pending>) -> Result<(), ClientError> {
        let sent = self.commands.send(Command::Send(frame, ack)).await;
        sent.map_err(|_| self.ended())
    }
}

impl Drop for Handle {
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
    mut commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Incoming>,
    end: Arc<OnceLock<ClientError>>,
) {
    let mut answers = HashMap::new();
    let served = serve(connection, &mut commands, &events, &mut answers).await;
    if let Err(error) = served {
        // The reason is set before the queues are dropped, so that callers find it when they end.
        let _ = end.set(error);
    }
    drop((commands, events, answers));
}

async fn serve(
    mut connection: Connection,
    commands: &mut mpsc::Receiver<Command>,
    events: &mpsc::Sender<Incoming>,
    answers: &mut HashMap<u64, oneshot::Sender<Args>>,
) -> Result<(), ClientError> {
    let mut waiting = None;
    loop {
        // Commands wait while much is unwritten, so that a test that sends too fast is slowed down.
        let has_room = connection.queued() < HIGH_WATER;
        tokio::select! {
            command = commands.recv(), if has_room => match command {
                Some(Command::Send(frame, ack)) => {
                    if answers.len() >= QUEUE {
                        // Answers that nobody waits for any more would stay for good if the server never sends them.
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
            // While an event waits for its taker nothing is read, so that the server notices a client that is slow.
            packet = connection.next(), if waiting.is_none() => match packet {
                Ok(Packet { kind: Kind::Ack, id: Some(id), args, .. }) => {
                    if let Some(answer) = answers.remove(&id) {
                        // Whoever has asked may have stopped waiting.
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
