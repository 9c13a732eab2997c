//! Spans of sampled events, for an exporter.
//!
//! [`Spans`] decides which events are sampled, and queues their finished spans. A span has names,
//! ids and numbers. It must never contain a text of a user, a token or an address.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use http::{Method, StatusCode};
use roomcast::internal::SharedTokenBucket;
use tokio::sync::mpsc;
use uuid::Uuid;

use super::TraceContext;
use super::context::current_spans;
use crate::metrics::{Counter, Metrics};

/// Records spans, if an exporter is configured. Clones share the queue. The default records none,
/// and forwards no request to sample.
#[derive(Clone, Debug, Default)]
pub(crate) struct Spans(Mode);

#[derive(Clone, Debug, Default)]
enum Mode {
    /// Without an exporter and without requests of callers.
    #[default]
    Off,
    /// Without an exporter. Requests of callers are forwarded to servers that have one.
    Forwarding(Arc<SamplingRequests>),
    Recording(Arc<Recorder>),
}

/// Which events are sampled, and how many spans are recorded.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sampling {
    /// The share of the events without a trace of their caller that are sampled, from 0 to 1.
    pub(crate) ratio: f64,
    /// The number of events per second that are sampled because their caller requests it.
    pub(crate) requested_per_second: u32,
    /// The maximum number of recorded spans per second.
    pub(crate) spans_per_second: u32,
}

#[derive(Debug)]
struct Recorder {
    queue: mpsc::Sender<Span>,
    metrics: Arc<Metrics>,
    ratio: f64,
    requests: SamplingRequests,
    recorded: RateLimit,
    start: Instant,
    /// The state of a generator that need not be unpredictable.
    random: AtomicU64,
}

/// The requests of callers that an event is sampled: the flag in their `traceparent`. They are
/// limited, because each costs this server, other servers and their collectors.
#[derive(Debug)]
struct SamplingRequests {
    limit: RateLimit,
    start: Instant,
    metrics: Arc<Metrics>,
}

impl SamplingRequests {
    fn new(per_second: u32, metrics: Arc<Metrics>) -> Self {
        Self {
            limit: RateLimit::new(per_second),
            start: Instant::now(),
            metrics,
        }
    }

    /// Grants or denies the request of a sampled context.
    fn decide(&self, context: TraceContext) -> TraceContext {
        let is_allowed = self.limit.take(self.start.elapsed());
        self.metrics.count(match is_allowed {
            true => Counter::SamplingGranted,
            false => Counter::SamplingDenied,
        });
        context.with_sampled(is_allowed)
    }
}

/// A limit of events per second, with a burst of one second.
#[derive(Debug)]
struct RateLimit {
    /// The time that one event takes, or `None` if none is allowed.
    cost: Option<Duration>,
    bucket: SharedTokenBucket,
}

impl RateLimit {
    fn new(per_second: u32) -> Self {
        Self {
            cost: Duration::from_secs(1).checked_div(per_second),
            bucket: SharedTokenBucket::default(),
        }
    }

    fn take(&self, now: Duration) -> bool {
        let taken = self.cost.map(|cost| self.bucket.take(now, cost, BURST));
        taken.is_some_and(|taken| taken.is_ok())
    }
}

/// What a span does for its parent, as OpenTelemetry defines it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SpanKind {
    Server,
    Client,
    Producer,
    Consumer,
}

/// The value of an attribute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum AttributeValue {
    Text(String),
    Number(i64),
}

impl From<&str> for AttributeValue {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for AttributeValue {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<Uuid> for AttributeValue {
    fn from(id: Uuid) -> Self {
        Self::Text(id.to_string())
    }
}

impl From<u64> for AttributeValue {
    fn from(number: u64) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

impl From<usize> for AttributeValue {
    fn from(number: usize) -> Self {
        Self::Number(i64::try_from(number).unwrap_or(i64::MAX))
    }
}

/// A finished span.
#[derive(Debug)]
pub(crate) struct Span {
    pub(crate) context: TraceContext,
    pub(crate) name: String,
    pub(crate) kind: SpanKind,
    pub(crate) start: SystemTime,
    pub(crate) duration: Duration,
    pub(crate) attributes: Vec<(&'static str, AttributeValue)>,
    /// Why the operation failed.
    pub(crate) error: Option<&'static str>,
}

impl Spans {
    /// Creates a recorder whose queue has `capacity` spans, and the end of the queue.
    pub(crate) fn new(
        sampling: Sampling,
        capacity: usize,
        metrics: Arc<Metrics>,
    ) -> (Self, mpsc::Receiver<Span>) {
        let (queue, spans) = mpsc::channel(capacity.max(1));
        let (seed, _) = Uuid::new_v4().as_u64_pair();
        let recorder = Recorder {
            queue,
            requests: SamplingRequests::new(sampling.requested_per_second, Arc::clone(&metrics)),
            metrics,
            ratio: sampling.ratio,
            recorded: RateLimit::new(sampling.spans_per_second),
            start: Instant::now(),
            random: AtomicU64::new(seed),
        };
        (Self(Mode::Recording(Arc::new(recorder))), spans)
    }

    /// Creates what records no spans, and forwards so many requests of callers per second.
    pub(crate) fn forwarding(requested_per_second: u32, metrics: Arc<Metrics>) -> Self {
        let requests = SamplingRequests::new(requested_per_second, metrics);
        Self(Mode::Forwarding(Arc::new(requests)))
    }

    #[inline]
    fn recorder(&self) -> Option<&Arc<Recorder>> {
        match &self.0 {
            Mode::Recording(recorder) => Some(recorder),
            Mode::Off | Mode::Forwarding(_) => None,
        }
    }

    /// Returns the number of queued spans, or `None` without an exporter.
    pub(crate) fn queued(&self) -> Option<usize> {
        let queue = &self.recorder()?.queue;
        Some(queue.max_capacity() - queue.capacity())
    }

    /// Decides whether an event is sampled. `named` is the trace that its caller names.
    ///
    /// Without an exporter, the event keeps the flag of its caller up to the same limit.
    #[inline]
    pub(crate) fn sample(&self, named: Option<TraceContext>) -> Option<TraceContext> {
        match &self.0 {
            Mode::Recording(recorder) => recorder.sample(named),
            Mode::Forwarding(requests) => named.map(|context| match context.is_sampled() {
                true => requests.decide(context),
                false => context,
            }),
            Mode::Off => named.map(|context| context.with_sampled(false)),
        }
    }

    /// Starts the span of a sampled context. Returns `None` if the context is not sampled.
    #[inline]
    pub(crate) fn start(
        &self,
        context: TraceContext,
        kind: SpanKind,
        name: impl FnOnce() -> String,
    ) -> Option<OpenSpan> {
        let recorder = self.recorder().filter(|_| context.is_sampled())?;
        Some(OpenSpan {
            recorder: Arc::clone(recorder),
            began: Instant::now(),
            span: Some(Box::new(Span {
                context,
                name: name(),
                kind,
                start: SystemTime::now(),
                duration: Duration::ZERO,
                attributes: Vec::new(),
                error: Some(CANCELLED),
            })),
        })
    }

    /// Starts the span of a call of the HTTP API. The template of a route has no ids, of which some
    /// are secrets.
    pub(crate) fn start_call(
        &self,
        context: TraceContext,
        method: &Method,
        route: &str,
    ) -> Option<OpenSpan> {
        let mut span = self.start(context, SpanKind::Server, || format!("{method} {route}"))?;
        span.set("http.request.method", method.as_str());
        span.set("http.route", route);
        Some(span)
    }

    /// Starts a span that a sampled context caused.
    #[inline]
    pub(crate) fn start_child(
        &self,
        parent: Option<TraceContext>,
        kind: SpanKind,
        name: impl FnOnce() -> String,
    ) -> Option<OpenSpan> {
        // An id is drawn for recorded spans only.
        let parent = parent.filter(|parent| self.recorder().is_some() && parent.is_sampled())?;
        self.start(parent.child(), kind, name)
    }

    /// Starts a span that the event of the current task caused, if that event is sampled.
    #[inline]
    pub(crate) fn start_in_task(kind: SpanKind, name: impl FnOnce() -> String) -> Option<OpenSpan> {
        let (context, spans) = current_spans()?;
        spans.start_child(Some(context), kind, name)
    }
}

impl Recorder {
    fn sample(&self, named: Option<TraceContext>) -> Option<TraceContext> {
        match named {
            None => self.draws().then(|| TraceContext::new(true)),
            // The trace of an invalid name was restarted here.
            Some(context) if context.is_start() => Some(context.with_sampled(self.draws())),
            Some(context) if context.is_sampled() => Some(self.requests.decide(context)),
            // A span whose parent is not recorded would be the start of a second trace.
            Some(context) => Some(context),
        }
    }

    /// Draws by the configured share.
    fn draws(&self) -> bool {
        if self.ratio <= 0.0 {
            return false;
        }
        // SplitMix64: one addition for each event, and the mixed sum is the number.
        let mut mixed = self.random.fetch_add(GOLDEN, Ordering::Relaxed);
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        // The upper 32 bits are exact as a floating-point number.
        f64::from(u32::try_from(mixed >> 32).unwrap_or(u32::MAX)) < self.ratio * TWO_TO_32
    }

    /// Queues a finished span, or counts it as dropped.
    fn record(&self, span: Span) {
        if !self.recorded.take(self.start.elapsed()) {
            self.metrics.count(Counter::SpansLimited);
        } else if self.queue.try_send(span).is_err() {
            self.metrics.count(Counter::SpansUnqueued);
        }
    }
}

/// A span in progress. If it is dropped without [`end`](Self::end) or [`fail`](Self::fail), its
/// operation was cancelled.
#[derive(Debug)]
#[must_use = "a span without an end is recorded as cancelled"]
pub(crate) struct OpenSpan {
    recorder: Arc<Recorder>,
    began: Instant,
    /// `None` once it is recorded.
    span: Option<Box<Span>>,
}

impl OpenSpan {
    /// Adds an attribute.
    pub(crate) fn set(&mut self, name: &'static str, value: impl Into<AttributeValue>) {
        if let Some(span) = &mut self.span {
            span.attributes.push((name, value.into()));
        }
    }

    /// Returns the context that spans caused by this one continue.
    pub(crate) fn context(&self) -> Option<TraceContext> {
        self.span.as_ref().map(|span| span.context)
    }

    /// Records the span of an operation that succeeded.
    pub(crate) fn end(self) {
        self.finish(None);
    }

    /// Records the span of an operation that failed.
    pub(crate) fn fail(self, why: &'static str) {
        self.finish(Some(why));
    }

    /// Records the span of a call with its user and its status.
    pub(crate) fn end_call(mut self, user: &str, status: StatusCode) {
        self.set("user.id", user);
        self.set("http.response.status_code", u64::from(status.as_u16()));
        match status.is_server_error() {
            true => self.fail("server error"),
            // A refusal is a correct response.
            false => self.end(),
        }
    }

    /// Ends without a record, because there was nothing to do.
    pub(crate) fn discard(mut self) {
        self.span = None;
    }

    fn finish(mut self, error: Option<&'static str>) {
        if let Some(span) = &mut self.span {
            span.error = error;
        }
    }
}

impl Drop for OpenSpan {
    fn drop(&mut self) {
        if let Some(mut span) = self.span.take() {
            span.duration = self.began.elapsed();
            self.recorder.record(*span);
        }
    }
}

/// The error of a span whose operation was not finished, such as that of a client that left.
const CANCELLED: &str = "cancelled";
/// The time over which the limits apply.
const BURST: Duration = Duration::from_secs(1);
/// The step of SplitMix64: two to the power of 64, divided by the golden ratio.
const GOLDEN: u64 = 0x9e37_79b9_7f4a_7c15;
const TWO_TO_32: f64 = 4_294_967_296.0;

#[cfg(test)]
mod tests {
    use super::*;

    fn spans(ratio: f64, requested: u32, capacity: usize) -> (Spans, mpsc::Receiver<Span>) {
        let sampling = Sampling {
            ratio,
            requested_per_second: requested,
            spans_per_second: 1000,
        };
        Spans::new(sampling, capacity, Arc::new(Metrics::new()))
    }

    fn count(spans: &Spans, counter: Counter) -> u64 {
        spans.recorder().unwrap().metrics.counter(counter)
    }

    const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    const UNSAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

    fn is_sampled(spans: &Spans, named: Option<&str>) -> bool {
        let context = spans.sample(named.map(TraceContext::of_caller));
        context.is_some_and(|context| context.is_sampled())
    }

    #[test]
    fn share_of_unnamed_and_restarted_traces_is_the_configured_ratio() {
        let (spans, _queue) = spans(0.25, 10, 1);
        for named in [None, Some("invalid")] {
            let sampled = (0..100_000).filter(|_| is_sampled(&spans, named)).count();
            assert!((24_000..26_000).contains(&sampled), "{named:?}: {sampled}");
        }
        let (always, _queue) = self::spans(1.0, 0, 1);
        let (never, _queue) = self::spans(0.0, 0, 1);
        for _ in 0..1000 {
            assert!(is_sampled(&always, None));
            assert!(!is_sampled(&never, None));
        }
        assert_eq!(never.sample(None), None);
    }

    #[test]
    fn sampling_that_callers_request_is_limited_per_second() {
        let (limited, _queue) = spans(1.0, 10, 1);
        let begin = Instant::now();
        let sampled = (0..1000).filter(|_| is_sampled(&limited, Some(SAMPLED)));
        let sampled = sampled.count() as u64;
        let most = 11 + begin.elapsed().as_millis() as u64 / 100;
        assert!((10..=most).contains(&sampled), "{sampled} of {most}");
        assert_eq!(count(&limited, Counter::SamplingGranted), sampled);
        assert_eq!(count(&limited, Counter::SamplingDenied), 1000 - sampled);
        // The caller records nothing, so nothing here would have a parent.
        assert!(!is_sampled(&limited, Some(UNSAMPLED)));
        let (none, _queue) = spans(1.0, 0, 1);
        assert!(!is_sampled(&none, Some(SAMPLED)));
        assert!(!is_sampled(&Spans::default(), Some(SAMPLED)));
        assert!(!is_sampled(&Spans::default(), None));
    }

    #[test]
    fn forwarded_requests_to_sample_are_limited_without_an_exporter() {
        let metrics = Arc::new(Metrics::new());
        let limited = Spans::forwarding(10, Arc::clone(&metrics));
        let begin = Instant::now();
        let sampled = (0..1000).filter(|_| is_sampled(&limited, Some(SAMPLED)));
        let sampled = sampled.count() as u64;
        let most = 11 + begin.elapsed().as_millis() as u64 / 100;
        assert!((10..=most).contains(&sampled), "{sampled} of {most}");
        assert_eq!(metrics.counter(Counter::SamplingGranted), sampled);
        assert_eq!(metrics.counter(Counter::SamplingDenied), 1000 - sampled);
        // Events keep their trace, and no event starts one.
        let context = TraceContext::of_caller(SAMPLED);
        let forwarded = limited.sample(Some(context)).unwrap();
        assert!(forwarded.is_same_trace(context));
        assert!(!is_sampled(&limited, Some(UNSAMPLED)));
        assert_eq!(limited.sample(None), None);
        let none = Spans::forwarding(0, metrics);
        assert!(!is_sampled(&none, Some(SAMPLED)));
    }

    #[test]
    fn spans_beyond_the_queue_and_the_rate_are_counted_and_dropped() {
        let (spans, mut queue) = spans(1.0, 0, 2);
        let parent = TraceContext::new(true);
        for _ in 0..3 {
            let span = spans.start_child(Some(parent), SpanKind::Client, || "step".into());
            span.unwrap().end();
        }
        assert_eq!(spans.queued(), Some(2));
        assert_eq!(count(&spans, Counter::SpansUnqueued), 1);
        let span = queue.try_recv().unwrap();
        assert_eq!((span.name.as_str(), span.error), ("step", None));
        let unsampled = TraceContext::new(false);
        let started = spans.start(unsampled, SpanKind::Client, || unreachable!());
        assert!(started.is_none());
        drop(spans.start(parent, SpanKind::Client, || "dropped".into()));
        queue.try_recv().unwrap();
        assert_eq!(queue.try_recv().unwrap().error, Some(CANCELLED));
        for _ in 0..3000 {
            drop(spans.start(parent, SpanKind::Client, String::new));
        }
        assert!(count(&spans, Counter::SpansLimited) >= 1000);
    }
}
