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

/// A connected client: a handle to the task that drives its [`Connection`].
///
/// Dropping it closes the connection. Received events are queued. When 1,024 are queued, nothing
/// more is read, and the server eventually closes the connection after a ping timeout.
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
    /// The id of the acknowledgement that the server requests; [`Client::ack`](super::Client::ack)
    /// sends it.
    pub ack: Option<u64>,
}

impl Handle {
    /// Connects. Must be called on a tokio runtime.
    ///
    /// # Errors
    /// As for [`Connection::open`].
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

    /// Returns the socket's id in its namespace.
    pub(super) fn id(&self) -> &str {
        &self.id
    }

    /// Returns the secret with which the client can recover its socket; see [`Connection::pid`].
    pub(super) fn pid(&self) -> Option<&str> {
        self.pid.as_deref()
    }

    /// Sends an event.
    ///
    /// # Errors
    /// If it cannot be encoded or the connection has ended.
    pub(super) async fn emit(&self, name: &str, args: impl Arguments) -> Result<(), ClientError> {
        let frame = self.parser.event(&self.namespace, None, name, &args);
        self.send(frame.map_err(ClientError::Encode)?, None).await
    }

    /// Sends an event, waits for its acknowledgement and returns all of its arguments.
    ///
    /// # Errors
    /// If the event cannot be encoded, the connection has ended or ends, or no acknowledgement
    /// arrives in time.
    pub(super) async fn request(
        &self,
        name: &str,
        args: impl Arguments,
    ) -> Result<Args, ClientError> {
        let id = self.last_ack.fetch_add(1, Ordering::Relaxed) + 1;
        let frame = self.parser.event(&self.namespace, Some(id), name, &args);
        let (sender, answer) = oneshot::channel();
        self.send(frame.map_err(ClientError::Encode)?, Some((id, sender)))
            .await?;
        match tokio::time::timeout(self.ack_timeout, answer).await {
            Ok(Ok(args)) => Ok(args),
            Ok(Err(_)) => Err(self.ended()),
            Err(_) => Err(ClientError::Timeout("an acknowledgement")),
        }
    }

    /// Sends the acknowledgement that an event requests; does nothing if it requests none.
    ///
    /// # Errors
    /// As for [`emit`](Self::emit).
    pub(super) async fn ack(
        &self,
        event: &Incoming,
        args: impl Arguments,
    ) -> Result<(), ClientError> {
        let Some(id) = event.ack else { return Ok(()) };
        let frame = self.parser.ack(&self.namespace, id, &args);
        self.send(frame.map_err(ClientError::Encode)?, None).await
    }

    /// Returns the next event, or `None` when the connection has ended. Only one task at a time may
    /// call this.
    pub(super) async fn next(&self) -> Option<Incoming> {
        poll_fn(|cx| self.events.lock().poll_recv(cx)).await
    }

    /// Returns why the connection has ended; `None` until [`next`](Self::next) has returned `None`.
    pub(super) fn end(&self) -> Option<&ClientError> {
        self.end.get()
    }

    /// Returns the error for operations on an ended connection.
    pub(super) fn ended(&self) -> ClientError {
        let own = ClientError::Disconnected(DisconnectReason::ClientDisconnect);
        self.end().map_or(own, ClientError::copy)
    }

    /// Leaves the namespace, ends the session, and waits until the server has ended it too, for at
    /// most 5 s.
    ///
    /// # Errors
    /// If the connection breaks before the disconnect is written.
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

/// Drives a connection until it ends or its handle is dropped.
async fn drive(
    connection: Connection,
    mut commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Incoming>,
    end: Arc<OnceLock<ClientError>>,
) {
    let mut answers = HashMap::new();
    let served = serve(connection, &mut commands, &events, &mut answers).await;
    if let Err(error) = served {
        // The reason is set before the queues are dropped, so that callers find it.
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
        // Commands wait while many bytes are unwritten, so that a test that sends too fast is
        // slowed down.
        let has_room = connection.queued() < HIGH_WATER;
        tokio::select! {
            command = commands.recv(), if has_room => match command {
                Some(Command::Send(frame, ack)) => {
                    if answers.len() >= QUEUE {
                        // Removes acknowledgements whose caller is no longer waiting. Otherwise
                        // they would stay forever if the server never sends them.
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
            // Nothing is read while an event waits to be taken, so that the server notices a slow
            // client.
            packet = connection.next(), if waiting.is_none() => match packet {
                Ok(Packet { kind: Kind::Ack, id: Some(id), args, .. }) => {
                    if let Some(answer) = answers.remove(&id) {
                        // The caller may have stopped waiting.
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

/// Capacity of the command queue and of the event queue. Also the number of pending
/// acknowledgements above which abandoned ones are removed.
const QUEUE: usize = 1024;
/// Number of unwritten bytes above which commands wait.
const HIGH_WATER: usize = 1 << 20;
