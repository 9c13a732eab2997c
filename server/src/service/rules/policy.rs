//! The events that clients may send, one row each: who may, what with, how often, where.
//!
//! Checks and documentation come from this table: [`Access::require`](super::Access::require) reads
//! the permission, the gateway the class, `explain` all of it, and `docs/events.md` is what
//! [`markdown`] writes. The payload's schema is the one of the type that it is parsed into.

#[cfg(test)]
use std::fmt::Write as _;

use schemars::{Schema, schema_for};

use crate::auth::Permission;
use crate::auth::RefreshOffer;
use crate::service::rules::commands::{
    AskPresence, ChangeMember, ConversationTarget, CreateConversation, DeleteConversation,
    DeleteMessage, EditMessage, JoinTarget, ListConversations, MarkAsRead, ReadHistory,
    RenameConversation, SearchMessages, SendMessage, SetTyping,
};

/// What is said of one event.
#[derive(Debug)]
pub(crate) struct EventPolicy {
    /// Its name.
    pub(crate) event: &'static str,
    /// What the sender must be allowed to do; none: whoever is connected may.
    pub(crate) permission: Option<Permission>,
    /// Which events it shares its limit with.
    pub(crate) class: LimitClass,
    /// What else must hold of the room it is about.
    pub(crate) room: RoomRule,
    /// What its argument must look like.
    pub(crate) payload: fn() -> Schema,
    /// What it does.
    pub(crate) does: &'static str,
}

/// Events that share a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LimitClass {
    /// Messages that are sent, edited or deleted.
    Messages,
    /// Typing notices.
    Typing,
    /// Conversations and subscriptions that are joined, left, made or changed.
    Changes,
    /// Everything else.
    Requests,
}

impl LimitClass {
    /// Its name.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Messages => "messages",
            Self::Typing => "typing",
            Self::Changes => "changes",
            Self::Requests => "requests",
        }
    }
}

/// What must hold of the room that an event is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum RoomRule {
    /// The sender is a member of the conversation.
    Member,
    /// The sender wrote the message, or moderates.
    Author,
    /// The sender owns the conversation, or moderates.
    Owner,
    /// The sender owns the conversation, or moderates, or is whom it is about.
    OwnerOrOneself,
    /// It is about no room.
    Anyone,
}

impl RoomRule {
    /// In words.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Member => "members of the conversation",
            Self::Author => "the message's author, and `chat:moderate`",
            Self::Owner => "the conversation's owner, and `chat:moderate`",
            Self::OwnerOrOneself => {
                "the conversation's owner and `chat:moderate`, who need `chat:manage`, and whom it is about"
            }
            Self::Anyone => "everybody",
        }
    }
}

macro_rules! permission {
    (Nothing) => {
        None
    };
    ($permission:ident) => {
        Some(Permission::$permission)
    };
}

macro_rules! events {
    ($($name:ident = $event:literal, $permission:ident, $class:ident, $room:ident, $payload:ty, $does:literal;)+) => {
        $(
            #[doc = concat!("`", $event, "`")]
            pub(crate) static $name: EventPolicy = EventPolicy {
                event: $event,
                permission: permission!($permission),
                class: LimitClass::$class,
                room: RoomRule::$room,
                payload: || schema_for!($payload),
                does: $does,
            };
        )+
        /// All of them.
        pub(crate) static EVENTS: &[&EventPolicy] = &[$(&$name),+];
    };
}

events! {
    MESSAGE = "message", ChatSend, Messages, Member, SendMessage,
        "stores a message and shows it to the conversation";
    JOIN = "join_conversation", ChatRead, Changes, Member, JoinTarget,
        "joins a conversation and reads what was missed";
    LEAVE = "leave_conversation", ChatRead, Changes, Member, ConversationTarget,
        "leaves a conversation";
    TYPING = "typing", ChatType, Typing, Member, SetTyping,
        "shows that somebody types, or has stopped";
    HISTORY = "message_history", ChatRead, Requests, Member, ReadHistory,
        "reads a page of messages";
    PRESENCE = "presence", ChatRead, Requests, Member, AskPresence,
        "reads who is in a conversation";
    EDIT = "edit_message", ChatSend, Messages, Author, EditMessage,
        "gives a message a new text";
    DELETE = "delete_message", ChatSend, Messages, Author, DeleteMessage,
        "takes the text out of a message";
    CREATE = "create_conversation", ChatManage, Changes, Anyone, CreateConversation,
        "makes a conversation, of which the sender is the owner";
    RENAME = "rename_conversation", ChatManage, Changes, Owner, RenameConversation,
        "gives a conversation a new title";
    DELETE_CONVERSATION = "delete_conversation", ChatManage, Changes, Owner, DeleteConversation,
        "deletes a conversation with all that is in it";
    ADD_MEMBER = "add_member", ChatManage, Changes, Owner, ChangeMember,
        "adds a member to a conversation";
    REMOVE_MEMBER = "remove_member", ChatRead, Changes, OwnerOrOneself, ChangeMember,
        "removes a member from a conversation, or the sender itself";
    MARK_READ = "mark_read", ChatRead, Requests, Member, MarkAsRead,
        "notes how far the sender has read";
    CONVERSATIONS = "conversations", ChatRead, Requests, Anyone, ListConversations,
        "lists the sender's conversations with what is unread";
    SEARCH = "message_search", ChatRead, Requests, Member, SearchMessages,
        "finds messages that have all the words";
    REFRESH = "auth:refresh", Nothing, Requests, Anyone, RefreshOffer,
        "swaps the credentials of the connection, or prolongs its session";
}

/// The row of an event.
pub(crate) fn find(event: &str) -> Option<&'static EventPolicy> {
    EVENTS.iter().copied().find(|policy| policy.event == event)
}

/// The table for people.
#[cfg(test)]
pub(crate) fn markdown() -> String {
    let mut text = String::from(
        "# Events that clients send\n\n\
         Written by a test from the table in `server/src/service/rules/policy.rs`, which is also what is checked.\n\n\
         | event | does | permission | limit | who else |\n|---|---|---|---|---|\n",
    );
    for policy in EVENTS {
        let EventPolicy {
            event, does, room, ..
        } = policy;
        let _ = writeln!(
            text,
            "| `{event}` | {does} | {} | {} | {} |",
            policy
                .permission
                .map_or_else(|| "–".to_owned(), |needed| format!("`{}`", needed.as_str())),
            policy.class.as_str(),
            room.as_str(),
        );
    }
    for policy in EVENTS {
        let schema = serde_json::to_string_pretty(&(policy.payload)()).unwrap_or_default();
        let _ = write!(text, "\n## `{}`\n\n```json\n{schema}\n```\n", policy.event);
    }
    text
}

#[cfg(test)]
mod tests {
    use std::{fs, path::Path};

    use serde_json::{Map, Value, json};

    use super::*;
    use crate::service::rules::commands::{Join, Leave, Object};

    #[test]
    fn the_documentation_is_what_the_table_says() {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/events.md");
        let written = fs::read_to_string(&path).unwrap_or_default();
        if written != markdown() {
            fs::write(&path, markdown()).unwrap();
            panic!("docs/events.md was not what the table says; it is now");
        }
    }

    /// A value that fits a schema, and one that does not.
    fn example(schema: &Value) -> (Value, Value) {
        if let Some(any) = schema["anyOf"].as_array() {
            return example(&any[0]);
        }
        if let Some(values) = schema["enum"].as_array() {
            return (values[0].clone(), json!("none of them"));
        }
        let kind = &schema["type"];
        let kind = kind.as_array().map_or(kind, |kinds| &kinds[0]).as_str();
        match (kind, schema["format"].as_str()) {
            (Some("string"), Some("uuid")) => (
                json!("0f8fad5b-d9cb-469f-a165-70867728950e"),
                json!("not an id"),
            ),
            (Some("string"), _) => (json!("text"), json!(7)),
            (Some("boolean"), _) => (json!(true), json!("yes")),
            (Some("integer"), _) => (json!(7), json!(-1)),
            (Some("object"), _) => (json!({}), Value::Null),
            (Some("array"), _) => (json!(["text"]), json!([7])),
            (kind, _) => panic!("no example of {kind:?} in {schema}"),
        }
    }

    fn parses(event: &str, payload: &Value) -> bool {
        let text = payload.to_string();
        match event {
            "message" => serde_json::from_str::<Object<SendMessage>>(&text).is_ok(),
            "join_conversation" => serde_json::from_str::<Join>(&text).is_ok(),
            "leave_conversation" => serde_json::from_str::<Leave>(&text).is_ok(),
            "typing" => serde_json::from_str::<Object<SetTyping>>(&text).is_ok(),
            "message_history" => serde_json::from_str::<Object<ReadHistory>>(&text).is_ok(),
            "presence" => serde_json::from_str::<Object<AskPresence>>(&text).is_ok(),
            "edit_message" => serde_json::from_str::<Object<EditMessage>>(&text).is_ok(),
            "delete_message" => serde_json::from_str::<Object<DeleteMessage>>(&text).is_ok(),
            "create_conversation" => {
                serde_json::from_str::<Object<CreateConversation>>(&text).is_ok()
            }
            "add_member" | "remove_member" => {
                serde_json::from_str::<Object<ChangeMember>>(&text).is_ok()
            }
            "rename_conversation" => {
                serde_json::from_str::<Object<RenameConversation>>(&text).is_ok()
            }
            "delete_conversation" => {
                serde_json::from_str::<Object<DeleteConversation>>(&text).is_ok()
            }
            "mark_read" => serde_json::from_str::<Object<MarkAsRead>>(&text).is_ok(),
            "conversations" => serde_json::from_str::<Object<ListConversations>>(&text).is_ok(),
            "message_search" => serde_json::from_str::<Object<SearchMessages>>(&text).is_ok(),
            "auth:refresh" => serde_json::from_str::<RefreshOffer>(&text).is_ok(),
            _ => panic!("{event} is not parsed by this test"),
        }
    }

    #[test]
    fn what_a_schema_says_is_what_is_accepted() {
        for policy in EVENTS {
            let schema = serde_json::to_value((policy.payload)()).unwrap();
            let none = Map::new();
            let properties = schema["properties"].as_object().unwrap_or(&none);
            let required: Vec<_> = schema["required"]
                .as_array()
                .into_iter()
                .flatten()
                .collect();
            if ![REFRESH.event, CONVERSATIONS.event].contains(&policy.event) {
                assert_eq!(
                    required.is_empty(),
                    properties.is_empty(),
                    "{}",
                    policy.event
                );
            }
            let resolve = |schema: &Value| match schema["$ref"].as_str() {
                Some(_) => None,
                None => Some(schema.clone()),
            };
            let minimal: Map<String, Value> = required
                .iter()
                .map(|name| name.as_str().unwrap().to_owned())
                .map(|name| {
                    let value = example(&properties[&name]).0;
                    (name, value)
                })
                .collect();
            assert!(
                parses(policy.event, &minimal.clone().into()),
                "{}",
                policy.event
            );
            for (name, property) in properties {
                let is_required = minimal.contains_key(name);
                let mut without = minimal.clone();
                without.remove(name);
                assert_eq!(
                    parses(policy.event, &without.into()),
                    !is_required,
                    "{} without {name}",
                    policy.event
                );
                let Some(property) = resolve(property).filter(|p| p.get("type").is_some()) else {
                    continue;
                };
                let (good, bad) = example(&property);
                for (value, is_good) in [(good, true), (bad, false)] {
                    let mut payload = minimal.clone();
                    payload.insert(name.clone(), value.clone());
                    // An object of anything says no more than that; the service looks into it.
                    if value.is_null() && !is_required {
                        continue;
                    }
                    assert_eq!(
                        parses(policy.event, &payload.into()),
                        is_good,
                        "{} with {name} = {value}",
                        policy.event
                    );
                }
            }
        }
    }
}
