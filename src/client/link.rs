//! One session: its transport, its heartbeat, and the packets of all namespaces.

use std::{
    collections::VecDeque,
    fmt,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker, ready},
    time::Instant,
};

use roomcast_protocol::{
    Frame,
    engine::{self, Action, CloseReason, Message, Session, Source, Transport, payload},
    socket::{Decoder, Limits, Packet},
};
use tokio::{
    sync::oneshot,
    time::{Sleep, sleep_until},
};

use super::{
    ClientError, Transports, handshake::Handshake, options::Target, polling::Polling,
    upgrade::Candidate, websocket::WebSocket,
};

/// A session that its owner drives: all work happens inside its methods.
pub(super) struct Link {
    session: Session,
    wire: Wire,
    decoder: Decoder,
    /// Packets that were received but not handled.
    inbox: VecDeque<engine::Packet>,
    /// Fires at the session's deadline or earlier. Each ping moves the deadline, but the timer is
    /// reset only when it fires.
    timer: Pin<Box<Sleep>>,
    /// The waker of the task that waits for a packet.
    waker: Option<Waker>,
    pings: u64,
    max_queued: usize,
}

enum Wire {
    WebSocket(Box<WebSocket>),
    Polling(Box<Polling>, Candidate),
}

impl Link {
    /// Opens a session, without entering any namespace.
    pub(super) async fn open(target: &Arc<Target>) -> Result<Self, ClientError> {
        let options = &target.options;
        let (handshake, transport, wire, inbox) = match options.transports {
            Transports::WebSocket => {
                let mut websocket = WebSocket::open(target, None).await?;
                let handshake = Handshake::read(&websocket.first().await?)?;
                let wire = Wire::WebSocket(Box::new(websocket));
                (handshake, Transport::WebSocket, wire, VecDeque::new())
            }
            Transports::Polling | Transports::Upgrade => {
                let (http, body) = Polling::open(target).await?;
                let (handshake, rest) = Handshake::read_payload(&body)?;
                // The response may contain packets after the handshake.
                let inbox: Result<_, _> = rest.into_iter().flat_map(payload::decode).collect();
                let candidate =
                    if options.transports == Transports::Upgrade && handshake.offers_websocket() {
                        Candidate::connect(Arc::clone(target), handshake.sid.clone())
                    } else {
                        Candidate::None
                    };
                let polling = Polling::new(Arc::clone(target), http, &handshake);
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
            decoder: Decoder::with_parser(
                options.parser,
                Limits {
                    max_bytes: options.max_message,
                    // The answer to `CONNECT` may be as large as any other message.
                    max_connect_payload: options.max_message,
                    ..Limits::default()
                },
            ),
            inbox,
            timer: Box::pin(sleep_until(deadline.into())),
            waker: None,
            pings: 0,
            max_queued: options.max_queued,
        })
    }

    /// Returns the transport that sends the packets.
    pub(super) const fn transport(&self) -> Transport {
        match self.wire {
            Wire::WebSocket(_) => Transport::WebSocket,
            Wire::Polling(..) => Transport::Polling,
        }
    }

    /// Returns whether a WebSocket upgrade is in progress.
    pub(super) fn is_upgrading(&self) -> bool {
        matches!(&self.wire, Wire::Polling(_, candidate) if !candidate.is_none())
    }

    /// Returns how many pings of the server were answered.
    pub(super) const fn pings(&self) -> u64 {
        self.pings
    }

    /// Returns the number of bytes that wait to be sent.
    pub(super) fn queued(&self) -> usize {
        match &self.wire {
            Wire::WebSocket(websocket) => websocket.queued(),
            Wire::Polling(polling, _) => polling.queued(),
        }
    }

    /// Sends an encoded packet.
    ///
    /// # Errors
    /// Fails if the send queue is full or the connection has broken.
    pub(super) fn send(&mut self, frame: &Frame) -> Result<(), ClientError> {
        if self.queued().saturating_add(frame.len()) > self.max_queued {
            return Err(ClientError::Full);
        }
        self.push(frame)?;
        // The task that waits for a packet also writes the remaining data, so it must be woken.
        if self.queued() > 0
            && let Some(waker) = self.waker.take()
        {
            waker.wake();
        }
        Ok(())
    }

    /// Queues an encoded packet without a limit, and writes it if the queue was empty.
    pub(super) fn push(&mut self, frame: &Frame) -> Result<(), ClientError> {
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

    /// Queues an encoded packet that is sent separately.
    ///
    /// It is sent after the server has handled all earlier packets, and before any later packet.
    /// `waiter` is notified when the server has handled the packet, and dropped if that is unknown.
    pub(super) fn push_separate(
        &mut self,
        frame: &Frame,
        waiter: Option<oneshot::Sender<()>>,
    ) -> Result<(), ClientError> {
        match &mut self.wire {
            Wire::WebSocket(websocket) => websocket.push_separate(frame, waiter),
            Wire::Polling(polling, _) => {
                polling.push_separate(frame, waiter);
                Ok(())
            }
        }
    }

    /// Polls for the next packet of any namespace. Cancel safe: no packet is lost.
    pub(super) fn poll_packet(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Result<Packet, ClientError>> {
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
                if let Some(packet) = self.handle(packet)? {
                    return Poll::Ready(Ok(packet));
                }
            }
            // After a timeout the timer is reset, and polling it again registers the waker.
            while self.timer.as_mut().poll(cx).is_ready() {
                self.handle_timeout()?;
            }
            match &mut self.wire {
                Wire::WebSocket(websocket) => {
                    let read = websocket.poll_read(cx, &mut self.inbox);
                    // Reading may have queued pongs, which must be sent as well.
                    if websocket.is_busy()
                        && let Poll::Ready(written) = websocket.poll_write(cx)
                    {
                        written?;
                    }
                    ready!(read)?;
                }
                Wire::Polling(polling, candidate) => {
                    if !candidate.is_none() {
                        // The code below checks whether the candidate is ready. Its deadline is
                        // part of the session's.
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

    /// Handles an engine packet. Returns the Socket.IO packet that it completes, if any.
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

    /// Switches to the WebSocket, and moves the packets that wait for a POST to it.
    fn switch(&mut self, mut websocket: Box<WebSocket>) -> Result<(), ClientError> {
        websocket.push(&Frame::packet(&engine::Packet::Upgrade))?;
        if let Wire::Polling(polling, _) = &mut self.wire {
            for waiting in polling.drain() {
                let is_separate = waiting.is_separate;
                let mut waiter = waiting.waiter;
                for packet in payload::decode(waiting.packets) {
                    let frame = Frame::packet(&packet?);
                    match is_separate {
                        true => websocket.push_separate(&frame, waiter.take())?,
                        false => websocket.push(&frame)?,
                    }
                }
            }
        }
        self.wire = Wire::WebSocket(websocket);
        Ok(())
    }

    /// Writes all queued data, then the close packet. Packets that arrive are dropped.
    ///
    /// A started upgrade is completed first, because the server reads one transport only.
    pub(super) async fn close_gracefully(&mut self) -> Result<(), ClientError> {
        if let Wire::Polling(_, candidate @ Candidate::Connecting(_)) = &mut self.wire {
            *candidate = Candidate::None;
        }
        match poll_fn(|cx| self.poll_settled(cx)).await {
            Ok(()) => {}
            // The server ended the session after it read all data.
            Err(ClientError::Closed(_)) if self.queued() == 0 => return Ok(()),
            Err(error) => return Err(error),
        }
        match &mut self.wire {
            Wire::WebSocket(websocket) => websocket.push_close()?,
            Wire::Polling(polling, _) => polling.push(&Frame::packet(&engine::Packet::Close)),
        }
        poll_fn(|cx| self.poll_write(cx)).await
    }

    /// Completes when all data is written, separate packets are handled, and no upgrade is in
    /// progress.
    fn poll_settled(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        loop {
            if !self.is_busy() {
                return Poll::Ready(Ok(()));
            }
            match self.poll_packet(cx) {
                Poll::Ready(Ok(_)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Err(error)),
                Poll::Pending if !self.is_busy() => return Poll::Ready(Ok(())),
                Poll::Pending => return Poll::Pending,
            }
        }
    }

    fn is_busy(&self) -> bool {
        match &self.wire {
            Wire::WebSocket(websocket) => websocket.is_busy(),
            Wire::Polling(polling, candidate) => !polling.is_written() || !candidate.is_none(),
        }
    }

    /// Writes queued data without reading. Completes when all data is written.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        match &mut self.wire {
            Wire::WebSocket(websocket) => websocket.poll_write(cx),
            Wire::Polling(polling, _) => polling.poll_write(cx),
        }
    }
}

impl fmt::Debug for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Link").finish_non_exhaustive()
    }
}
