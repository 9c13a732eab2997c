//! Acknowledgement requests to one client.

use std::{
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use roomcast_protocol::socket::{Args, Argument};
use tokio::{sync::oneshot, time::Instant};

use crate::{
    metrics::Counter,
    socket::{core::Socket, types::AckError},
};

/// A pending acknowledgement of a client: a value of type `R`, or an error.
///
/// The event is already sent, so dropping this only stops waiting. Must be awaited inside a tokio
/// runtime.
#[must_use = "the acknowledgement is only received by awaiting it"]
pub struct AckFuture<R> {
    args: BoxFuture<'static, Result<Args, AckError>>,
    answer: PhantomData<fn() -> R>,
}

impl<R> AckFuture<R> {
    pub(crate) fn new(pending: Result<PendingAck, AckError>) -> Self {
        Self {
            args: Box::pin(async { pending?.wait().await }),
            answer: PhantomData,
        }
    }
}

impl<R: Argument> Future for AckFuture<R> {
    type Output = Result<R, AckError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let args = std::task::ready!(self.args.as_mut().poll(cx))?;
        Poll::Ready(R::take_all(&args).map_err(AckError::Decode))
    }
}

impl<R> fmt::Debug for AckFuture<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AckFuture").finish_non_exhaustive()
    }
}

/// One pending acknowledgement. Dropping it frees its slot.
pub(crate) struct PendingAck {
    socket: Socket,
    id: u64,
    answer: oneshot::Receiver<Args>,
    deadline: Instant,
}

impl PendingAck {
    pub(crate) fn new(socket: &Socket, id: u64, timeout: Duration) -> Result<Self, AckError> {
        let limit = socket.io().config().sockets.max_pending_acks;
        let answer = socket.acks().register(id, limit, socket.metrics())?;
        Ok(Self {
            socket: socket.clone(),
            id,
            answer,
            deadline: Instant::now() + timeout,
        })
    }

    pub(crate) async fn wait(mut self) -> Result<Args, AckError> {
        match tokio::time::timeout_at(self.deadline, &mut self.answer).await {
            Ok(Ok(args)) => Ok(args),
            Ok(Err(_)) => Err(AckError::Disconnected),
            Err(_) => {
                self.socket.metrics().count(Counter::AcksTimedOut);
                Err(AckError::Timeout)
            }
        }
    }
}

impl Drop for PendingAck {
    fn drop(&mut self) {
        // A caller that stops waiting frees the slot. A later acknowledgement counts as unknown.
        self.socket.acks().forget(self.id, self.socket.metrics());
    }
}
