//! The catalogue as an AsyncAPI 3.0 document, from the server's point of view.

use serde_json::{Map, Value, json};

use super::declared::Kind;
use super::{Catalogue, Deprecated, Received, Sent, refused, sentence};

impl Catalogue {
    /// Returns the document. A namespace is a channel, and the id of a message is its direction and
    /// the event. A declared kind is a channel whose address is its pattern. Properties that
    /// AsyncAPI does not define are in `x-` fields.
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
        let mut channels: Map<_, _> = CHANNELS
            .iter()
            .map(|channel| (channel.name.to_owned(), document.channel(channel)))
            .collect();
        channels.extend(self.kinds.iter().map(|kind| document.add_kind(kind)));
        json!({
            "asyncapi": "3.0.0",
            "info": {
                "title": "Roomcast",
                "version": env!("CARGO_PKG_VERSION"),
                "description": "Events of the chat, over Socket.IO. An event has one argument, the payload of its message, \
                                which can be omitted if the message has `x-optional`. An acknowledgement is optional.",
            },
            "defaultContentType": "application/json",
            "channels": channels,
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
    /// The ids of the messages of each channel.
    members: Vec<(&'static str, String)>,
}

impl Document {
    fn add_received(&mut self, event: &Received) {
        let row = event.row;
        let message = json!({
            "name": row.event,
            "title": row.event,
            "summary": summary(row.does, event.deprecated),
            "payload": event.argument(SCHEMAS),
            "examples": [{"payload": (row.example)()}],
            "x-optional": event.is_optional(),
            "x-version": row.version(),
            "x-deprecated": event.deprecated,
            "x-permission": row.permission.map(|needed| needed.as_str()),
            "x-limit": row.class.as_str(),
            "x-who": row.who(),
            "x-source": row.file,
        });
        let channel = Channel::of(row.namespace());
        let sent = self.message(channel, "client", row.event, message);
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
        let answer = self.message(channel, "answer", row.event, answer);
        let operation = json!({
            "action": "receive",
            "summary": sentence(row.does),
            "channel": channel.reference(),
            "messages": [sent],
            "reply": {"channel": channel.reference(), "messages": [answer]},
        });
        self.operations.insert(id("client", row.event), operation);
    }

    fn add_sent(&mut self, event: &Sent) {
        let row = event.row;
        let message = json!({
            "name": row.event,
            "title": row.event,
            "summary": summary(row.summary, event.deprecated),
            "payload": {"$ref": format!("{SCHEMAS}{}", event.payload)},
            "examples": [{"payload": (row.example)()}],
            "x-version": row.version(),
            "x-deprecated": event.deprecated,
            "x-to": row.to,
            "x-room": row.room_names(),
            "x-delivery": row.delivery.to_string(),
            "x-confirmed": row.is_confirmed,
            "x-source": row.file,
        });
        let channel = Channel::of(row.namespace());
        let message = self.message(channel, "server", row.event, message);
        let operation = json!({
            "action": "send",
            "summary": sentence(row.summary),
            "channel": channel.reference(),
            "messages": [message],
        });
        self.operations.insert(id("server", row.event), operation);
    }

    /// Adds a message and returns the reference to it.
    fn message(
        &mut self,
        channel: &'static Channel,
        direction: &str,
        event: &str,
        message: Value,
    ) -> Value {
        let id = id(direction, event);
        let reference = json!({"$ref": format!("#/channels/{}/messages/{id}", channel.name)});
        self.members.push((channel.name, id.clone()));
        self.messages.insert(id, message);
        reference
    }

    /// Adds the messages of a declared kind. Returns the name of its channel, and the channel.
    fn add_kind(&mut self, kind: &Kind) -> (String, Value) {
        let name = format!("channel.{}", kind.name);
        let mut members = Map::new();
        let mut sent = Vec::new();
        for (event, data) in kind.messages(SCHEMAS) {
            // The name of the type is unique, and has no characters that ids do not allow.
            let of = event
                .and_then(|event| kind.events.get(event))
                .unwrap_or(&kind.interface);
            let id = format!("{name}.{of}");
            let message = json!({
                "name": event.unwrap_or("*"),
                "title": event.unwrap_or("any event"),
                "summary": "An event of the application. Its first argument is the payload, its second one the headers.",
                "payload": data,
                "headers": {"$ref": format!("{SCHEMAS}EventMeta")},
            });
            members.insert(
                id.clone(),
                json!({"$ref": format!("#/components/messages/{id}")}),
            );
            sent.push(json!({"$ref": format!("#/channels/{name}/messages/{id}")}));
            self.messages.insert(id, message);
        }
        let operation = json!({
            "action": "send",
            "summary": "Sends the events of a channel to its followers.",
            "channel": {"$ref": format!("#/channels/{name}")},
            "messages": sent,
        });
        self.operations.insert(name.clone(), operation);
        let declared = &kind.declared;
        let part = json!({"description": "A part of the name."});
        let parts = kind.variables().map(|name| (name.to_owned(), part.clone()));
        let channel = json!({
            "address": declared.pattern,
            "description": format!("The channels of the kind `{}`, which clients follow with `channel:subscribe`.", kind.name),
            "parameters": parts.collect::<Map<_, _>>(),
            "messages": members,
            "x-follow": declared.follow,
            "x-publish": declared.publish,
            "x-history": kind.history(),
            "x-presence": declared.presence,
            "x-max-bytes": declared.max_bytes,
            "x-max-followers": declared.max_followers,
            "x-publishes-per-second": declared.publishes_per_second,
            "x-max-stored-events": declared.max_stored_events,
            "x-max-stored-bytes": declared.max_stored_bytes,
        });
        (name, channel)
    }

    /// Returns a channel with its messages.
    fn channel(&self, channel: &Channel) -> Value {
        let members = self.members.iter();
        let messages: Map<_, _> = members
            .filter(|(name, _)| *name == channel.name)
            .map(|(_, id)| {
                let message = json!({"$ref": format!("#/components/messages/{id}")});
                (id.clone(), message)
            })
            .collect();
        json!({
            "address": channel.namespace,
            "description": channel.description,
            "messages": messages,
        })
    }
}

/// A Socket.IO namespace.
struct Channel {
    name: &'static str,
    namespace: &'static str,
    description: &'static str,
}

static CHANNELS: [Channel; 2] = [
    Channel {
        name: "chat",
        namespace: "/",
        description: "The Socket.IO namespace of the chat.",
    },
    Channel {
        name: "admin",
        namespace: "/admin",
        description: "The Socket.IO namespace of users with the role `admin`.",
    },
];

impl Channel {
    fn of(namespace: &str) -> &'static Self {
        let [chat, admin] = &CHANNELS;
        if namespace == admin.namespace {
            admin
        } else {
            chat
        }
    }

    fn reference(&self) -> Value {
        json!({"$ref": format!("#/channels/{}", self.name)})
    }
}

fn summary(words: &str, deprecated: Option<Deprecated>) -> String {
    let notice = deprecated.map(|notice| format!(" {notice}"));
    sentence(words) + &notice.unwrap_or_default()
}

/// Returns the id of a component, in which dots replace the colons of the event.
fn id(direction: &str, event: &str) -> String {
    format!("{direction}.{}", event.replace(':', "."))
}
