//! Values that the examples of events are made of.

use serde_json::value::RawValue;
use uuid::{Uuid, uuid};

use crate::store::{Conversation, DeletedConversation, Message, MessageKind, Messages, Time};

pub(super) const CONVERSATION: Uuid = uuid!("0f8fad5b-d9cb-469f-a165-70867728950e");
pub(super) const MESSAGE_ID: Uuid = uuid!("0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11");
pub(super) const ADA: &str = "ada";
pub(super) const BOB: &str = "bob";
pub(super) const NOON: &str = "2025-01-31T12:00:00Z";

pub(super) fn time(text: &str) -> Time {
    text.parse().expect("a time of an example is one")
}

pub(super) fn message() -> Message {
    Message {
        id: MESSAGE_ID,
        conversation_id: CONVERSATION,
        seq: 7,
        user_id: ADA.to_owned(),
        user_name: "Ada".to_owned(),
        content: "hello".to_owned(),
        kind: MessageKind::User,
        metadata: RawValue::from_string("{}".to_owned()).expect("an empty object is JSON"),
        version: 1,
        created_at: time(NOON),
        edited_at: None,
        deleted_at: None,
    }
}

pub(super) fn edited() -> Message {
    Message {
        content: "hello, Bob".to_owned(),
        version: 2,
        edited_at: Some(time("2025-01-31T12:01:00Z")),
        ..message()
    }
}

pub(super) fn deleted() -> Message {
    Message {
        content: String::new(),
        deleted_at: Some(time("2025-01-31T12:02:00Z")),
        ..message()
    }
}

pub(super) fn page() -> Messages {
    Messages {
        messages: vec![message().into()],
        has_more: false,
    }
}

pub(super) fn conversation() -> Conversation {
    Conversation {
        id: CONVERSATION,
        title: Some("Engines".to_owned()),
        owner_id: Some(ADA.to_owned()),
        member_ids: vec![ADA.to_owned(), BOB.to_owned()],
        created_at: time(NOON),
        updated_at: time(NOON),
    }
}

pub(super) fn deleted_conversation() -> DeletedConversation {
    DeletedConversation {
        conversation_id: CONVERSATION,
        deleted_at: time(NOON),
        deleted_by: ADA.to_owned(),
    }
}
