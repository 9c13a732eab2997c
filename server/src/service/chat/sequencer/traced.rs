//! Records what happens to the steps of a conversation for tracers.

use serde_json::{Map, Value, json};
use uuid::Uuid;

use crate::metrics::trace::{Detail, OpenSpan, SpanKind, Subject, TraceContext, Traces, unmasked};
use crate::store::{Commit, Committed, Message, Revision};
use roomcast::{Broadcast, SocketId, broadcast::Emitted};

/// Records that a commit of this server is stored, or that another server announced one.
pub(in crate::service::chat) fn committed(traces: &Traces, commit: &Commit) {
    let event = commit.event();
    let trace = commit.origin().trace;
    if let Some(trace) = trace {
        let step = if commit.is_foreign() {
            "announced"
        } else {
            "stored"
        };
        log(trace, step, event, commit.revision());
    }
    if !traces.is_active() {
        return;
    }
    let subject = Subject {
        user: author(event),
        socket: sender(commit),
        conversation: Some(event.conversation_id()),
        channel: None,
    };
    let step = if commit.is_foreign() {
        "announced"
    } else if let Committed::Repeated(_) = event {
        "repeated"
    } else {
        "stored"
    };
    traces.record(&subject, step, |detail| {
        let mut fields = fields(event, commit.revision(), trace);
        if detail == Detail::Unmasked
            && let Committed::Message(message) | Committed::Edited(message) = event
        {
            let content = unmasked(json!({"content": message.content}));
            fields.insert("payload".into(), content);
        }
        fields
    });
}

/// Records that no socket has joined the conversation of a commit.
pub(in crate::service::chat) fn unseen(traces: &Traces, commit: &Commit) {
    if traces.is_active() {
        let event = commit.event();
        let subject = Subject {
            user: author(event),
            socket: sender(commit),
            conversation: Some(event.conversation_id()),
            channel: None,
        };
        traces.record(&subject, "not_emitted", |_| {
            let mut fields = fields(event, commit.revision(), commit.origin().trace);
            let reason = "no socket on this server has joined the conversation";
            fields.insert("reason".into(), reason.into());
            fields
        });
    }
}

/// Records that a step was emitted, and to which sockets.
pub(super) fn emitted(
    traces: &Traces,
    to: impl FnOnce() -> Vec<(String, String)>,
    (event, revision, trace): (&Committed, Revision, Option<TraceContext>),
    outcome: &Emitted,
) {
    if let Some(trace) = trace {
        log(trace, "emitted", event, revision);
    }
    if !traces.is_active() {
        return;
    }
    let subject = Subject {
        user: author(event),
        socket: None,
        conversation: Some(event.conversation_id()),
        channel: None,
    };
    if !traces.matches(&subject) {
        return;
    }
    let mut to = to();
    let recipients = to.len();
    to.truncate(MAX_RECIPIENTS);
    traces.record(&subject, "emitted", |_| {
        let mut fields = fields(event, revision, trace);
        let shown: Vec<_> = to
            .iter()
            .map(|(socket, user)| json!({"socket": socket, "user": user}))
            .collect();
        fields.insert("recipients".into(), recipients.into());
        fields.insert("to".into(), shown.into());
        fields.insert("queued".into(), outcome.queued.into());
        fields.insert(
            "dropped".into(),
            (outcome.dropped + outcome.overflowed).into(),
        );
        fields.insert("closed".into(), outcome.closed.into());
        fields
    });
}

/// Starts the span of emitting a step, if its event is sampled.
pub(super) fn start_emission(
    traces: &Traces,
    event: &Committed,
    revision: Revision,
    trace: Option<TraceContext>,
) -> Option<OpenSpan> {
    let name = || format!("emit {}", change(event));
    let mut span = traces
        .spans()
        .start_child(trace, SpanKind::Producer, name)?;
    span.set("roomcast.conversation", event.conversation_id());
    if let Some(message) = message(event) {
        span.set("roomcast.message", message.id);
    }
    span.set("roomcast.seq", revision.seq);
    Some(span)
}

/// Ends the span of emitting a step.
pub(super) fn end_emission(mut span: OpenSpan, emitted: &Emitted) {
    span.set("roomcast.queued", emitted.queued);
    span.set("roomcast.dropped", emitted.dropped + emitted.overflowed);
    span.set("roomcast.closed", emitted.closed);
    span.end();
}

/// Starts the span of waiting for the confirmations of a message, if its event is sampled.
pub(super) fn start_confirmation(
    traces: &Traces,
    message: &Message,
    trace: Option<TraceContext>,
) -> Option<OpenSpan> {
    let name = || "confirm message".to_owned();
    let mut span = traces
        .spans()
        .start_child(trace, SpanKind::Producer, name)?;
    span.set("roomcast.conversation", message.conversation_id);
    span.set("roomcast.message", message.id);
    Some(span)
}

/// Returns the sockets of a broadcast with their users.
pub(super) fn recipients(to: &Broadcast<'_>) -> Vec<(String, String)> {
    let sockets = to.sockets();
    let described = sockets.iter().map(|socket| {
        let user = socket.principal().subject.clone();
        (socket.id().as_str().to_owned(), user)
    });
    described.collect()
}

/// Records the confirmations of a message.
pub(super) fn confirmed(
    traces: &Traces,
    message: &Message,
    (delivered, expected, timed_out): (usize, usize, bool),
) {
    let subject = Subject {
        user: Some(&message.user_id),
        socket: None,
        conversation: Some(message.conversation_id),
        channel: None,
    };
    traces.record(&subject, "confirmations", |_| {
        let mut fields = identity(message.id, message.seq);
        fields.insert("delivered".into(), delivered.into());
        fields.insert("expected".into(), expected.into());
        fields.insert("timedOut".into(), timed_out.into());
        fields
    });
}

/// Returns the socket that sent a change.
fn sender(commit: &Commit) -> Option<SocketId> {
    SocketId::parse(commit.origin().socket?.as_str())
}

/// Returns the user who wrote a message.
fn author(event: &Committed) -> Option<&str> {
    match event {
        Committed::Message(message) | Committed::Repeated(message) | Committed::Edited(message) => {
            Some(&message.user_id)
        }
        Committed::Deleted { by, .. } => Some(by),
        Committed::Members { user_id, .. } => Some(user_id),
        Committed::Annotated(_)
        | Committed::Renamed(_)
        | Committed::ConversationDeleted { .. }
        | Committed::Announced(_) => None,
    }
}

/// Logs a step of a traced event.
fn log(trace: TraceContext, step: &str, event: &Committed, revision: Revision) {
    tracing::debug!(
        trace_id = trace.trace_id(),
        conversation = %event.conversation_id(),
        message = message(event).map(|message| tracing::field::display(message.id)),
        seq = revision.seq,
        step,
        "step of a traced event"
    );
}

/// Returns the message of an event.
fn message(event: &Committed) -> Option<&Message> {
    match event {
        Committed::Message(message)
        | Committed::Repeated(message)
        | Committed::Edited(message)
        | Committed::Deleted { message, .. } => Some(message),
        Committed::Annotated(_)
        | Committed::Renamed(_)
        | Committed::Members { .. }
        | Committed::ConversationDeleted { .. }
        | Committed::Announced(_) => None,
    }
}

/// Returns the kind of a change.
fn change(event: &Committed) -> &'static str {
    match event {
        Committed::Message(_) | Committed::Repeated(_) => "message",
        Committed::Edited(_) => "edit",
        Committed::Deleted { .. } => "delete",
        Committed::Annotated(_) => "annotation",
        Committed::Renamed(_) => "rename",
        Committed::Members { .. } => "members",
        Committed::ConversationDeleted { .. } => "conversation_deleted",
        Committed::Announced(_) => "announcement",
    }
}

fn fields(
    event: &Committed,
    revision: Revision,
    trace: Option<TraceContext>,
) -> Map<String, Value> {
    let mut fields = match message(event) {
        Some(message) => identity(message.id, message.seq),
        None => Map::from_iter([("seq".to_owned(), revision.seq.into())]),
    };
    fields.insert("change".into(), change(event).into());
    fields.insert("changes".into(), revision.changes.into());
    if let Some(trace) = trace {
        fields.insert("traceId".into(), trace.trace_id().into());
    }
    fields
}

fn identity(message: Uuid, seq: u64) -> Map<String, Value> {
    Map::from_iter([
        ("messageId".to_owned(), message.to_string().into()),
        ("seq".to_owned(), seq.into()),
    ])
}

/// Maximum number of recipients that a line names.
const MAX_RECIPIENTS: usize = 20;
