use std::{
    collections::VecDeque,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::{Duration, Instant},
};

use roomcast_protocol::{
    DecodeError, Frame,
    engine::{self, Action, CloseReason, Message, Session, Source, Transport, payload},
    socket::{Arguments, Decoder, Kind, Limits, Packet, Parser},
};
use tokio::time::{Sleep, sleep_until, timeout};

use super::{
    ClientError, Options, Transports,
    handshake::{self, Admission, Handshake},
    options::Target,
    polling::{Endpoint, Polling},
    upgrade::Candidate,
    websocket::WebSocket,
};

/// One connection, in one namespace, driven by its owner.
///
/// Nothing happens outside of its methods: [`next`](Self::next) reads, answers pings, upgrades and
/// writes what [`emit`](Self::emit) could not write at once, so it must be called again and again,
/// or the server will think the client dead. Dropping it closes the connection without a goodbye.
#[derive(Debug)]
pub struct Connection {
    session: Session,
    wire: Wire,
    parser: Parser,
    decoder: Decoder,
    /// Packets that were read and not looked at.
    inbox: VecDeque<engine::Packet>,
    /// Events that came before the namespace's answer.
    early: VecDeque<Packet>,
    /// Goes off at the session's deadline, or before it: the deadline moves with every ping, this
    /// only when it goes off.
    timer: Pin<Box<Sleep>>,
    /// Of who waits in `next`.
    waker: Option<Waker>,
    namespace: String,
    admission: Admission,
    last_ack: u64,
    pings: u64,
    max_queued: usize,
}

#[derive(Debug)]
enum Wire {
    WebSocket(Box<WebSocket>),
    Polling(Box<Polling>, Candidate),
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
            let mut connection = Self::open_session(target, options).await?;
            connection.enter(options).await?;
            Ok(connection)
        };
        let opened = timeout(options.connect_timeout, open).await;
        opened.unwrap_or(Err(ClientError::Timeout("connecting")))
    }

    async fn open_session(target: Target, options: &Options) -> Result<Self, ClientError> {
        let namespace = target.namespace.clone();
        let max_message = options.max_message;
        let (handshake, transport, wire, inbox) = match options.transports {
            Transports::WebSocket => {
                let mut websocket = WebSocket::open(&target, None, max_message).await?;
                let handshake = Handshake::read(&websocket.first().await?)?;
                let wire = Wire::WebSocket(Box::new(websocket));
                (handshake, Transport::WebSocket, wire, VecDeque::new())
            }
            Transports::Polling | Transports::Upgrade => {
                let endpoint = Arc::new(Endpoint {
                    target,
                    max_message,
                    timeout: options.connect_timeout,
                });
                let (http, body) = Polling::open(&endpoint).await?;
                let (handshake, rest) = Handshake::read_payload(&body)?;
                let inbox: Result<_, _> = rest.into_iter().flat_map(payload::decode).collect();
                let times = handshake.times();
                let candidate =
                    if options.transports == Transports::Upgrade && handshake.offers_websocket() {
                        Candidate::connect(Arc::clone(&endpoint), handshake.sid.clone())
                    } else {
                        Candidate::None
                    };
                let polling = Polling::new(
                    endpoint,
                    http,
                    &handshake.sid,
                    handshake.max_payload,
                    times.ping_interval + times.ping_timeout,
                );
                let wire = Wire::Polling(Box::new(polling), candidate);
                (handshake, Transport::Polling, wire, inbox?)
            }
        };
        let now = Instant::now();
        let session = Session::client(now, transport, handshake.times());
        let deadline = session.poll_timeout().unwrap_or(now);
        Ok(Self {
            session,
            wire,
            parser: options.parser,
            decoder: Decoder::with_parser(
                options.parser,
                Limits {
                    max_bytes: max_message,
                    max_connect_payload: max_message,
                    ..Limits::default()
                },
            ),
            inbox,
            early: VecDeque::new(),
            timer: Box::pin(sleep_until(deadline.into())),
            waker: None,
            namespace,
            admission: Admission::default(),
            last_ack: 0,
            pings: 0,
            max_queued: options.max_queued,
        })
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
                Kind::Disconnect => return Err(ClientError::Disconnected),
                // What a session that goes on has missed.
                Kind::Event => {
                    early += packet.args.size() + size_of::<Packet>();
                    if early > options.max_message {
                        return Err(DecodeError::TooLarge.into());
                    }
                    self.early.push_back(packet);
                }
                Kind::Ack => {} // Not ours: we have asked nothing.
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
        match self.wire {
            Wire::WebSocket(_) => Transport::WebSocket,
            Wire::Polling(..) => Transport::Polling,
        }
    }

    /// Whether a WebSocket is being tried beside polling.
    #[must_use]
    pub fn is_upgrading(&self) -> bool {
        matches!(&self.wire, Wire::Polling(_, candidate) if !candidate.is_none())
    }

    /// How many pings of the server were answered.
    #[must_use]
    pub const fn pings(&self) -> u64 {
        self.pings
    }

    /// Bytes that wait to be sent.
    #[must_use]
    pub fn queued(&self) -> usize {
        match &self.wire {
            Wire::WebSocket(websocket) => websocket.queued(),
            Wire::Polling(polling, _) => polling.queued(),
        }
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
        if self.queued().saturating_add(frame.len()) > self.max_queued {
            return Err(ClientError::Full);
        }
        self.push(frame)?;
        if self.queued() > 0
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
        Ok(())
    }

    fn push(&mut self, frame: &Frame) -> Result<(), ClientError> {
        match &mut self.wire {
            Wire::WebSocket(websocket) => {
                let is_free = websocket.queued() == 0;
                websocket.push(frame)?;
                if is_free {
                    websocket.try_write()?;
                }
            }
            Wire::Polling(polling, _) => polling.push(frame),
        }
        Ok(())
    }

    /// The next event or acknowledgement. Nothing is lost when the future is dropped.
    ///
    /// # Errors
    /// Once: why the connection has ended.
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
                Kind::Disconnect => return Poll::Ready(Err(ClientError::Disconnected)),
                Kind::Connect | Kind::ConnectError => {}
            }
        }
    }

    /// Leaves the namespace, ends the session, and waits until that is written; at most 5 s.
    ///
    /// # Errors
    /// If the connection breaks meanwhile.
    pub async fn close(mut self) -> Result<(), ClientError> {
        let written = timeout(CLOSING, self.say_goodbye()).await;
        written.unwrap_or(Err(ClientError::Timeout("closing")))
    }

    /// The same as [`close`](Self::close), but waits until the server has ended the connection, too.
    pub(super) async fn end(mut self) -> Result<(), ClientError> {
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
        self.push(&leave.map_err(ClientError::encode)?)?;
        match &mut self.wire {
            Wire::WebSocket(websocket) => websocket.push_close()?,
            Wire::Polling(polling, _) => polling.push(&Frame::packet(&engine::Packet::Close)),
        }
        poll_fn(|cx| match &mut self.wire {
            Wire::WebSocket(websocket) => websocket.poll_write(cx),
            Wire::Polling(polling, _) => polling.poll_write(cx),
        })
        .await
    }

    /// The next packet of our namespace.
    fn poll_any(&mut self, cx: &mut Context<'_>) -> Poll<Result<Packet, ClientError>> {
        if !self.waker.as_ref().is_some_and(|w| w.will_wake(cx.waker())) {
            self.waker = Some(cx.waker().clone());
        }
        if let Some(reason) = self.session.close_reason() {
            return Poll::Ready(Err(ClientError::Closed(reason)));
        }
        let result = ready!(self.poll_open(cx));
        if let Err(error) = &result {
            self.session
                .close(if let ClientError::Closed(reason) = error {
                    *reason
                } else {
                    CloseReason::TransportError
                });
        }
        Poll::Ready(result)
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<Packet, ClientError>> {
        loop {
            while let Some(packet) = self.inbox.pop_front() {
                if let Some(packet) = self.handle(packet)?
                    && packet.nsp == *self.namespace
                {
                    return Poll::Ready(Ok(packet));
                }
            }
            while self.timer.as_mut().poll(cx).is_ready() {
                self.handle_timeout()?;
            }
            match &mut self.wire {
                Wire::WebSocket(websocket) => {
                    let read = websocket.poll_read(cx, &mut self.inbox);
                    // Also what reading has queued: pongs.
                    if websocket.queued() > 0
                        && let Poll::Ready(written) = websocket.poll_write(cx)
                    {
                        written?;
                    }
                    ready!(read)?;
                }
                Wire::Polling(polling, candidate) => {
                    if !candidate.is_none() {
                        // The candidate's readiness shows in what follows; its deadline is that of
                        // the session.
                        let _ = candidate.poll(cx, &mut self.session, polling);
                        if let Some(deadline) = self.session.poll_timeout()
                            && self.timer.deadline() > deadline.into()
                        {
                            self.timer.as_mut().reset(deadline.into());
                        }
                    }
                    let read = polling.poll_read(cx, &mut self.inbox);
                    if let Some(websocket) = candidate.take_over(polling) {
                        self.switch(websocket)?;
                        continue;
                    }
                    ready!(read)?;
                }
            }
        }
    }

    /// What a packet of the session means to its owner.
    fn handle(&mut self, packet: engine::Packet) -> Result<Option<Packet>, ClientError> {
        if matches!(packet, engine::Packet::Ping(_)) {
            self.pings += 1;
        }
        let action = self
            .session
            .handle_packet(Instant::now(), Source::Current, packet);
        match action {
            Action::Deliver(Message::Text(text)) => Ok(self.decoder.text(text)?),
            Action::Deliver(Message::Binary(data)) => Ok(self.decoder.binary(data)?),
            Action::Reply(packet) => {
                self.push(&Frame::packet(&packet))?;
                Ok(None)
            }
            Action::Close(reason) => Err(ClientError::Closed(reason)),
            Action::None | Action::Switch | Action::DropCandidate => Ok(None),
        }
    }

    fn handle_timeout(&mut self) -> Result<(), ClientError> {
        loop {
            match self.session.handle_timeout(Instant::now()) {
                Action::Close(reason) => return Err(ClientError::Closed(reason)),
                Action::DropCandidate => {
                    if let Wire::Polling(_, candidate) = &mut self.wire {
                        *candidate = Candidate::None;
                    }
                }
                Action::None => break,
                Action::Deliver(_) | Action::Reply(_) | Action::Switch => {}
            }
        }
        if let Some(deadline) = self.session.poll_timeout() {
            self.timer.as_mut().reset(deadline.into());
        }
        Ok(())
    }

    /// From now on the WebSocket is used, also for what waited for a POST.
    fn switch(&mut self, mut websocket: Box<WebSocket>) -> Result<(), ClientError> {
        websocket.push(&Frame::packet(&engine::Packet::Upgrade))?;
        if let Wire::Polling(polling, _) = &mut self.wire {
            for waiting in polling.drain() {
                for packet in payload::decode(waiting) {
                    websocket.push(&Frame::packet(&packet?))?;
                }
            }
        }
        self.wire = Wire::WebSocket(websocket);
        Ok(())
    }
}

/// How long a goodbye may take to be written.
const CLOSING: Duration = Duration::from_secs(5);
