//! Records connections and handled events for tracers.

use std::time::Instant;

use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::catalogue::Catalogue;
use crate::metrics::trace::{Detail, OpenSpan, SpanKind, Subject, TraceContext, Traces, unmasked};
use roomcast::{DisconnectReason, Event, Refusal, SocketId};

/// Records connects and disconnects, and observes the connections of traced users. Call this before
/// other connection handlers are registered, so that a trace contains what they send.
pub(super) fn register(catalogue: &mut Catalogue, traces: &Traces) {
    catalogue.trace(traces.clone());
    let (connecting, disconnecting) = (traces.clone(), traces.clone());
    catalogue.namespace(|namespace| {
        namespace
            .on_connect(move |event: Event| {
                let socket = &event.socket;
                // The payload of the namespace is nearer to the events than the request.
                let named = socket.auth::<EventMetadata>().map(|auth| auth.traceparent);
                let header = || socket.handshake().header("traceparent").map(str::to_owned);
                if let Some(named) = named.ok().or_else(header) {
                    socket.set_data(ConnectionTrace(TraceContext::parse(&named)));
                }
                connecting.connected(socket);
                async {}
            })
            .on(
                "disconnect",
                move |event: Event, reason: DisconnectReason| {
                    disconnecting.disconnected(&event.socket, reason.as_str());
                    async {}
                },
            )
    });
}

/// The trace that a client names when it connects, or `None` if the name is invalid.
struct ConnectionTrace(Option<TraceContext>);

impl ConnectionTrace {
    /// Returns a new span of the trace. An invalid name restarts the trace for each event, so that
    /// a client cannot exclude its events from sampling.
    fn context(&self) -> TraceContext {
        self.0
            .map_or_else(|| TraceContext::new(false), TraceContext::child)
    }
}

/// The second argument of an event: `{"traceparent": "00-…"}`.
#[derive(Deserialize)]
pub(super) struct EventMetadata {
    traceparent: String,
}

/// Returns the trace of an event: the one in its second argument, or a new span of the one that its
/// client named when it connected. An event without them can be sampled.
pub(super) fn context_of(traces: &Traces, event: &Event) -> Option<TraceContext> {
    traces.spans().sample(named_context(event))
}

fn named_context(event: &Event) -> Option<TraceContext> {
    if event.args().len() > 1
        && let Ok(metadata) = event.args().get::<EventMetadata>(1)
    {
        return Some(TraceContext::of_caller(&metadata.traceparent));
    }
    let connection = event.socket.data::<ConnectionTrace>()?;
    Some(connection.context())
}

/// A traced event whose handler runs.
pub(super) struct TracedEvent {
    traces: Traces,
    user: String,
    socket: SocketId,
    conversation: Option<Uuid>,
    event: String,
    context: Option<TraceContext>,
    span: Option<OpenSpan>,
    began: Instant,
}

/// The field by which events name a conversation.
#[derive(Deserialize)]
struct AboutConversation {
    #[serde(rename = "conversationId")]
    conversation_id: Uuid,
}

impl TracedEvent {
    /// Records that the handler of an event starts. Returns `None` if no tracer selects the event.
    pub(super) fn begin(
        traces: &Traces,
        event: &Event,
        context: Option<TraceContext>,
    ) -> Option<Box<Self>> {
        if traces.is_active() || context.is_some() {
            Self::begin_selected(traces, event, context, event.name())
        } else {
            None
        }
    }

    /// Records that an event without a handler arrives. Returns `None` if no tracer selects it.
    pub(super) fn begin_unknown(
        traces: &Traces,
        event: &Event,
        context: Option<TraceContext>,
    ) -> Option<Box<Self>> {
        if traces.is_active() || context.is_some() {
            // The client chooses the name, which can contain anything.
            Self::begin_selected(traces, event, context, UNKNOWN)
        } else {
            None
        }
    }

    #[cold]
    fn begin_selected(
        traces: &Traces,
        event: &Event,
        context: Option<TraceContext>,
        span_name: &str,
    ) -> Option<Box<Self>> {
        let principal = event.principal();
        let conversation = traces.follows_conversations().then(|| conversation(event));
        let conversation = conversation.flatten();
        let span = context.and_then(|context| span_of(traces, event, context, span_name));
        let traced = Self {
            traces: traces.clone(),
            user: principal.subject.clone(),
            socket: event.socket.id(),
            conversation,
            // The client chooses the name of an unknown event.
            event: event.name().chars().take(MAX_NAME).collect(),
            context,
            span,
            began: Instant::now(),
        };
        if context.is_none() && !traces.matches(&traced.subject()) {
            return None;
        }
        traces.record(&traced.subject(), "handler_started", |detail| {
            let mut fields = traced.fields();
            fields.insert("bytes".into(), event.args().size().into());
            if let Some(id) = event.ack_id() {
                fields.insert("ackId".into(), id.into());
            }
            // The observers of a connection show the payloads of a traced user or socket.
            if detail == Detail::Unmasked && conversation.is_some() {
                let payload = event.args().get::<Value>(0).unwrap_or_default();
                fields.insert("payload".into(), unmasked(payload));
            }
            fields
        });
        Some(Box::new(traced))
    }

    /// Records that the handler has ended, and its outcome.
    pub(super) fn end(mut self, outcome: Result<(), &Refusal>) {
        let millis = self.began.elapsed().as_secs_f64() * 1e3;
        let outcome = match outcome {
            Ok(()) => "done",
            Err(refusal) => refusal.code(),
        };
        if let Some(context) = self.context {
            let (event, socket) = (&self.event, &self.socket);
            let trace_id = context.trace_id();
            tracing::debug!(trace_id, event, user = self.user, %socket, outcome, "handled a traced event");
        }
        self.traces.record(&self.subject(), "handler_ended", |_| {
            let mut fields = self.fields();
            fields.insert("outcome".into(), outcome.into());
            fields.insert("ms".into(), millis.into());
            fields
        });
        if let Some(mut span) = self.span.take() {
            span.set("roomcast.outcome", outcome);
            match outcome {
                "INTERNAL" => span.fail("INTERNAL"),
                "STORE_UNAVAILABLE" => span.fail("STORE_UNAVAILABLE"),
                "BACKEND_UNAVAILABLE" => span.fail("BACKEND_UNAVAILABLE"),
                // A refusal is a correct answer.
                _ => span.end(),
            }
        }
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            user: Some(&self.user),
            socket: Some(self.socket.clone()),
            conversation: self.conversation,
            channel: None,
        }
    }

    fn fields(&self) -> Map<String, Value> {
        let mut fields = Map::from_iter([("event".to_owned(), self.event.clone().into())]);
        if let Some(context) = self.context {
            fields.insert("traceId".into(), context.trace_id().into());
        }
        fields
    }
}

/// Starts the span of an event, if it is sampled.
fn span_of(traces: &Traces, event: &Event, context: TraceContext, name: &str) -> Option<OpenSpan> {
    let start = || format!("event {name}");
    let mut span = traces.spans().start(context, SpanKind::Server, start)?;
    span.set("roomcast.event", name);
    span.set("roomcast.namespace", event.socket.namespace().name());
    span.set("roomcast.socket", event.socket.id().as_str());
    span.set("user.id", event.principal().subject.as_str());
    if let Some(conversation) = conversation(event) {
        span.set("roomcast.conversation", conversation);
    }
    Some(span)
}

/// Returns the conversation that an event names: in its argument, or as its argument.
pub(super) fn conversation(event: &Event) -> Option<Uuid> {
    let args = event.args();
    let about = args.get::<AboutConversation>(0);
    let about = about.map(|about| about.conversation_id);
    about.or_else(|_| args.get::<Uuid>(0)).ok()
}

/// Maximum length of a recorded name in characters.
const MAX_NAME: usize = 64;
/// The name of an unknown event in spans.
const UNKNOWN: &str = "unknown";
