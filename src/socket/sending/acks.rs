//! What the server asks many clients at once.

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
use parking_lot::Mutex;
use roomcast_protocol::socket::{Args, Argument};
use tokio::time::{Instant, Sleep, sleep_until};

use crate::{
    metrics::{Counter, Gauge},
    socket::{
        acks::{Answers, Collecting},
        core::namespace,
        words::{AckError, EmitError, SocketId},
    },
};

/// The answers to a broadcast, as they come in.
///
/// Every recipient is one item: its answer, or why there is none. Partial results are what has come
/// when the time is over; then every recipient that is still missing is an [`AckError::Timeout`].
/// Dropping it stops waiting.
///
/// ```no_run
/// # async fn example(io: roomcast::Io) {
/// let mut answers = io
///     .to("room")
///     .timeout(std::time::Duration::from_secs(5))
///     .emit_with_acks::<bool>("ready?", ())
///     .await;
/// println!("{} asked", answers.expected());
/// while let Some((socket, answer)) = answers.next().await {
///     println!("{socket}: {answer:?}");
/// }
/// # }
/// ```
#[must_use = "answers are only taken by asking for the next one"]
pub struct Acks<R> {
    question: Option<Question>,
    expected: usize,
    error: Option<EmitError>,
    answer: PhantomData<fn() -> R>,
}

/// A broadcast that waits for answers. Dropping it frees its place.
pub(crate) struct Question {
    namespace: Arc<namespace::Inner>,
    id: u64,
    answers: Arc<Mutex<Answers>>,
    deadline: Instant,
    /// Made when it is first waited for: asking needs no runtime, waiting does.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<R: Argument> Acks<R> {
    /// `expected` is counted while answers are locked out: the first may come at any time after.
    pub(crate) fn asked(question: Question, expected: usize) -> Self {
        Self {
            question: Some(question),
            expected,
            error: None,
            answer: PhantomData,
        }
    }

    pub(crate) fn failed(error: Option<EmitError>) -> Self {
        Self {
            question: None,
            expected: 0,
            error,
            answer: PhantomData,
        }
    }

    /// How many clients were asked.
    #[must_use]
    pub fn expected(&self) -> usize {
        self.expected
    }

    /// Why nobody was asked, if it failed.
    #[must_use]
    pub fn error(&self) -> Option<&EmitError> {
        self.error.as_ref()
    }

    /// The next answer; `None` after all.
    pub async fn next(&mut self) -> Option<(SocketId, Result<R, AckError>)> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<(SocketId, Result<R, AckError>)>> {
        let Some(question) = &mut self.question else {
            return Poll::Ready(None);
        };
        let Some((socket, answer)) = std::task::ready!(question.poll(cx)) else {
            self.question = None;
            return Poll::Ready(None);
        };
        let parse = |args: Args| R::take(&args, &mut 0).map_err(AckError::Decode);
        Poll::Ready(Some((socket, answer.and_then(parse))))
    }
}

impl<R: Argument> Stream for Acks<R> {
    type Item = (SocketId, Result<R, AckError>);

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

impl Question {
    /// Announces a question, unless too many are open. Answers may come as soon as the first
    /// recipient has it, so this comes before the broadcast.
    pub(crate) fn open(
        namespace: &Arc<namespace::Inner>,
        id: u64,
        timeout: Duration,
        limit: usize,
    ) -> Result<Self, EmitError> {
        let answers = Arc::default();
        if !namespace.questions.insert(id, Arc::clone(&answers), limit) {
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

    /// Locks out answers while the recipients are being collected.
    pub(crate) fn collect(&self) -> Collecting<'_> {
        Collecting::of(&self.answers)
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

impl Drop for Question {
    fn drop(&mut self) {
        self.namespace.questions.remove(self.id);
        self.namespace.metrics().shift(Gauge::AcksPending, -1);
    }
}

/// Short enough to be added to any time.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(366 * 86_400);
