//! The trace of a client's event: `traceparent` of W3C Trace Context.

use std::fmt;

use http::HeaderMap;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use tokio::task::JoinHandle;
use uuid::Uuid;

use super::Spans;

/// A position in a trace: the trace, the current span and the span that caused it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TraceContext {
    trace_id: u128,
    span_id: u64,
    /// The span of the caller, or `None` at the start of a trace.
    parent_id: Option<u64>,
    /// Whether the caller records the trace.
    is_sampled: bool,
}

/// The context of a task, and what records its spans.
#[derive(Clone, Debug)]
struct Current {
    context: TraceContext,
    spans: Spans,
}

tokio::task_local! {
    static CURRENT: Current;
}

/// Returns the context of the current task, and what records its spans.
pub(super) fn current_spans() -> Option<(TraceContext, Spans)> {
    let current = CURRENT.try_with(|current| {
        let is_sampled = current.context.is_sampled;
        is_sampled.then(|| (current.context, current.spans.clone()))
    });
    current.ok().flatten()
}

impl TraceContext {
    /// Parses a `traceparent`. Returns `None` if it is invalid, which restarts the trace.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let mut parts = text.splitn(4, '-');
        let version = lower_hex(parts.next()?, 2)?;
        let trace_id = lower_hex(parts.next()?, 32)?;
        let span_id = lower_hex(parts.next()?, 16)?;
        let rest = parts.next()?;
        let (flags, more) = rest.split_at_checked(2)?;
        let flags = lower_hex(flags, 2)?;
        // Later versions may append parts; version 00 has none, and version ff is invalid.
        let is_version_valid = match version {
            0 => more.is_empty(),
            0xff => false,
            _ => more.is_empty() || more.starts_with('-'),
        };
        if !is_version_valid || trace_id == 0 || span_id == 0 {
            return None;
        }
        Some(Self {
            trace_id,
            span_id: u64::try_from(span_id).ok()?,
            parent_id: None,
            is_sampled: flags & SAMPLED != 0,
        })
    }

    /// Starts a trace.
    pub(crate) fn new(is_sampled: bool) -> Self {
        Self {
            // A random UUID is never zero, because its version is not.
            trace_id: Uuid::new_v4().as_u128(),
            span_id: random_span(),
            parent_id: None,
            is_sampled,
        }
    }

    /// Continues the trace that a client names, or restarts it if the name is invalid.
    pub(crate) fn of_caller(traceparent: &str) -> Self {
        Self::parse(traceparent).map_or_else(|| Self::new(false), Self::child)
    }

    /// Continues the trace that a caller names in a header. Several headers name none.
    pub(crate) fn of_headers(headers: &HeaderMap) -> Option<Self> {
        let mut values = headers.get_all("traceparent").iter();
        let (first, second) = (values.next()?, values.next());
        let text = first.to_str().ok().filter(|_| second.is_none())?;
        Some(Self::of_caller(text))
    }

    /// Returns a new span of the trace, caused by this one.
    #[must_use]
    pub(crate) fn child(self) -> Self {
        Self {
            span_id: random_span(),
            parent_id: Some(self.span_id),
            ..self
        }
    }

    /// Returns the context of the current task, if its event belongs to a trace.
    pub(crate) fn current() -> Option<Self> {
        CURRENT.try_with(|current| current.context).ok()
    }

    /// Runs a future in this context. `spans` records what the context causes.
    pub(crate) fn scope<F: Future>(
        self,
        spans: &Spans,
        future: F,
    ) -> impl Future<Output = F::Output> + use<F> {
        CURRENT.scope(self.with(spans), future)
    }

    /// Starts a task in the context of the current one, if it has one.
    pub(crate) fn spawn<F>(future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        match CURRENT.try_with(Clone::clone) {
            Ok(current) => tokio::spawn(CURRENT.scope(current, future)),
            Err(_) => tokio::spawn(future),
        }
    }

    /// Calls a function in this context. `spans` records what the context causes.
    pub(crate) fn call<T>(self, spans: &Spans, function: impl FnOnce() -> T) -> T {
        CURRENT.sync_scope(self.with(spans), function)
    }

    fn with(self, spans: &Spans) -> Current {
        Current {
            context: self,
            spans: spans.clone(),
        }
    }

    /// Returns whether the spans of the trace are recorded.
    pub(crate) fn is_sampled(&self) -> bool {
        self.is_sampled
    }

    /// Returns whether both are in one trace.
    pub(crate) fn is_same_trace(&self, other: Self) -> bool {
        self.trace_id == other.trace_id
    }

    /// Returns the context with another decision.
    pub(super) fn with_sampled(self, is_sampled: bool) -> Self {
        Self { is_sampled, ..self }
    }

    /// Returns whether the trace starts with this span.
    pub(super) fn is_start(&self) -> bool {
        self.parent_id.is_none()
    }

    /// Returns the ids of the trace, the span and the span that caused it, as numbers.
    #[cfg(feature = "otlp")]
    pub(crate) fn ids(&self) -> (u128, u64, Option<u64>) {
        (self.trace_id, self.span_id, self.parent_id)
    }

    /// Returns the id of the trace as it is logged.
    pub(crate) fn trace_id(&self) -> String {
        format!("{:032x}", self.trace_id)
    }
}

/// The `traceparent` for services and servers that are called from the current span.
impl fmt::Display for TraceContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let flags = u8::from(self.is_sampled);
        write!(
            f,
            "00-{:032x}-{:016x}-{flags:02x}",
            self.trace_id, self.span_id
        )
    }
}

impl Serialize for TraceContext {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Deserializes a context that another server sent. An invalid one counts as none, so that it does
/// not spoil the message.
pub(crate) fn lenient<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<TraceContext>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    Ok(text.and_then(|text| TraceContext::parse(&text)))
}

/// Reads a number of exactly `digits` lower-case digits.
fn lower_hex(text: &str, digits: usize) -> Option<u128> {
    let is_digit = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    let is_valid = text.len() == digits && text.bytes().all(is_digit);
    is_valid
        .then(|| u128::from_str_radix(text, 16).ok())
        .flatten()
}

fn random_span() -> u64 {
    let (_, low) = Uuid::new_v4().as_u64_pair();
    // The variant bits of a UUID make it unequal to zero.
    low
}

/// The flag of a recorded trace.
const SAMPLED: u128 = 1;

#[cfg(test)]
mod tests {
    use super::*;

    const VALID: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

    #[test]
    fn valid_traceparents_are_continued_with_a_new_span() {
        let context = TraceContext::parse(VALID).unwrap();
        assert_eq!(context.to_string(), VALID);
        let child = context.child();
        assert_eq!(child.trace_id(), "4bf92f3577b34da6a3ce929d0e0e4736");
        assert_eq!(child.parent_id, Some(context.span_id));
        assert_ne!(child.span_id, context.span_id);
        let later = "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00-what";
        let later = TraceContext::parse(later).unwrap();
        assert!(later.to_string().ends_with("-00"));
    }

    #[test]
    fn invalid_traceparents_restart_the_trace() {
        let valid = TraceContext::parse(VALID).unwrap();
        for text in [
            "",
            "00",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-1",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-more",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e473-00f067aa0ba902b7-01",
            "00-+bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "0x-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "cc-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00what",
        ] {
            assert_eq!(TraceContext::parse(text), None, "{text}");
            let restarted = TraceContext::of_caller(text);
            assert_ne!(restarted.trace_id, valid.trace_id);
            assert_eq!(TraceContext::parse(&restarted.to_string()), Some(restarted));
        }
    }
}
