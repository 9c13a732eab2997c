//! Records connections and handled events for tracers.

use std::time::Instant;

use serde::Deserialize;
use serde_json::{Map, Value};
use uuid::Uuid;

use super::catalogue::Catalogue;
use crate::trace::{Detail, Subject, Traces, unmasked};
use roomcast::{DisconnectReason, Event, Refusal, SocketId};

/// Records connects and disconnects, and observes the connections of traced users. Call this before
/// other connection handlers are registered, so that a trace contains what they send.
pub(super) fn register(catalogue: &mut Catalogue, traces: &Traces) {
    catalogue.trace(traces.clone());
    let (connecting, disconnecting) = (traces.clone(), traces.clone());
    catalogue.namespace(|namespace| {
        namespace
            .on_connect(move |event: Event| {
                connecting.connected(&event.socket);
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

/// A traced event whose handler runs.
pub(super) struct TracedEvent {
    traces: Traces,
    user: String,
    socket: SocketId,
    conversation: Option<Uuid>,
    event: String,
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
    pub(super) fn begin(traces: &Traces, event: &Event) -> Option<Box<Self>> {
        if traces.is_active() {
            Self::begin_selected(traces, event)
        } else {
            None
        }
    }

    #[cold]
    fn begin_selected(traces: &Traces, event: &Event) -> Option<Box<Self>> {
        let principal = event.principal();
        let conversation = traces.follows_conversations().then(|| conversation(event));
        let conversation = conversation.flatten();
        let traced = Self {
            traces: traces.clone(),
            user: principal.subject.clone(),
            socket: event.socket.id(),
            conversation,
            // The client chooses the name of an unknown event.
            event: event.name().chars().take(MAX_NAME).collect(),
            began: Instant::now(),
        };
        if !traces.matches(&traced.subject()) {
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
    pub(super) fn end(&self, outcome: Result<(), &Refusal>) {
        let millis = self.began.elapsed().as_secs_f64() * 1e3;
        self.traces.record(&self.subject(), "handler_ended", |_| {
            let mut fields = self.fields();
            let outcome = match outcome {
                Ok(()) => "done",
                Err(refusal) => refusal.code(),
            };
            fields.insert("outcome".into(), outcome.into());
            fields.insert("ms".into(), millis.into());
            fields
        });
    }

    fn subject(&self) -> Subject<'_> {
        Subject {
            user: Some(&self.user),
            socket: Some(self.socket),
            conversation: self.conversation,
        }
    }

    fn fields(&self) -> Map<String, Value> {
        Map::from_iter([("event".to_owned(), self.event.clone().into())])
    }
}

/// Returns the conversation that an event names: in its argument, or as its argument.
fn conversation(event: &Event) -> Option<Uuid> {
    let args = event.args();
    let about = args.get::<AboutConversation>(0);
    let about = about.map(|about| about.conversation_id);
    about.or_else(|_| args.get::<Uuid>(0)).ok()
}

/// Maximum length of a recorded name in characters.
const MAX_NAME: usize = 64;
