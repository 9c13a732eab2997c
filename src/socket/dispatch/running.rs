//! Handlers at work: called once in place, kept when they wait, and never trusted not to panic.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use roomcast_protocol::{Frame, socket::Args};

use crate::{
    engine::Mode,
    metrics::Counter,
    socket::{
        core::{EarlyAck, Erased, Event, Failure, Socket},
        types::{AckOutcome, Answer, AnswerFuture, Name, Refusal, Reply, SocketId},
    },
};

/// One call of a handler: whose it is, and whether an answer is wanted.
pub(crate) struct Call {
    pub(crate) socket: Socket,
    pub(crate) name: Name,
    pub(crate) id: Option<u64>,
    pub(crate) is_serial: bool,
}

impl Call {
    /// A call for an event of the library's own, which nobody waits for.
    pub(crate) fn own(socket: &Socket, name: &'static str) -> Self {
        Self {
            socket: socket.clone(),
            name: Name::Own(name),
            id: None,
            is_serial: false,
        }
    }

    /// Calls the handler and polls it once. Returned is a handler that waits.
    pub(crate) fn start(self, handler: &dyn Erased, args: Args) -> Option<Running> {
        let early = self.id.map(|id| Arc::new(EarlyAck::new(id)));
        let event = Event {
            socket: self.socket.clone(),
            name: self.name.clone(),
            args,
            early: early.clone(),
        };
        let reply = Reply {
            parser: self.socket.io().config().sockets.parser,
            nsp: self.socket.namespace_inner().name.clone(),
            id: self.id,
        };
        // Most handlers are done after the first poll, and never need a place among the jobs of the connection.
        let first_poll = || -> Result<FirstPoll, Refusal> {
            let mut future = handler.call(event, reply)?;
            // A future that waits is polled again by the connection, with a real waker.
            let poll = future
                .as_mut()
                .poll(&mut Context::from_waker(Waker::noop()));
            Ok(match poll {
                Poll::Ready(answer) => FirstPoll::Done(answer),
                Poll::Pending => FirstPoll::Waiting(future),
            })
        };
        match self.watch(first_poll) {
            Ok(Ok(FirstPoll::Done(answer))) => self.finish(answer.0, early.as_deref()),
            Ok(Ok(FirstPoll::Waiting(future))) => {
                return Some(Running {
                    future,
                    early,
                    call: Some(self),
                });
            }
            Ok(Err(refusal)) => {
                if !refusal.is_internal() {
                    self.socket.metrics().count(Counter::EventsInvalid);
                }
                self.refuse(&refusal, early.as_deref());
            }
            Err(refusal) => self.refuse(&refusal, early.as_deref()),
        }
        None
    }

    /// Runs a piece of a handler. An error: it panicked.
    fn watch<T>(&self, piece: impl FnOnce() -> T) -> Result<T, Refusal> {
        let began = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(piece));
        if began.elapsed() > SLOW {
            self.socket.metrics().count(Counter::HandlersSlow);
            let event = self.socket.event_name(&self.name);
            tracing::debug!(event, took = ?began.elapsed(), "a handler blocks its connection");
        }
        result.map_err(|panic| {
            self.socket.metrics().count(Counter::HandlerPanics);
            let words = panic.downcast_ref::<String>().map(String::as_str);
            let words = words.or_else(|| panic.downcast_ref::<&str>().copied());
            Refusal::internal().because(format!("panicked: {}", words.unwrap_or_default()))
        })
    }

    fn finish(&self, outcome: AckOutcome, early: Option<&EarlyAck>) {
        match outcome {
            AckOutcome::Nothing => {}
            AckOutcome::Frame(frame) => {
                if early.is_none_or(EarlyAck::claim) {
                    self.acknowledge(&frame);
                }
            }
            AckOutcome::Refused(refusal) => self.refuse(&refusal, early),
        }
    }

    fn refuse(&self, refusal: &Refusal, early: Option<&EarlyAck>) {
        if let Some(id) = self.id
            && early.is_none_or(EarlyAck::claim)
        {
            let parser = self.socket.io().config().sockets.parser;
            match parser.ack(self.socket.nsp(), id, &refusal.as_ack()) {
                Ok(frame) => self.acknowledge(&frame),
                Err(error) => crate::throttled_log!(error, %error, "a refusal cannot be encoded"),
            }
            self.report(refusal, true);
        } else {
            self.report(refusal, false);
        }
    }

    fn acknowledge(&self, frame: &Frame) {
        // A client that is gone or overflows learns nothing; its end has been noted.
        let _ = self.socket.push(frame, Mode::Reliable);
    }

    /// Tells the log and the application of a failure.
    pub(crate) fn fail(&self, refusal: &Refusal) {
        self.report(refusal, self.id.is_some());
    }

    /// `is_answered` is whether the client receives the refusal.
    fn report(&self, refusal: &Refusal, is_answered: bool) {
        let event = self.socket.event_name(&self.name);
        let (socket, code, reason) = (self.socket.id(), refusal.code(), refusal.reason());
        if !refusal.is_internal() {
            tracing::debug!(event, %socket, code, reason, "an event was refused");
        } else if let Some(more) = self.socket.io().speak_of_failure() {
            tracing::error!(event, %socket, reason, more, "an event has failed");
        }
        if let Some(on_error) = &self.socket.namespace_inner().handlers.on_error {
            let failure = Failure {
                socket: &self.socket,
                event,
                refusal,
                answered: is_answered,
            };
            if catch_unwind(AssertUnwindSafe(|| on_error(&failure))).is_err() {
                self.socket.metrics().count(Counter::HandlerPanics);
            }
        }
    }
}

enum FirstPoll {
    Done(Answer),
    Waiting(AnswerFuture),
}

/// A handler that waits. As a future it never fails, and it has sent its answer when it is ready.
pub(crate) struct Running {
    future: AnswerFuture,
    early: Option<Arc<EarlyAck>>,
    /// Taken when it is ready.
    call: Option<Call>,
}

impl Future for Running {
    /// The socket whose next serial event may start now.
    type Output = Option<SocketId>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SocketId>> {
        let this = &mut *self;
        let Some(call) = &this.call else {
            return Poll::Ready(None);
        };
        match call.watch(|| this.future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(answer)) => call.finish(answer.0, this.early.as_deref()),
            Err(refusal) => call.refuse(&refusal, this.early.as_deref()),
        }
        // A handler that has panicked ends here as well, and is never polled again.
        let serial = call.is_serial.then(|| call.socket.id());
        this.call = None;
        Poll::Ready(serial)
    }
}

/// A piece of a handler that takes longer keeps the rest of its connection waiting.
const SLOW: Duration = Duration::from_millis(10);
