//! The catalogue as an AsyncAPI 3.0 document, from the point of view of the server.

use serde_json::{Map, Value, json};

use super::{Catalogue, Deprecated, Received, Sent, refused, sentence};

impl Catalogue {
    /// The namespace `/` is one channel. A message is called by the event with its direction in front, and what an
    /// event has beyond what AsyncAPI knows is in fields that begin with `x-`.
    pub(crate) fn asyncapi(&self) -> Value {
        let mut document = Document::default();
        for event in &self.received {
            document.add_received(event);
        }
        for event in &self.sent {
            document.add_sent(event);
        }
        let mut types = self.types.clone();
        types.insert("Refused", refused());
        let in_channel: Map<_, _> = document
            .messages
            .keys()
            .map(|id| {
                (
                    id.clone(),
                    json!({"$ref": format!("#/components/messages/{id}")}),
                )
            })
            .collect();
        json!({
            "asyncapi": "3.0.0",
            "info": {
                "title": "Roomcast",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "Events of the chat, over Socket.IO. An event has one argument, the payload of its message.",
            },
            "defaultContentType": "application/json",
            "channels": {
                "chat": {
                    "address": "/",
                    "description": "The Socket.IO namespace in which everything happens.",
                    "messages": in_channel,
                },
            },
            "operations": document.operations,
            "components": {"messages": document.messages, "schemas": types.under(SCHEMAS)},
        })
    }
}

const SCHEMAS: &str = "#/components/schemas/";

#[derive(Default)]
struct Document {
    messages: Map<String, Value>,
    operations: Map<String, Value>,
}

impl Document {
    fn add_received(&mut self, event: &Received) {
        let row = event.row;
        let message = json!({
            "name": row.event,
            "title": row.event,
            "summary": summary(row.does, event.deprecated),
            "payload": {"$ref": format!("{SCHEMAS}{}", event.payload)},
            "examples": [{"payload": (row.example)()}],
            "x-version": row.version(),
            "x-deprecated": event.deprecated,
            "x-permission": row.permission.map(|needed| needed.as_str()),
            "x-limit": row.class.as_str(),
            "x-room": row.room.as_str(),
            "x-source": row.file,
        });
        let sent = self.message("client", row.event, message);
        let success = json!({"type": "object", "properties": {"success": {"const": true}}, "required": ["success"]});
        let done = match &event.answer {
            Some(answer) => json!({"allOf": [success, {"$ref": format!("{SCHEMAS}{answer}")}]}),
            None => success,
        };
        let answer = json!({
            "title": format!("The acknowledgement of {}", row.event),
            "payload": {"oneOf": [done, {"$ref": format!("{SCHEMAS}Refused")}]},
            "examples": [{"payload": row.acknowledgement()}],
        });
        let answer = self.message("answer", row.event, answer);
        let operation = json!({
            "action": "receive",
            "summary": sentence(row.does),
            "channel": CHANNEL.reference(),
            "messages": [sent],
            "reply": {"channel": CHANNEL.reference(), "messages": [answer]},
        });
        self.operations.insert(id("client", row.event), operation);
    }

    fn add_sent(&mut self, event: &Sent) {
        let row = event.row;
        let message = json!({
            "name": row.event,
            "title": row.event,
            "summary": summary(row.tells, event.deprecated),
            "payload": {"$ref": format!("{SCHEMAS}{}", event.payload)},
            "examples": [{"payload": (row.example)()}],
            "x-version": row.version(),
            "x-deprecated": event.deprecated,
            "x-to": row.to,
            "x-delivery": row.delivery.to_string(),
            "x-confirmed": row.is_confirmed,
            "x-source": row.file,
        });
        let message = self.message("server", row.event, message);
        let operation = json!({
            "action": "send",
            "summary": sentence(row.tells),
            "channel": CHANNEL.reference(),
            "messages": [message],
        });
        self.operations.insert(id("server", row.event), operation);
    }

    /// Adds a message and returns how operations name it.
    fn message(&mut self, direction: &str, event: &str, message: Value) -> Value {
        let id = id(direction, event);
        let reference = json!({"$ref": format!("{}/messages/{id}", CHANNEL.0)});
        self.messages.insert(id, message);
        reference
    }
}

struct Channel(&'static str);

const CHANNEL: Channel = Channel("#/channels/chat");

impl Channel {
    fn reference(&self) -> Value {
        json!({"$ref": self.0})
    }
}

fn summary(words: &str, deprecated: Option<Deprecated>) -> String {
    let notice = deprecated.map(|notice| format!(" {notice}"));
    sentence(words) + &notice.unwrap_or_default()
}

/// Names of components have no colon.
fn id(direction: &str, event: &str) -> String {
    format!("{direction}.{}", event.replace(':', "."))
}
