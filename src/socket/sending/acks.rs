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
    adapter::{Item, Missing, Request},
    metrics::{Counter, Gauge},
    socket::{
        acks::{Answers, Collecting},
        core::namespace,
        types::{AckError, EmitError, SocketId},
    },
};

/// The answers to a broadcast, as they come in.
///
/// Every recipient is one item: its answer, or why there is none. Partial results are what has come
/// when the time is over; then every recipient that is still missing is an [`AckError::Timeout`].
/// Dropping it stops waiting.
///
/// A recipient on another server of a cluster may have no id: one that has not answered in time is known
/// only as a number, and servers of other kinds tell nothing but the answer.
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
///     println!("{socket:?}: {answer:?}");
/// }
/// # }
/// ```
#[must_use = "answers are only taken by asking for the next one"]
pub struct Acks<R> {
    question: Option<Question>,
    /// Sockets of this server.
    expected: usize,
    /// `None` without a cluster.
    others: Option<Box<Others>>,
    error: Option<EmitError>,
    answer: PhantomData<fn() -> R>,
}

/// The sockets of other servers.
#[derive(Default)]
struct Others {
    /// The request to the other servers, as long as something may come.
    request: Option<Request>,
    /// How many were asked, when nothing more may come.
    asked: usize,
    /// The number of clients that are too late.
    late: usize,
    missing: Missing,
}

/// A broadcast that waits for answers. Dropping it frees its place.
pub(crate) struct Question {
    namespace: Arc<namespace::NamespaceInner>,
    id: u64,
    answers: Arc<Mutex<Answers>>,
    deadline: Instant,
    /// Made when it is first waited for: asking needs no runtime, waiting does.
    sleep: Option<Pin<Box<Sleep>>>,
}

impl<R: Argument> Acks<R> {
    /// A question to sockets of this server and how many got it, counted while answers are locked out:
    /// the first may come at any time after. And one to other servers.
    pub(crate) fn asked(local: Option<(Question, usize)>, remote: Option<Request>) -> Self {
        let (question, expected) = local.unzip();
        let others = remote.map(|request| {
            let request = Some(request);
            Box::new(Others {
                request,
                ..Others::default()
            })
        });
        Self {
            question,
            expected: expected.unwrap_or(0),
            others,
            error: None,
            answer: PhantomData,
        }
    }

    pub(crate) fn failed(error: EmitError) -> Self {
        Self {
            error: Some(error),
            ..Self::asked(None, None)
        }
    }

    /// These answers without those of other servers, which could not be asked.
    pub(crate) fn without(mut self, missing: Missing) -> Self {
        self.others = Some(Box::new(Others {
            missing,
            ..Others::default()
        }));
        self
    }

    /// How many clients were asked, as far as is known: in a cluster it grows until all other servers
    /// have said how many they have asked.
    #[must_use]
    pub fn expected(&self) -> usize {
        let others = self
            .others
            .as_ref()
            .map_or(0, |others| match &others.request {
                Some(request) => request.announced(),
                None => others.asked,
            });
        self.expected + others
    }

    /// The servers that have not said whom they have asked, and why the others could not be asked.
    /// Known once [`next`](Self::next) has returned `None`; always empty without a cluster.
    #[must_use]
    pub fn missing(&self) -> &Missing {
        static NOBODY: Missing = Missing::nobody();
        self.others
            .as_ref()
            .map_or(&NOBODY, |others| &others.missing)
    }

    /// Why nobody was asked, if it failed.
    #[must_use]
    pub fn error(&self) -> Option<&EmitError> {
        self.error.as_ref()
    }

    pub(crate) fn into_error(self) -> Option<EmitError> {
        self.error
    }

    /// The next answer; `None` after all.
    pub async fn next(&mut self) -> Option<(Option<SocketId>, Result<R, AckError>)> {
        poll_fn(|cx| self.poll(cx)).await
    }

    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer<R>>> {
        let mut is_waiting = false;
        let parse = |args: Args| R::take_all(&args).map_err(AckError::Decode);
        if let Some(question) = &mut self.question {
            match question.poll(cx) {
                Poll::Ready(Some((socket, answer))) => {
                    return Poll::Ready(Some((Some(socket), answer.and_then(parse))));
                }
                Poll::Ready(None) => self.question = None,
                Poll::Pending => is_waiting = true,
            }
        }
        match self.others.as_mut().map(|others| others.poll(cx)) {
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

impl Others {
    fn poll(&mut self, cx: &mut Context<'_>) -> Poll<Option<Answer<Args>>> {
        while let Some(request) = &mut self.request {
            match std::task::ready!(request.poll(cx)) {
                Some((_, Item::Acknowledgement { socket, args })) => {
                    return Poll::Ready(Some((socket, args.ok_or(AckError::Disconnected))));
                }
                // Items of other kinds answer nothing that was asked here.
                Some((_, Item::Sockets(_) | Item::Answer(_))) => {}
                None => {
                    self.asked = request.announced();
                    self.late = request.outstanding();
                    self.missing = request.silent();
                    request.count_late(self.late);
                    self.request = None;
                }
            }
        }
        // Clients of other servers that are late are known as a number alone, and each is one item.
        let is_late = self.late > 0;
        self.late = self.late.saturating_sub(1);
        Poll::Ready(is_late.then_some((None, Err(AckError::Timeout))))
    }
}

/// Which client answers, as far as is known, and what.
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

impl Question {
    /// Announces a question, unless too many are open. Answers may come as soon as the first
    /// recipient has it, so this comes before the broadcast.
    pub(crate) fn open(
        namespace: &Arc<namespace::NamespaceInner>,
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
            // The waker is stored under the lock under which nothing was found: an answer that comes from now on sees it.
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
        // Answers that come from now on find no question, and count as unknown.
        self.namespace.questions.remove(self.id);
        self.namespace.metrics().shift(Gauge::AcksPending, -1);
    }
}

/// Short enough to be added to any time.
const LONGEST_TIMEOUT: Duration = Duration::from_secs(366 * 86_400);
