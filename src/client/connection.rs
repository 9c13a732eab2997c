use std::{
    collections::VecDeque,
    future::poll_fn,
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
/// Nothing happens outside of its methods: [`next`](Self::next) reads, answers pings, upgrades and
/// writes what [`emit`](Self::emit) could not write at once, so it must be called again and again,
/// or the server will think the client dead. Dropping it closes the connection without a goodbye.
#[derive(Debug)]
pub struct Connection {
    link: Link,
    parser: Parser,
    /// Events that came before the namespace's answer.
    early: VecDeque<Packet>,
    namespace: String,
    admission: Admission,
    last_ack: u64,
}

impl Connection {
    /// Connects, and enters the namespace.
    ///
    /// # Errors
    /// If the options cannot be used, nobody answers in time, it is no Socket.IO server, or it
    /// refuses.
    pub async fn open(options: &Options) -> Result<Self, ClientError> {
        let target = Target::new(options)?;
        let open = async {
            let mut connection = Self {
                namespace: target.namespace.clone(),
                link: Link::open(target, options).await?,
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
        self.send(&connect.map_err(ClientError::encode)?)?;
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
                // A session that goes on gets what it has missed before the answer.
                Kind::Event => {
                    early += handshake::weight(&packet);
                    if early > options.max_message {
                        return Err(DecodeError::TooLarge.into());
                    }
                    self.early.push_back(packet);
                }
                Kind::Ack => {} // Nothing was asked yet, so this answers nobody here.
            }
        }
    }

    /// The socket's id in its namespace.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.admission.sid
    }

    /// The secret by which the session can be recovered; `None` if the server keeps none.
    ///
    /// A client that offers it in `auth` as `pid`, with the last argument of the last event that it
    /// has got as `offset`, goes on as the same socket.
    #[must_use]
    pub fn pid(&self) -> Option<&str> {
        self.admission.pid.as_deref()
    }

    /// The namespace's name.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// The transport that packets leave on.
    #[must_use]
    pub const fn transport(&self) -> Transport {
        self.link.transport()
    }

    /// Whether a WebSocket is being tried beside polling.
    #[must_use]
    pub fn is_upgrading(&self) -> bool {
        self.link.is_upgrading()
    }

    /// How many pings of the server were answered.
    #[must_use]
    pub const fn pings(&self) -> u64 {
        self.link.pings()
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn queued(&self) -> usize {
        self.link.queued()
    }

    /// Sends an event.
    ///
    /// What the kernel does not take at once is written by [`next`](Self::next).
    ///
    /// # Errors
    /// If it cannot be encoded, too much waits already, or the connection has broken.
    pub fn emit(
        &mut self,
        name: &str,
        args: &(impl Arguments + ?Sized),
    ) -> Result<(), ClientError> {
        let frame = self.parser.event(&self.namespace, None, name, args);
        self.send(&frame.map_err(ClientError::encode)?)
    }

    /// Sends an event and asks for an acknowledgement: its id, by which the answer is known.
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
        self.send(&frame.map_err(ClientError::encode)?)?;
        Ok(self.last_ack)
    }

    /// Answers the event that asked with this id.
    ///
    /// # Errors
    /// As [`emit`](Self::emit).
    pub fn ack(&mut self, id: u64, args: &(impl Arguments + ?Sized)) -> Result<(), ClientError> {
        let frame = self.parser.ack(&self.namespace, id, args);
        self.send(&frame.map_err(ClientError::encode)?)
    }

    /// Sends an encoded packet.
    ///
    /// # Errors
    /// If too much waits already, or the connection has broken.
    pub fn send(&mut self, frame: &Frame) -> Result<(), ClientError> {
        self.link.send(frame)
    }

    /// The next event or acknowledgement. Nothing is lost when the future is dropped.
    ///
    /// Why the connection has ended.
    pub async fn next(&mut self) -> Result<Packet, ClientError> {
        poll_fn(|cx| self.poll_packet(cx)).await
    }

    /// The same as [`next`](Self::next), for those who write futures.
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

    /// Leaves the namespace, ends the session, and waits until that is written; at most 5 s. The
    /// server has handled what was sent before, and packets that it sends meanwhile are dropped.
    ///
    /// # Errors
    /// If the connection breaks meanwhile.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let written = timeout(CLOSING, self.say_goodbye()).await;
        written.unwrap_or(Err(ClientError::Timeout("closing")))
    }

    /// The same as [`close`](Self::close), but waits until the server has ended the connection, too.
    pub(crate) async fn end(mut self) -> Result<(), ClientError> {
        let ended = async {
            self.say_goodbye().await?;
            while poll_fn(|cx| self.poll_any(cx)).await.is_ok() {}
            Ok(())
        };
        let ended = timeout(CLOSING, ended).await;
        ended.unwrap_or(Err(ClientError::Timeout("closing")))
    }

    async fn say_goodbye(&mut self) -> Result<(), ClientError> {
        let leave = self.parser.disconnect(&self.namespace);
        self.link
            .push_separate(&leave.map_err(ClientError::encode)?, None)?;
        self.link.say_goodbye().await
    }

    /// The next packet of our namespace.
    fn poll_any(&mut self, cx: &mut Context<'_>) -> Poll<Result<Packet, ClientError>> {
        loop {
            let packet = ready!(self.link.poll_packet(cx))?;
            if packet.nsp == *self.namespace {
                return Poll::Ready(Ok(packet));
            }
        }
    }
}

/// How long a goodbye may take to be written.
const CLOSING: Duration = Duration::from_secs(5);
