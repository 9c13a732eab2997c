//! What clients ask for, as it comes out of JSON. Limits are checked by the services.

use std::fmt;

use schemars::JsonSchema;
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
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SendMessage {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    /// 1 to 10,000 characters (`chat.content_chars`), no control characters but tab and line ends.
    pub(crate) content: String,
    #[serde(rename = "type")]
    /// `ai` needs the permission `chat:send_ai`. Default `user`.
    #[schemars(with = "Option<String>", extend("enum" = ["user", "ai"]))]
    #[serde(default, deserialize_with = "kind_or_none")]
    pub(crate) kind: Option<MessageKind>,
    /// Kept as it is sent, at most 4,096 bytes (`chat.metadata_bytes`).
    #[schemars(with = "Option<serde_json::Map<String, serde_json::Value>>")]
    pub(crate) metadata: Option<Box<RawValue>>,
    /// Sent again under the same id it is stored once.
    pub(crate) client_message_id: Option<String>,
    /// Whether the sender wants the event `message_delivered`.
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
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SetTyping {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    pub(crate) is_typing: bool,
}

/// `message_history`: a page of messages.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ReadHistory {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    /// Only messages before this one, the newest of them; not together with `afterSeq`.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) before_seq: Option<u64>,
    /// Only messages after this one, the oldest of them.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) after_seq: Option<u64>,
    /// 1 to 200 (`chat.page`). Default 50 (`chat.page_default`).
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) limit: Option<u64>,
}

/// `presence`: who is here.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct AskPresence {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
}

/// `edit_message`: a new text for a message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct EditMessage {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) message_id: Uuid,
    pub(crate) content: String,
    /// The version that the editor has seen; another one is a conflict.
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) version: Option<u32>,
}

/// `delete_message`: take the text out of a message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeleteMessage {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) message_id: Uuid,
}

/// `create_conversation`: a new one, of which the sender is the owner.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct CreateConversation {
    pub(crate) title: Option<String>,
    pub(crate) member_ids: Vec<String>,
}

/// `rename_conversation`: a new title.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct RenameConversation {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    /// 1 to 200 characters, no control characters.
    pub(crate) title: String,
}

/// `delete_conversation`: the conversation, with all that is in it.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct DeleteConversation {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
}

/// `add_member` and `remove_member`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChangeMember {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    pub(crate) user_id: String,
}

/// `mark_read`: the sender has read up to a message.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct MarkAsRead {
    #[serde(deserialize_with = "hyphenated")]
    pub(crate) conversation_id: Uuid,
    #[serde(deserialize_with = "whole")]
    pub(crate) seq: u64,
}

/// `conversations`: those of the sender.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ListConversations {
    /// The `cursor` of the page before; without it, the first page.
    pub(crate) cursor: Option<String>,
    /// 1 to 200 (`chat.page`). Default 50 (`chat.page_default`).
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) limit: Option<u64>,
}

/// `message_search`: messages that have all the words.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct SearchMessages {
    pub(crate) query: String,
    /// None: all conversations of the sender.
    #[serde(default, deserialize_with = "hyphenated_or_none")]
    pub(crate) conversation_id: Option<Uuid>,
    /// Only messages that are older than this one.
    #[serde(default, deserialize_with = "hyphenated_or_none")]
    pub(crate) before_id: Option<Uuid>,
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) limit: Option<u64>,
}

/// An id in the one form that is also sent: groups of hexadecimal digits with hyphens between them.
/// Capital digits are taken, as RFC 9562 has it.
fn hyphenated<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Uuid, D::Error> {
    struct Id;
    impl Visitor<'_> for Id {
        type Value = Uuid;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a UUID with hyphens")
        }

        fn visit_str<E: de::Error>(self, id: &str) -> Result<Uuid, E> {
            parse(id).ok_or_else(|| E::custom(NOT_AN_ID))
        }
    }
    deserializer.deserialize_str(Id)
}

fn hyphenated_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Uuid>, D::Error> {
    #[derive(Deserialize)]
    struct Id(#[serde(deserialize_with = "hyphenated")] Uuid);
    Ok(Option::<Id>::deserialize(deserializer)?.map(|id| id.0))
}

fn parse(id: &str) -> Option<Uuid> {
    // Forms without hyphens, in braces and as a URN have other lengths.
    const LEN: usize = uuid::fmt::Hyphenated::LENGTH;
    (id.len() == LEN)
        .then(|| Uuid::try_parse(id).ok())
        .flatten()
}

const NOT_AN_ID: &str = "not a UUID with hyphens";

/// A word and nothing else: a derived enum takes `{"user": null}` as well.
fn kind_or_none<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<MessageKind>, D::Error> {
    match Option::<String>::deserialize(deserializer)?.as_deref() {
        None => Ok(None),
        Some("user") => Ok(Some(MessageKind::User)),
        Some("ai") => Ok(Some(MessageKind::Ai)),
        Some(other) => Err(de::Error::unknown_variant(other, &["user", "ai"])),
    }
}

/// A whole number that is not negative. JSON has one kind of number, so `50.0` is 50.
fn whole<'de, D: Deserializer<'de>, N: TryFrom<u64>>(deserializer: D) -> Result<N, D::Error> {
    struct Whole;
    impl Visitor<'_> for Whole {
        type Value = u64;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a whole number from 0 on")
        }

        fn visit_u64<E>(self, number: u64) -> Result<u64, E> {
            Ok(number)
        }

        fn visit_f64<E: de::Error>(self, number: f64) -> Result<u64, E> {
            // 2^64; below it every whole double is a `u64`.
            if number.fract() == 0.0 && (0.0..18_446_744_073_709_551_616.0).contains(&number) {
                #[expect(
                    clippy::cast_possible_truncation,
                    clippy::cast_sign_loss,
                    reason = "checked"
                )]
                return Ok(number as u64);
            }
            Err(E::invalid_type(de::Unexpected::Float(number), &self))
        }
    }
    let number = deserializer.deserialize_u64(Whole)?;
    N::try_from(number)
        .map_err(|_| de::Error::invalid_value(de::Unexpected::Unsigned(number), &Whole))
}

fn whole_or_none<'de, D: Deserializer<'de>, N: TryFrom<u64>>(
    deserializer: D,
) -> Result<Option<N>, D::Error> {
    struct Number<N>(N);
    impl<'de, N: TryFrom<u64>> Deserialize<'de> for Number<N> {
        fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
            whole(deserializer).map(Self)
        }
    }
    Ok(Option::<Number<N>>::deserialize(deserializer)?.map(|number| number.0))
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

/// The object form of [`Join`].
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "read by its schema alone")]
pub(crate) struct JoinTarget {
    conversation_id: Uuid,
    last_seq: Option<u64>,
}

/// The object form of [`Leave`].
#[derive(JsonSchema)]
#[schemars(rename_all = "camelCase")]
#[expect(dead_code, reason = "read by its schema alone")]
pub(crate) struct ConversationTarget {
    conversation_id: Uuid,
}

/// A conversation that is named by its id alone or by an object.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Target {
    #[serde(deserialize_with = "hyphenated")]
    conversation_id: Uuid,
    #[serde(default, deserialize_with = "whole_or_none")]
    last_seq: Option<u64>,
}

struct IdOrObject;

impl<'de> Visitor<'de> for IdOrObject {
    type Value = Target;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a conversation's id, or an object with it")
    }

    fn visit_str<E: de::Error>(self, id: &str) -> Result<Target, E> {
        let conversation_id = parse(id).ok_or_else(|| E::custom(NOT_AN_ID))?;
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
    fn a_whole_number_is_one_however_it_is_written() {
        let history = |limit: &str| {
            let json = format!(r#"{{"conversationId":"{ID}","limit":{limit},"afterSeq":{limit}}}"#);
            serde_json::from_str::<ReadHistory>(&json).ok()
        };
        for (limit, expected) in [
            ("50", Some(50)),
            ("50.0", Some(50)),
            ("5e1", Some(50)),
            ("-0", Some(0)),
            ("-0.0", Some(0)),
            ("null", None),
            ("18446744073709551615", Some(u64::MAX)),
            ("9223372036854775808.0", Some(1 << 63)),
        ] {
            let read = history(limit).unwrap();
            assert_eq!(
                (read.limit, read.after_seq),
                (expected, expected),
                "{limit}"
            );
        }
        for limit in [
            "50.5",
            "-1",
            "-1.0",
            "1e300",
            "18446744073709551616",
            "1e999",
            "true",
            "\"50\"",
            "[50]",
            "{}",
        ] {
            assert!(history(limit).is_none(), "{limit}");
        }
        let edit = |version: &str| {
            let json = format!(r#"{{"messageId":"{ID}","content":"x","version":{version}}}"#);
            serde_json::from_str::<EditMessage>(&json).ok()
        };
        assert_eq!(edit("2.0").unwrap().version, Some(2));
        assert!(edit("4294967296").is_none());
    }

    #[test]
    fn the_type_of_a_message_is_a_word() {
        let send = |kind: &str| {
            let json = format!(r#"{{"conversationId":"{ID}","content":"x","type":{kind}}}"#);
            serde_json::from_str::<SendMessage>(&json).map(|message| message.kind)
        };
        assert_eq!(send("\"ai\"").unwrap(), Some(MessageKind::Ai));
        assert_eq!(send("null").unwrap(), None);
        for kind in [
            r#"{"user":null}"#,
            r#"{"ai":null}"#,
            r#"["user"]"#,
            "0",
            r#""User""#,
        ] {
            assert!(send(kind).is_err(), "{kind}");
        }
    }

    #[test]
    fn capital_digits_are_taken_and_written_small() {
        let join: Join = serde_json::from_str(&format!("\"{}\"", ID.to_uppercase())).unwrap();
        assert_eq!(join.conversation_id.to_string(), ID);
    }

    #[test]
    fn a_search_may_leave_out_where() {
        let search: SearchMessages = serde_json::from_str(r#"{"query":"x"}"#).unwrap();
        assert!(search.conversation_id.is_none() && search.before_id.is_none());
        let search = format!(r#"{{"query":"x","conversationId":"{ID}","beforeId":null}}"#);
        let search: SearchMessages = serde_json::from_str(&search).unwrap();
        assert_eq!(
            search.conversation_id.map(|id| id.to_string()).as_deref(),
            Some(ID)
        );
        assert!(serde_json::from_str::<SearchMessages>(r#"{"query":"x","beforeId":"y"}"#).is_err());
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
            "\"0f8fad5bd9cb469fa16570867728950e\"",
            "\"{0f8fad5b-d9cb-469f-a165-70867728950e}\"",
            "\"urn:uuid:0f8fad5b-d9cb-469f-a165-70867728950e\"",
            r#"{"conversationId":"0f8fad5bd9cb469fa16570867728950e"}"#,
            r#"{"conversationId":"{0f8fad5b-d9cb-469f-a165-70867728950e}"}"#,
            r#"{"conversationId":7}"#,
            r#"{"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":-1}"#,
            r#"{"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":1.5}"#,
            r#"{"conversationId":"0f8fad5b-d9cb-469f-a165-70867728950e","lastSeq":"1"}"#,
        ] {
            assert!(serde_json::from_str::<Join>(json).is_err(), "{json}");
        }
    }
}
