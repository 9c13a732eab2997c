//! What clients ask for, as it comes out of JSON. Limits are checked by the services.

use std::fmt;

use serde::Deserialize;
use serde::de::value::MapAccessDeserializer;
use serde::de::{self, Deserializer, MapAccess, Visitor};
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::store::MessageKind;

/// A command that must be a JSON object: derived types would take an array of their fields as well.
#[derive(Debug)]
pub(crate) struct Object<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_map(ObjectVisitor(std::marker::PhantomData))
    }
}

struct ObjectVisitor<T>(std::marker::PhantomData<T>);

impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
    type Value = Object<T>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object")
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(Object)
    }
}

/// `message`: store a message and show it to the conversation.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SendMessage {
    pub(crate) conversation_id: Uuid,
    pub(crate) content: String,
    #[serde(rename = "type")]
    pub(crate) kind: Option<MessageKind>,
    pub(crate) metadata: Option<Box<RawValue>>,
    pub(crate) client_message_id: Option<String>,
    pub(crate) confirm_delivery: Option<bool>,
}

/// `join_conversation`: an id, or an object with the last `seq` that the client knows.
#[derive(Debug)]
pub(crate) struct Join {
    pub(crate) conversation_id: Uuid,
    pub(crate) last_seq: Option<u64>,
}

/// `leave_conversation`: an id, or an object with it.
#[derive(Debug)]
pub(crate) struct Leave {
    pub(crate) conversation_id: Uuid,
}

/// `typing`: a sign of typing, or its end.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SetTyping {
    pub(crate) conversation_id: Uuid,
    pub(crate) is_typing: bool,
}

/// `message_history`: a page of messages.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadHistory {
    pub(crate) conversation_id: Uuid,
    pub(crate) before_seq: Option<u64>,
    pub(crate) after_seq: Option<u64>,
    pub(crate) limit: Option<u64>,
}

/// `presence`: who is here.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AskPresence {
    pub(crate) conversation_id: Uuid,
}

impl<'de> Deserialize<'de> for Join {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(IdOrObject).map(|target| Self {
            conversation_id: target.conversation_id,
            last_seq: target.last_seq,
        })
    }
}

impl<'de> Deserialize<'de> for Leave {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let target = deserializer.deserialize_any(IdOrObject)?;
        Ok(Self {
            conversation_id: target.conversation_id,
        })
    }
}

/// A conversation that is named by its id alone or by an object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    conversation_id: Uuid,
    last_seq: Option<u64>,
}

struct IdOrObject;

impl<'de> Visitor<'de> for IdOrObject {
    type Value = Target;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a conversation's id, or an object with it")
    }

    fn visit_str<E: de::Error>(self, id: &str) -> Result<Target, E> {
        let conversation_id = Uuid::try_parse(id).map_err(|_| E::custom("not a UUID"))?;
        Ok(Target {
            conversation_id,
            last_seq: None,
        })
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Target, A::Error> {
        Target::deserialize(MapAccessDeserializer::new(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0f8fad5b-d9cb-469f-a165-70867728950e";

    #[test]
    fn a_conversation_is_joined_by_its_id_or_by_an_object() {
        let join: Join = serde_json::from_str(&format!("\"{ID}\"")).unwrap();
        assert_eq!(
            (join.conversation_id.to_string().as_str(), join.last_seq),
            (ID, None)
        );
        for (object, last_seq) in [
            (format!(r#"{{"conversationId":"{ID}"}}"#), None),
            (
                format!(r#"{{"conversationId":"{ID}","lastSeq":null}}"#),
                None,
            ),
            (
                format!(r#"{{"lastSeq":7,"conversationId":"{ID}","x":[]}}"#),
                Some(7),
            ),
        ] {
            let join: Join = serde_json::from_str(&object).unwrap();
            assert_eq!(
                (join.conversation_id.to_string().as_str(), join.last_seq),
                (ID, last_seq)
            );
            let leave: Leave = serde_json::from_str(&object).unwrap();
            assert_eq!(leave.conversation_id, join.conversation_id);
        }
    }

    #[test]
    fn what_names_no_conversation_is_refused() {
        for json in [
            "null",
            "7",
            "[]",
            "{}",
            "\"\"",
            "\"lobby\"",
            r#"{"conversationId":7}"#,
            r#"{"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":-1}"#,
            r#"{"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":1.5}"#,
            r#"{"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":"1"}"#,
        ] {
            assert!(serde_json::from_str::<Join>(json).is_err(), "{json}");
        }
    }
}
