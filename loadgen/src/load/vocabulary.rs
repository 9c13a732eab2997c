//! The events of the server under test and the shape of their arguments.

use roomcast_protocol::socket::{Arguments, EncodeError, Encoder};
use serde::{Serialize, Serializer};
use serde_json::{Value, json};

/// The events of a server under test.
#[derive(Clone, Debug, PartialEq)]
pub struct Vocabulary {
    /// Joins a room; `None` if clients receive messages without it.
    pub join: Option<Call>,
    /// Sends a message to a room.
    pub send: Call,
    /// An event that the server acknowledges with the payload.
    pub echo: Call,
    /// The `auth` of every client. `{client}` stands for its number and `{run}` for the number of
    /// the run.
    pub auth: Option<Value>,
    /// Whether a sender gets its own messages.
    pub own: OwnMessages,
    /// The names of rooms. If `any_room` is set, further rooms are called `bench-0`, `bench-1`, ….
    pub rooms: Vec<String>,
    /// Whether the server lets clients join rooms of any name.
    pub any_room: bool,
    /// Whether the rooms are conversations of the Roomcast chat, which are created for the run, so
    /// that no existing conversation gets messages.
    pub conversations: bool,
}

/// One event.
#[derive(Clone, Debug, PartialEq)]
pub struct Call {
    /// The name of the event.
    pub event: String,
    /// The arguments. Their strings may contain `{room}`, `{payload}`, `{id}` (unique to each
    /// payload), `{client}` and `{token}`.
    pub args: Vec<Value>,
    /// Whether the server acknowledges the event.
    pub ack: bool,
}

/// Whether a sender gets its own messages back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OwnMessages {
    /// A sender gets them, like all members of the room.
    Yes,
    /// Only the other members of the room get them.
    No,
    /// Detected from the first own message that comes back.
    Auto,
}

/// Built-in vocabularies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Preset {
    /// The chat of `roomcast serve`, with its conversations.
    Chat,
    /// The server of `docs/bench.md`: `join`, `bcast`, `echo`.
    Rooms,
}

impl Preset {
    /// Returns the name of the preset on the command line and in reports.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Chat => "chat",
            Self::Rooms => "rooms",
        }
    }

    /// Returns the events of the preset.
    #[must_use]
    pub fn vocabulary(self) -> Vocabulary {
        let call = |event: &str, args: Value, ack| Call {
            event: event.into(),
            args: args.as_array().cloned().unwrap_or_default(),
            ack,
        };
        match self {
            Self::Chat => {
                let message = call(
                    "message",
                    json!([{
                        "conversationId": "{room}",
                        "content": "{payload}",
                        "clientMessageId": "{id}",
                    }]),
                    true,
                );
                Vocabulary {
                    join: Some(call("join_conversation", json!(["{room}"]), true)),
                    echo: message.clone(),
                    send: message,
                    auth: Some(json!({
                        "name": "bench {client}",
                        "guestKey": "roomcast bench {run} {client}",
                    })),
                    own: OwnMessages::No,
                    rooms: Vec::new(),
                    any_room: false,
                    conversations: true,
                }
            }
            Self::Rooms => Vocabulary {
                join: Some(call("join", json!(["{room}"]), true)),
                send: call("bcast", json!(["{room}", "{payload}"]), false),
                echo: call("echo", json!(["{payload}"]), true),
                auth: None,
                own: OwnMessages::Yes,
                rooms: Vec::new(),
                any_room: true,
                conversations: false,
            },
        }
    }
}

impl Vocabulary {
    /// Replaces `{run}` in the `auth`, so that its users belong to this run.
    pub(crate) fn stamp(&mut self, run: u32) {
        if let Some(Value::Object(auth)) = &mut self.auth {
            for value in auth.values_mut() {
                if let Value::String(text) = value {
                    *text = text.replace("{run}", &format!("{run:08x}"));
                }
            }
        }
    }

    /// Returns the name of a room, or `None` if there are not so many rooms.
    pub(crate) fn room(&self, index: usize) -> Option<String> {
        match self.rooms.get(index) {
            Some(name) => Some(name.clone()),
            None => self.any_room.then(|| format!("bench-{index}")),
        }
    }
}

/// The values for the placeholders of an argument.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Placeholders<'a> {
    pub(crate) room: &'a str,
    pub(crate) payload: &'a str,
    pub(crate) client: usize,
    pub(crate) token: &'a str,
}

impl<'a> Placeholders<'a> {
    /// Returns a value with its placeholders replaced.
    pub(crate) const fn fill(self, value: &'a Value) -> FilledValue<'a> {
        FilledValue {
            value,
            blanks: self,
        }
    }
}

/// A value whose placeholders are replaced when it is serialised.
pub(crate) struct FilledValue<'a> {
    value: &'a Value,
    blanks: Placeholders<'a>,
}

impl Serialize for FilledValue<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let blanks = self.blanks;
        match self.value {
            Value::String(text) => match text.as_str() {
                "{payload}" => serializer.serialize_str(blanks.payload),
                "{room}" => serializer.serialize_str(blanks.room),
                "{id}" => serializer.serialize_str(id_of(blanks.payload)),
                "{token}" => serializer.serialize_str(blanks.token),
                text if text.contains('{') => serializer.serialize_str(
                    &text
                        .replace("{room}", blanks.room)
                        .replace("{client}", &blanks.client.to_string())
                        .replace("{payload}", blanks.payload),
                ),
                text => serializer.serialize_str(text),
            },
            Value::Array(values) => serializer.collect_seq(values.iter().map(|v| blanks.fill(v))),
            Value::Object(object) => {
                serializer.collect_map(object.iter().map(|(k, v)| (k, blanks.fill(v))))
            }
            Value::Null | Value::Bool(_) | Value::Number(_) => self.value.serialize(serializer),
        }
    }
}

/// Returns the part that is unique to each payload: its stamp.
fn id_of(payload: &str) -> &str {
    payload.split_once(';').map_or(payload, |(id, _)| id)
}

/// The arguments of a call with their placeholders replaced.
pub(crate) struct CallArguments<'a> {
    pub(crate) call: &'a Call,
    pub(crate) blanks: Placeholders<'a>,
}

impl Arguments for CallArguments<'_> {
    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        for value in &self.call.args {
            encoder.value(&self.blanks.fill(value))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use roomcast_protocol::socket::encode;

    use super::*;

    fn spoken(args: &Value) -> String {
        let call = Call {
            event: "say".into(),
            args: args.as_array().unwrap().clone(),
            ack: false,
        };
        let blanks = Placeholders {
            room: "r\"1",
            payload: "hello;abc",
            client: 7,
            token: "t",
        };
        let spoken = CallArguments {
            call: &call,
            blanks,
        };
        let frame = encode::event("/", None, "say", &spoken).unwrap();
        String::from_utf8(frame.polling().to_vec()).unwrap()
    }

    #[test]
    fn blanks_are_filled_in_at_any_depth() {
        assert_eq!(
            spoken(&json!(["{room}", {"a": ["{payload}", 1, null]}, "{client}: {payload}!"])),
            "42[\"say\",\"r\\\"1\",{\"a\":[\"hello;abc\",1,null]},\"7: hello;abc!\"]"
        );
        assert_eq!(
            spoken(&json!(["{id}", "{token}"])),
            "42[\"say\",\"hello\",\"t\"]"
        );
        assert_eq!(spoken(&json!([])), "42[\"say\"]");
        assert_eq!(
            spoken(&json!(["{other}", [["x"]]])),
            "42[\"say\",\"{other}\",[[\"x\"]]]"
        );
    }

    #[test]
    fn room_has_configured_or_generated_name() {
        let mut chat = Preset::Chat.vocabulary();
        assert_eq!(chat.room(0), None, "none that people may be in");
        chat.rooms = vec!["one".into()];
        assert_eq!((chat.room(0).as_deref(), chat.room(1)), (Some("one"), None));
        assert_eq!(
            Preset::Rooms.vocabulary().room(3).as_deref(),
            Some("bench-3")
        );
    }
}
