use std::{
    collections::VecDeque,
    future::poll_fn,
    sync::Arc,
    task::{Context, Poll, ready},
    time::Duration,
};

use roomcast_protocol::{
    DecodeError, Frame,
    engine::Transport,
    socket::{Arguments, Kind, Packet, Parser},
};
use tokio::time::timeout;

use super::{
    ClientError, DisconnectReason, Options,
    handshake::{self, Admission},
    link::Link,
    options::Target,
};

/// One connection, in one namespace, driven by its owner.
///
/// All work happens inside its methods. [`next`](Self::next) reads, answers pings, upgrades, and
/// writes the data that [`emit`](Self::emit) could not write immediately. Call it continuously, or
/// the server times the client out. Dropping the connection closes it without a close packet.
#[derive(Debug)]
pub struct Connection {
    link: Link,
    parser: Parser,
    /// Events that arrived before the answer to `CONNECT`.
    early: VecDeque<Packet>,
    namespace: String,
    admission: Admission,
    last_ack: u64,
}

impl Connection {
    /// Connects, and joins the namespace.
    ///
    /// # Errors
    /// Fails if the options are invalid, the server does not answer in time, it is not a Socket.IO
    /// server, or it refuses.
    pub async fn open(options: &Options) -> Result<Self, ClientError> {
        let target = Arc::new(Target::new(options.clone())?);
        let open = async {
            let mut connection = Self {
                namespace: target.namespace.clone(),
                link: Link::open(&target).await?,
                parser: options.parser,
                early: VecDeque::new(),
                admission: Admission::default(),
                last_ack: 0,
            };
            connection.enter(options).await?;
            Ok(connection)
        };
        let opened = timeout(options.connect_timeout, open).await;
        opened.unwrap_or(Err(ClientError::Timeout("connecting")))
    }

    async fn enter(&mut self, options: &Options) -> Result<(), ClientError> {
        let connect = self.parser.connect(&self.namespace, &options.auth);
        self.send(&connect.map_err(ClientError::Encode)?)?;
        let mut early = 0;
        loop {
            let packet = poll_fn(|cx| self.poll_any(cx)).await?;
            match packet.kind {
                Kind::Connect => {
                    self.admission = Admission::read(&packet)?;
                    return Ok(());
                }
                Kind::ConnectError => return Err(handshake::refusal(&packet)),
                Kind::Disconnect => {
                    return Err(ClientError::Disconnected(
                        DisconnectReason::ServerDisconnect,
                    ));
                }
                // A recovered session replays missed events before it answers `CONNECT`.
                Kind::Event => {
                    early += handshake::weight(&packet);
                    if early > options.max_message {
                        return Err(DecodeError::TooLarge.into());
                    }
                    self.early.push_back(packet);
                }
                Kind::Ack => {} // No request was sent yet, so no caller waits for this.
            }
        }
    }

    /// Returns the socket's id in its namespace.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.admission.sid
    }

    /// Returns the secret that recovers the session, or `None` if the server retains no sessions.
    ///
    /// A client recovers the session if its `auth` contains this value as `pid`, and the last
    /// argument of the last received event as `offset`. It keeps its socket id.
    #[must_use]
    pub fn pid(&self) -> Option<&str> {
        self.admission.pid.as_deref()
    }

    /// Returns the namespace's name.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Returns the transport that sends the packets.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        self.link.transport()
    }

    /// Returns whether a WebSocket upgrade is in progress.
    #[must_use]
    pub fn is_upgrading(&self) -> bool {
        self.link.is_upgrading()
    }

    /// Returns how many pings of the server were answered.
    #[must_use]
    pub const fn pings(&self) -> u64 {
        self.link.pings()
    }

    /// Returns the number of bytes that wait to be sent.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.link.queued()
    }

    /// Sends an event.
    ///
    /// [`next`](Self::next) writes the bytes that the kernel does not accept immediately.
    ///
    /// # Errors
    /// Fails if the event cannot be encoded, the send queue is full, or the connection has broken.
    pub fn emit(
        &mut self,
        name: &str,
        args: &(impl Arguments + ?Sized),
    ) -> Result<(), ClientError> {
        let frame = self.parser.event(&self.namespace, None, name, args);
        self.send(&frame.map_err(ClientError::Encode)?)
    }

    /// Sends an event with an acknowledgement request. Returns the id of the acknowledgement.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub fn request(
        &mut self,
        name: &str,
        args: &(impl Arguments + ?Sized),
    ) -> Result<u64, ClientError> {
        self.last_ack += 1;
        let id = Some(self.last_ack);
        let frame = self.parser.event(&self.namespace, id, name, args);
        self.send(&frame.map_err(ClientError::Encode)?)?;
        Ok(self.last_ack)
    }

    /// Acknowledges the event that has this acknowledgement id.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub fn ack(&mut self, id: u64, args: &(impl Arguments + ?Sized)) -> Result<(), ClientError> {
        let frame = self.parser.ack(&self.namespace, id, args);
        self.send(&frame.map_err(ClientError::Encode)?)
    }

    /// Sends an encoded packet.
    ///
    /// # Errors
    /// Fails if the send queue is full or the connection has broken.
    pub fn send(&mut self, frame: &Frame) -> Result<(), ClientError> {
        self.link.send(frame)
    }

    /// Returns the next event or acknowledgement.
    ///
    /// This method is cancel safe: dropping the future loses no packet.
    ///
    /// # Errors
    /// Returns why the connection has ended.
    pub async fn next(&mut self) -> Result<Packet, ClientError> {
        poll_fn(|cx| self.poll_packet(cx)).await
    }

    /// Polls for the next packet, like [`next`](Self::next), for manual futures.
    pub fn poll_packet(&mut self, cx: &mut Context<'_>) -> Poll<Result<Packet, ClientError>> {
        if let Some(packet) = self.early.pop_front() {
            return Poll::Ready(Ok(packet));
        }
        loop {
            let packet = ready!(self.poll_any(cx))?;
            match packet.kind {
                Kind::Event | Kind::Ack => return Poll::Ready(Ok(packet)),
                Kind::Disconnect => {
                    let reason = DisconnectReason::ServerDisconnect;
                    return Poll::Ready(Err(ClientError::Disconnected(reason)));
                }
                Kind::Connect | Kind::ConnectError => {}
            }
        }
    }

    /// Leaves the namespace, ends the session, and waits until that is written, for at most 5 s.
    ///
    /// The server handles all packets that were sent before. Packets that arrive while the
    /// connection closes are dropped.
    ///
    /// # Errors
    /// Fails if the connection breaks before that.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let written = timeout(CLOSING, self.close_gracefully()).await;
        written.unwrap_or(Err(ClientError::Timeout("closing")))
    }

    /// Closes like [`close`](Self::close), and also waits until the server ends the connection.
    pub(crate) async fn end(mut self) -> Result<(), ClientError> {
        let ended = async {
            self.close_gracefully().await?;
            while poll_fn(|cx| self.poll_any(cx)).await.is_ok() {}
            Ok(())
        };
        let ended = timeout(CLOSING, ended).await;
        ended.unwrap_or(Err(ClientError::Timeout("closing")))
    }

    async fn close_gracefully(&mut self) -> Result<(), ClientError> {
        let leave = self.parser.disconnect(&self.namespace);
        self.link
            .push_separate(&leave.map_err(ClientError::Encode)?, None)?;
        self.link.close_gracefully().await
    }

    /// Polls for the next packet of this connection's namespace.
    fn poll_any(&mut self, cx: &mut Context<'_>) -> Poll<Result<Packet, ClientError>> {
        loop {
            let packet = ready!(self.link.poll_packet(cx))?;
            if packet.nsp == *self.namespace {
                return Poll::Ready(Ok(packet));
            }
        }
    }
}

/// Timeout of a graceful close.
const CLOSING: Duration = Duration::from_secs(5);
