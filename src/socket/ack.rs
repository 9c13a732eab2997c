//! What the server asks one client.

use std::{
    collections::BTreeMap,
    fmt,
    marker::PhantomData,
    pin::Pin,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::future::BoxFuture;
use parking_lot::Mutex;
use roomcast_protocol::socket::{Args, Argument};
use tokio::{sync::oneshot, time::Instant};

use super::{errors::AckError, socket::Socket};
use crate::metrics::{Counter, Gauge, Metrics};

/// The acknowledgements that one socket owes.
#[derive(Debug, Default)]
pub(crate) struct AckTable(Mutex<Table>);

#[derive(Debug, Default)]
struct Table {
    waiting: BTreeMap<u64, oneshot::Sender<Args>>,
    closed: bool,
}

impl AckTable {
    /// Reserves a place for the answer to `id`.
    fn register(
        &self,
        id: u64,
        limit: usize,
        metrics: &Metrics,
    ) -> Result<oneshot::Receiver<Args>, AckError> {
        let mut table = self.0.lock();
        if table.closed {
            return Err(AckError::Disconnected);
        }
        if table.waiting.len() >= limit {
            return Err(AckError::TooManyPending);
        }
        let (sender, receiver) = oneshot::channel();
        table.waiting.insert(id, sender);
        metrics.shift(Gauge::AcksPending, 1);
        Ok(receiver)
    }

    /// Hands an answer to whoever waits for it; `false` if nobody does.
    pub(crate) fn resolve(&self, id: u64, args: &Args, metrics: &Metrics) -> bool {
        let Some(sender) = self.0.lock().waiting.remove(&id) else {
            return false;
        };
        metrics.shift(Gauge::AcksPending, -1);
        let _ = sender.send(args.clone());
        true
    }

    /// Fails what is outstanding, and whatever asks later.
    pub(crate) fn close(&self, metrics: &Metrics) {
        let mut table = self.0.lock();
        table.closed = true;
        let waiting = std::mem::take(&mut table.waiting);
        drop(table);
        metrics.shift(Gauge::AcksPending, -(waiting.len() as i64));
    }

    fn forget(&self, id: u64, metrics: &Metrics) {
        if self.0.lock().waiting.remove(&id).is_some() {
            metrics.shift(Gauge::AcksPending, -1);
        }
    }
}

/// The acknowledgement of a client that was asked: a value of type `R`, or why there is none.
///
/// The event is on its way already; dropping this only stops waiting. It is awaited inside a tokio
/// runtime.
#[must_use = "the answer is only seen by awaiting it"]
pub struct AckFuture<R> {
    args: BoxFuture<'static, Result<Args, AckError>>,
    answer: PhantomData<fn() -> R>,
}

impl<R> AckFuture<R> {
    pub(crate) fn new(asked: Result<Asked, AckError>) -> Self {
        Self {
            args: Box::pin(async { asked?.wait().await }),
            answer: PhantomData,
        }
    }
}

impl<R: Argument> Future for AckFuture<R> {
    type Output = Result<R, AckError>;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Self::Output> {
        let args = std::task::ready!(self.args.as_mut().poll(cx))?;
        Poll::Ready(R::take(&args, &mut 0).map_err(AckError::Decode))
    }
}

impl<R> fmt::Debug for AckFuture<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AckFuture").finish_non_exhaustive()
    }
}

/// One outstanding acknowledgement. Dropping it frees the place.
pub(crate) struct Asked {
    socket: Socket,
    id: u64,
    answer: oneshot::Receiver<Args>,
    deadline: Instant,
}

impl Asked {
    pub(crate) fn new(socket: &Socket, id: u64, timeout: Duration) -> Result<Self, AckError> {
        let limit = socket.io().config().max_pending_acks;
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

impl Drop for Asked {
    fn drop(&mut self) {
        self.socket.acks().forget(self.id, self.socket.metrics());
    }
}
