//! Running handlers: called once in place, stored while they wait, and guarded against panics.

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

/// One call of a handler: its socket, and whether an acknowledgement is requested.
pub(crate) struct Call {
    pub(crate) socket: Socket,
    pub(crate) name: Name,
    pub(crate) id: Option<u64>,
    pub(crate) is_serial: bool,
}

impl Call {
    /// Creates a call for an internal event, without an acknowledgement.
    pub(crate) fn own(socket: &Socket, name: &'static str) -> Self {
        Self {
            socket: socket.clone(),
            name: Name::Own(name),
            id: None,
            is_serial: false,
        }
    }

    /// Calls the handler and polls it once. Returns the handler if it waits.
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
        // Most handlers complete in the first poll, and need no entry among the connection's jobs.
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
            Ok(Ok(FirstPoll::Done(answer))) => self.finish(answer, early.as_deref()),
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

    /// Runs one step of a handler. Returns an error if it panics.
    fn watch<T>(&self, piece: impl FnOnce() -> T) -> Result<T, Refusal> {
        let _scope = self.socket.log_scope();
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

    fn finish(&self, answer: Answer, early: Option<&EarlyAck>) {
        match answer.outcome {
            AckOutcome::Nothing => {}
            AckOutcome::Frame(frame) => {
                if early.is_none_or(EarlyAck::claim) {
                    self.acknowledge(&frame);
                }
            }
            AckOutcome::Refused(refusal) => self.refuse(&refusal, early),
        }
        if let Some(kept) = answer.kept {
            // The destructor is code of the application.
            let _ = self.watch(|| drop(kept));
        }
    }

    fn refuse(&self, refusal: &Refusal, early: Option<&EarlyAck>) {
        if let Some(id) = self.id
            && early.is_none_or(EarlyAck::claim)
        {
            let parser = self.socket.io().config().sockets.parser;
            match parser.ack(self.socket.nsp(), id, &refusal.as_ack()) {
                Ok(frame) => self.acknowledge(&frame),
                Err(error) => crate::throttled_log!(error, %error, "could not encode a refusal"),
            }
            self.report(refusal, true);
        } else {
            self.report(refusal, false);
        }
    }

    fn acknowledge(&self, frame: &Frame) {
        // A disconnected or overflowing client receives nothing; its disconnect is recorded
        // elsewhere.
        let _ = self.socket.push(frame, Mode::Reliable);
    }

    /// Reports a failure. `is_answered` is whether the client receives the refusal.
    pub(crate) fn report(&self, refusal: &Refusal, is_answered: bool) {
        let _scope = self.socket.log_scope();
        let event = self.socket.event_name(&self.name);
        let (socket, code, reason) = (self.socket.id(), refusal.code(), refusal.reason());
        if !refusal.is_internal() {
            tracing::debug!(event, %socket, code, reason, "an event was refused");
        } else if let Some(more) = self.socket.io().permit_failure_log() {
            tracing::error!(event, %socket, reason, more, "an event handler failed");
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

/// A waiting handler. Its future never fails, and has sent the answer when it completes.
pub(crate) struct Running {
    future: AnswerFuture,
    early: Option<Arc<EarlyAck>>,
    /// `None` after completion.
    call: Option<Call>,
}

impl Future for Running {
    /// The socket whose next serial event may start.
    type Output = Option<SocketId>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<SocketId>> {
        let this = &mut *self;
        let Some(call) = &this.call else {
            return Poll::Ready(None);
        };
        match call.watch(|| this.future.as_mut().poll(cx)) {
            Ok(Poll::Pending) => return Poll::Pending,
            Ok(Poll::Ready(answer)) => call.finish(answer, this.early.as_deref()),
            Err(refusal) => call.refuse(&refusal, this.early.as_deref()),
        }
        // A handler that panicked also ends here, and is never polled again.
        let serial = call.is_serial.then(|| call.socket.id());
        this.call = None;
        Poll::Ready(serial)
    }
}

/// A handler step that takes longer than this is counted as slow, because it blocks its connection.
const SLOW: Duration = Duration::from_millis(10);
