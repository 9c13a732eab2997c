//! Acknowledgement requests to many clients.

use std::{
    fmt,
    future::poll_fn,
    marker::PhantomData,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use futures_util::Stream;
use parking_lot::{Mutex, MutexGuard};
use roomcast_protocol::socket::{Args, Argument};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    adapter::{Item, Request, Unanswered},
    metrics::{Counter, Gauge},
    socket::{
        acks::Answers,
        core::namespace,
        types::{AckError, EmitError, SocketId},
    },
};

/// The acknowledgements of a broadcast, in order of arrival.
///
/// Every recipient is one item: its answer or an error. After the timeout, each missing recipient
/// is an [`AckError::Timeout`]. Dropping this value stops waiting.
///
/// A recipient on another server of a cluster may have no id. The server reports late recipients
/// only as a number, and servers of other kinds send the answer without an id.
///
/// ```no_run
/// # async fn example(io: roomcast::Io) {
/// let mut answers = io
///     .to("room")
///     .timeout(std::time::Duration::from_secs(5))
///     .emit_with_acks::<bool>("ready?", ());
/// println!("{} asked", answers.expected());
/// while let Some((socket, answer)) = answers.next().await {
///     println!("{socket:?}: {answer:?}");
/// }
/// # }
/// ```
#[must_use = "acknowledgements are only received by calling `next`"]
pub struct Acks<R> {
    local_request: Option<BroadcastRequest>,
    /// Recipients on this server.
    expected: usize,
    /// `None` without a cluster.
    remote: Option<Box<RemoteRecipients>>,
    error: Option<EmitError>,
    answer: PhantomData<fn() -> R>,
}

/// The recipients on other servers.
#[derive(Default)]
struct RemoteRecipients {
    /// The request to the other servers, while answers may arrive.
    request: Option<Request>,
    /// The number of recipients, after the request has ended.
    announced: usize,
    /// The number of late clients that are not returned yet.
    late: usize,
    missing: Unanswered,
}

/// A broadcast that waits for acknowledgements. Dropping it frees its slot.
pub(crate) struct BroadcastRequest {
    namespace: Arc<namespace::NamespaceInner>,
    id: u64,
    answers: Arc<Mutex<Answers>>,
    deadline: Instant,
    /// Created by the first poll, because waiting needs a runtime, but sending does not.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<R: Argument> Acks<R> {
    /// Creates the answers of a request.
    ///
    /// `local` is the request to this server's sockets with its number of recipients. It is counted
    /// while answers are locked out, because the first one may arrive at any time afterwards.
    /// `remote` is the request to other servers.
    pub(crate) fn requested(
        local: Option<(BroadcastRequest, usize)>,
        remote: Option<Request>,
    ) -> Self {
        let (local_request, expected) = local.unzip();
        let remote = remote.map(|request| {
            let request = Some(request);
            Box::new(RemoteRecipients {
                request,
                ..RemoteRecipients::default()
            })
        });
        Self {
            local_request,
            expected: expected.unwrap_or(0),
            remote,
            error: None,
            answer: PhantomData,
        }
    }

    pub(crate) fn failed(error: EmitError) -> Self {
        Self {
            error: Some(error),
            ..Self::requested(None, None)
        }
    }

    /// Adds servers that could not be queried.
    pub(crate) fn without(mut self, missing: Unanswered) -> Self {
        self.remote = Some(Box::new(RemoteRecipients {
            missing,
            ..RemoteRecipients::default()
        }));
        self
    }

    /// Returns the number of recipients, as far as known. In a cluster, it grows until all other
    /// servers have reported their numbers.
    #[must_use]
    pub fn expected(&self) -> usize {
        let remote = self
            .remote
            .as_ref()
            .map_or(0, |remote| match &remote.request {
                Some(request) => request.announced(),
                None => remote.announced,
            });
        self.expected + remote
    }

    /// Returns the servers that did not report their recipients, and why the servers could not be
    /// queried.
    ///
    /// Complete after [`next`](Self::next) returns `None`. Always empty without a cluster.
    #[must_use]
    pub fn missing(&self) -> &Unanswered {
        static NONE: Unanswered = Unanswered::none();
        self.remote.as_ref().map_or(&NONE, |remote| &remote.missing)
    }

    /// Returns why the event was not sent, if it failed.
    #[must_use]
    pub fn error(&self) -> Option<&EmitError> {
        self.error.as_ref()
    }

    pub(crate) fn into_error(self) -> Option<EmitError> {
        self.error
    }

    /// Returns the next answer, or `None` after the last one.
    pub async fn next(&mut self) -> Option<(Option<SocketId>, Result<R, AckError>)> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer<R>>> {
        let mut is_waiting = false;
        let parse = |args: Args| R::take_all(&args).map_err(AckError::Decode);
        if let Some(local_request) = &mut self.local_request {
            match local_request.poll(cx) {
                Poll::Ready(Some((socket, answer))) => {
                    return Poll::Ready(Some((Some(socket), answer.and_then(parse))));
                }
                Poll::Ready(None) => self.local_request = None,
                Poll::Pending => is_waiting = true,
            }
        }
        match self.remote.as_mut().map(|remote| remote.poll(cx)) {
            Some(Poll::Ready(Some((socket, answer)))) => {
                return Poll::Ready(Some((socket, answer.and_then(parse))));
            }
            Some(Poll::Pending) => is_waiting = true,
            Some(Poll::Ready(None)) | None => {}
        }
        match is_waiting {
            true => Poll::Pending,
            false => Poll::Ready(None),
        }
    }
}

impl RemoteRecipients {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer<Args>>> {
        while let Some(request) = &mut self.request {
            match std::task::ready!(request.poll(cx)) {
                Some((_, Item::Acknowledgement { socket, args })) => {
                    return Poll::Ready(Some((socket, args.ok_or(AckError::Disconnected))));
                }
                // Items of other kinds do not belong to this request.
                Some((_, Item::Sockets(_) | Item::Answer(_))) => {}
                None => {
                    self.announced = request.announced();
                    self.late = request.outstanding();
                    self.missing = request.silent();
                    request.count_late(self.late);
                    self.request = None;
                }
            }
        }
        // Late clients of other servers are known only as a number. Each one is an item.
        let is_late = self.late > 0;
        self.late = self.late.saturating_sub(1);
        Poll::Ready(is_late.then_some((None, Err(AckError::Timeout))))
    }
}

/// The answering client, if known, and its answer.
type Answer<R> = (Option<SocketId>, Result<R, AckError>);

impl<R: Argument> Stream for Acks<R> {
    type Item = (Option<SocketId>, Result<R, AckError>);

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.poll(cx)
    }
}

impl<R> fmt::Debug for Acks<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Acks")
            .field("expected", &self.expected)
            .field("error", &self.error)
            .finish_non_exhaustive()
    }
}

impl BroadcastRequest {
    /// Registers a request, unless too many are open. Must precede the broadcast, because answers
    /// may arrive as soon as the first recipient has it.
    pub(crate) fn open(
        namespace: &Arc<namespace::NamespaceInner>,
        id: u64,
        timeout: Duration,
        limit: usize,
    ) -> Result<Self, EmitError> {
        let answers = Arc::default();
        if !namespace
            .broadcast_requests
            .insert(id, Arc::clone(&answers), limit)
        {
            return Err(EmitError::TooManyPending);
        }
        namespace.metrics().shift(Gauge::AcksPending, 1);
        Ok(Self {
            namespace: Arc::clone(namespace),
            id,
            answers,
            deadline: Instant::now() + timeout.min(LONGEST_TIMEOUT),
            sleep: None,
        })
    }

    /// Locks out answers while the recipients are collected.
    pub(crate) fn answers(&self) -> MutexGuard<'_, Answers> {
        self.answers.lock()
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<(SocketId, Result<Args, AckError>)>> {
        let mut answers = self.answers.lock();
        if let Some(next) = answers.ready.pop_front() {
            return Poll::Ready(Some(next));
        }
        if answers.outstanding.is_empty() {
            return Poll::Ready(None);
        }
        let deadline = self.deadline;
        let sleep = self
            .sleep
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        if sleep.as_mut().poll(cx).is_pending() {
            // The waker is stored under the lock that protects the answers, so that every later
            // answer wakes it.
            answers.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        let late = std::mem::take(&mut answers.outstanding);
        self.namespace
            .metrics()
            .add(Counter::AcksTimedOut, late.len() as u64);
        answers
            .ready
            .extend(late.into_iter().map(|id| (id, Err(AckError::Timeout))));
        Poll::Ready(answers.ready.pop_front())
    }
}

impl Drop for BroadcastRequest {
    fn drop(&mut self) {
        // Later answers find no request, and count as unknown.
        self.namespace.broadcast_requests.remove(self.id);
        self.namespace.metrics().shift(Gauge::AcksPending, -1);
    }
}

/// Short enough to be added to any `Instant`.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(366 * 86_400);
