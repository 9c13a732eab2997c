//! Values for the examples of events.

use serde_json::value::RawValue;
use uuid::{Uuid, uuid};

use crate::store::{
    Conversation, DeletedConversation, Message, MessageKind, Messages, Pin, Quote, Reaction,
    ReactionChange, Time, Unpinned,
};

pub(super) const CONVERSATION: Uuid = uuid!("0f8fad5b-d9cb-469f-a165-70867728950e");
pub(super) const MESSAGE_ID: Uuid = uuid!("0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c11");
pub(super) const REPLIED_TO: Uuid = uuid!("0194bb2c-8f6e-7c41-9a53-3d1f0b7a2c10");
pub(super) const THUMB: &str = "\u{1F44D}";
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
        streaming: false,
        interrupted: false,
        interrupted_reason: None,
        kind: MessageKind::User,
        metadata: RawValue::from_string("{}".to_owned()).expect("an empty object is JSON"),
        reply_to: None,
        mentions: Vec::new(),
        reactions: Vec::new(),
        answers: None,
        version: 1,
        created_at: time(NOON),
        edited_at: None,
        deleted_at: None,
    }
}

/// A message that replies to [`quote`].
pub(super) fn reply() -> Message {
    Message {
        reply_to: Some(quote()),
        mentions: vec![BOB.to_owned()],
        ..message()
    }
}

/// The quoted message of [`reply`].
pub(super) fn quote() -> Quote {
    Quote {
        id: REPLIED_TO,
        seq: 6,
        user_id: BOB.to_owned(),
        user_name: "Bob".to_owned(),
        excerpt: "is anybody there?".to_owned(),
        edited_at: None,
        deleted_at: None,
    }
}

pub(super) fn pin() -> Pin {
    Pin {
        message: quote(),
        pinned_by: ADA.to_owned(),
        pinned_at: time(NOON),
    }
}

pub(super) fn reacted() -> ReactionChange {
    ReactionChange {
        conversation_id: CONVERSATION,
        message_id: MESSAGE_ID,
        seq: 7,
        emoji: THUMB.to_owned(),
        user_id: BOB.to_owned(),
        added: true,
        count: 1,
        timestamp: time(NOON),
    }
}

pub(super) fn unpinned() -> Unpinned {
    Unpinned {
        conversation_id: CONVERSATION,
        message_id: REPLIED_TO,
        seq: 6,
        unpinned_by: ADA.to_owned(),
        timestamp: time(NOON),
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

/// A message that is being written.
pub(super) fn streaming() -> Message {
    Message {
        content: String::new(),
        streaming: true,
        ..message()
    }
}

/// The message of [`streaming`] at its end.
pub(super) fn finished() -> Message {
    Message {
        content: "hello, Bob".to_owned(),
        version: 2,
        ..message()
    }
}

/// The message of [`streaming`] if its author ended it early.
pub(super) fn aborted() -> Message {
    Message {
        interrupted: true,
        interrupted_reason: Some("the model failed".to_owned()),
        version: 2,
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
        messages: vec![
            Message {
                reactions: vec![Reaction {
                    emoji: THUMB.to_owned(),
                    count: 1,
                    user_ids: vec![BOB.to_owned()],
                    own: true,
                }],
                ..message()
            }
            .into(),
        ],
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
