//! The rows that the store reads and writes, some of which are also sent to clients.

use std::borrow::Cow;
use std::io;
use std::sync::Arc;
use std::time::Instant;

use roomcast_protocol::Sid;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use uuid::Uuid;

use super::Time;
use super::change::{Actor, Change, Cursor, List, ListedConversation, Notice, Quote, Reaction};

/// One stored message: its row, and its JSON on the wire.
#[derive(Clone, Debug, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Message {
    /// A UUID of version 7: ids ascend in the order of storing.
    pub id: Uuid,
    /// The conversation it belongs to.
    pub conversation_id: Uuid,
    /// The place of the message in its conversation: 1, 2, 3 and so on, without a gap.
    pub seq: u64,
    /// The user who sent the message.
    pub user_id: String,
    /// The sender's name at the time of sending.
    pub user_name: String,
    /// The text, as it was sent.
    pub content: String,
    /// Written by a person or by a machine.
    #[serde(rename = "type")]
    pub kind: MessageKind,
    /// A JSON object, as it was sent; `{}` if there was none.
    #[schemars(with = "Metadata")]
    pub metadata: Box<RawValue>,
    /// The message that it answers, as that is now where this one is read, and as it was when this
    /// one was sent where it is told; none if there is no such message any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reply_to: Option<Quote>,
    /// The users whom it mentions, as it was sent.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mentions: Vec<String>,
    /// The reactions to it, in the order in which each emoji came first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reactions: Vec<Reaction>,
    /// The id of the message that it answers, which is looked up for `reply_to`.
    #[serde(skip)]
    pub(crate) answers: Option<Uuid>,
    /// 1, and one more with each edit.
    pub version: u32,
    /// When it was stored.
    pub created_at: Time,
    /// When it was last edited.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub edited_at: Option<Time>,
    /// When it was deleted; the row stays, so that `seq` has no gap.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deleted_at: Option<Time>,
}

impl Message {
    /// Returns the row with a new text. The message must not be deleted.
    pub(super) fn edited(&self, content: String, now: Time) -> Self {
        Self {
            content,
            version: self.version.saturating_add(1),
            edited_at: Some(now),
            ..self.clone()
        }
    }

    /// Returns the row without text, metadata and reactions.
    pub(super) fn deleted(&self, now: Time) -> Self {
        Self {
            content: String::new(),
            metadata: empty_object(),
            reactions: Vec::new(),
            deleted_at: Some(now),
            ..self.clone()
        }
    }

    /// Returns why an edit or deletion of this row is refused, if it is. `is_member` refers to the
    /// user who asks.
    pub(super) fn refuses<T>(&self, by: &Actor, is_member: bool) -> Option<Change<T>> {
        by.refused(Some(&self.user_id), is_member)
    }
}

/// The JSON schema of message metadata, which is stored as it was sent.
pub(crate) enum Metadata {}

impl JsonSchema for Metadata {
    fn schema_name() -> Cow<'static, str> {
        "Metadata".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": "object",
            "properties": {
                "imageUrl": {"type": ["string", "null"], "description": "An absolute `http` or `https` URL."},
                "timestamp": {"type": ["string", "null"], "description": "An RFC 3339 time."},
            },
            "additionalProperties": true,
        })
    }
}

/// A former state of a message, from before an edit or its deletion.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Version {
    /// 1 for the text as it was first sent.
    pub version: u32,
    /// The text.
    pub content: String,
    /// The metadata.
    pub metadata: Box<RawValue>,
    /// When it was replaced.
    pub replaced_at: Time,
    /// The user who has replaced it.
    pub replaced_by: String,
}

fn empty_object() -> Box<RawValue> {
    RawValue::from_string("{}".into()).expect("an empty object is JSON")
}

/// Who wrote a message: `"user"` or `"ai"`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[expect(
    clippy::exhaustive_enums,
    reason = "the protocol of the chat closes the set"
)]
pub enum MessageKind {
    /// A person.
    #[default]
    User,
    /// A machine; who may say so is the service's rule.
    Ai,
}

impl MessageKind {
    /// Returns the word used on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Ai => "ai",
        }
    }
}

/// A message to be stored; the store adds `id`, `seq`, `version` and `createdAt`.
#[derive(Clone, Debug)]
pub struct NewMessage {
    /// The conversation it goes to.
    pub conversation_id: Uuid,
    /// The user who sends the message.
    pub user_id: String,
    /// The sender's name.
    pub user_name: String,
    /// The text.
    pub content: String,
    /// Written by a person or by a machine.
    pub kind: MessageKind,
    /// A JSON object.
    pub metadata: Box<RawValue>,
    /// An idempotency key: messages of a user with the same id are stored once.
    pub client_message_id: Option<String>,
    /// The message of the same conversation that it replies to.
    pub reply_to: Option<Uuid>,
    /// The mentioned members.
    pub mentions: Vec<String>,
    /// Creates the journal entry that is stored with the message for each mentioned member.
    pub notice: Option<Notice>,
}

impl NewMessage {
    /// Returns the row that is stored under `seq`. `original` is the quote of the message that it
    /// replies to.
    pub(super) fn stored(self, seq: u64, now: Time, original: Option<Quote>) -> Message {
        Message {
            // The lane creates the ids one after another, so that they ascend like `seq`.
            id: Uuid::now_v7(),
            conversation_id: self.conversation_id,
            seq,
            user_id: self.user_id,
            user_name: self.user_name,
            content: self.content,
            kind: self.kind,
            metadata: self.metadata,
            reply_to: original,
            mentions: self.mentions,
            reactions: Vec::new(),
            answers: self.reply_to,
            version: 1,
            created_at: now,
            edited_at: None,
            deleted_at: None,
        }
    }
}

/// The origin of a message, which the store passes to the emitter unchanged.
#[derive(Clone, Copy, Debug, Default)]
pub struct Origin {
    /// The socket that sent it and that does not receive it.
    pub socket: Option<Sid>,
    /// Whether that socket asks which users received it.
    pub confirm: bool,
    /// When the server began to process it.
    pub received: Option<Instant>,
}

/// The outcome of storing a message.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle every outcome")]
pub enum Insert {
    /// The message is stored.
    Stored(Arc<Message>),
    /// The message was stored before under the same `client_message_id`. Contains that row.
    Repeated(Arc<Message>),
    /// The conversation does not exist, or the sender is not a member of it.
    Absent,
    /// The sender used the same `client_message_id` in another conversation.
    Conflict,
    /// The message replies to a message that is deleted or not in the conversation.
    NoOriginal,
    /// The message mentions a user who is not a member, at this index of `mentions`.
    NoMember(usize),
}

/// A conversation: its row, and its JSON on the wire.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "ConversationInfo")]
pub struct Conversation {
    /// The id of the conversation.
    pub id: Uuid,
    /// The title of the conversation, if it has one.
    pub title: Option<String>,
    /// The user who made the conversation; nobody if it was the server.
    pub owner_id: Option<String>,
    /// The members in the order of their ids; empty if the conversation is open to everyone.
    pub member_ids: Vec<String>,
    /// When it was made.
    pub created_at: Time,
    /// When its title or members last changed.
    pub updated_at: Time,
}

/// A conversation to be stored.
#[derive(Clone, Debug)]
pub struct NewConversation {
    /// The id of the conversation.
    pub id: Uuid,
    /// The title of the conversation, if it has one.
    pub title: Option<String>,
    /// The owner, who is a member even if `member_ids` does not contain the owner's id.
    pub owner_id: Option<String>,
    /// The members; duplicates are ignored.
    pub member_ids: Vec<String>,
    /// Whether every user counts as a member.
    pub is_open: bool,
}

impl NewConversation {
    /// Returns the conversation that exists from the start in development, open to everyone.
    #[must_use]
    pub fn lobby() -> Self {
        Self {
            id: Uuid::from_u128(0x00000000_0000_4000_8000_000000000001),
            title: Some("Lobby".into()),
            owner_id: None,
            member_ids: Vec::new(),
            is_open: true,
        }
    }
}

/// A conversation as one of its members sees it.
#[derive(Clone, Debug)]
pub struct Membership {
    /// The conversation.
    pub conversation: Conversation,
    /// The `seq` of its newest message; 0 if it has none.
    pub last_seq: u64,
    /// The number of changes that are not messages.
    pub changes: u64,
    /// Whether every user counts as a member.
    pub is_open: bool,
}

impl Membership {
    /// Returns the revision of the conversation.
    #[must_use]
    pub fn revision(&self) -> Revision {
        Revision {
            seq: self.last_seq,
            changes: self.changes,
        }
    }
}

/// The position of a conversation in its history.
///
/// Every commit in a conversation takes one step under one lock. A new message increases `seq`; an
/// edit, a deletion, a new title or a member change increases `changes`. So the revisions of a
/// conversation are totally ordered, by these fields.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
#[expect(clippy::exhaustive_structs, reason = "a position in an order")]
pub struct Revision {
    /// The `seq` of the newest message.
    pub seq: u64,
    /// The number of the newest change.
    pub changes: u64,
}

/// Selects messages of a conversation. All bounds are exclusive except `through`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "each backend must answer each form"
)]
pub enum Page {
    /// The newest messages.
    Newest,
    /// The newest messages before this `seq`.
    Before(u64),
    /// The oldest messages after this `seq`.
    After(u64),
    /// The oldest messages after one `seq`, up to and including another.
    Between {
        /// The last known `seq`.
        after: u64,
        /// The last requested `seq`.
        through: u64,
    },
}

/// One page of messages.
#[derive(Clone, Debug, Default, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Page")]
pub struct Messages {
    /// Ascending by `seq`, without a gap.
    pub messages: Vec<Arc<Message>>,
    /// Whether there are more of those asked for, beyond the limit or the size of a page.
    pub has_more: bool,
}

/// Collects a page in reading order and ends it at the limit or at [`PAGE_BYTES`].
pub(super) struct PageBuilder<T> {
    items: Vec<T>,
    has_more: bool,
    limit: usize,
    bytes: usize,
}

impl<T: Serialize> PageBuilder<T> {
    /// Creates an empty page of at most `limit` items.
    pub(super) fn new(limit: usize) -> Self {
        Self {
            items: Vec::new(),
            has_more: false,
            limit,
            bytes: 0,
        }
    }

    /// Adds an item. Returns `false` if the page is full.
    pub(super) fn push(&mut self, item: T) -> bool {
        let bytes = json_len(&item);
        let full = self.items.len() >= self.limit
            // A page has at least one item, or a very large item could never be read.
            || (!self.items.is_empty() && self.bytes + bytes > PAGE_BYTES);
        if full {
            self.has_more = true;
            return false;
        }
        self.bytes += bytes;
        self.items.push(item);
        true
    }
}

impl PageBuilder<Arc<Message>> {
    /// Returns the page. `descending` means that the newest message was pushed first.
    pub(super) fn finish(mut self, descending: bool) -> Messages {
        if descending {
            // Pages are always ascending, in whichever direction they were read.
            self.items.reverse();
        }
        Messages {
            messages: self.items,
            has_more: self.has_more,
        }
    }
}

impl PageBuilder<ListedConversation> {
    /// Returns the list in the order of pushing.
    pub(super) fn finish(self) -> List {
        let last = self.items.last().filter(|_| self.has_more);
        List {
            cursor: last.map(|last| Cursor::of(&last.conversation)),
            conversations: self.items,
            has_more: self.has_more,
        }
    }
}

impl Messages {
    /// Cuts the page at [`PAGE_BYTES`] again after its messages have grown. With `descending`,
    /// keeps the newest messages.
    pub(super) fn cut(self, descending: bool) -> Self {
        let limit = self.messages.len();
        let mut builder = PageBuilder::new(limit);
        let mut messages = self.messages;
        if descending {
            messages.reverse();
        }
        let _ = { messages }
            .into_iter()
            .all(|message| builder.push(message));
        let mut page = builder.finish(descending);
        page.has_more |= self.has_more;
        page
    }
}

/// Returns the number of bytes of an item in a JSON array.
fn json_len(item: &impl Serialize) -> usize {
    struct Counter(usize);
    impl io::Write for Counter {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0 += bytes.len();
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    // The comma after the item counts as well.
    let mut counter = Counter(1);
    serde_json::to_writer(&mut counter, item).expect("a row is JSON, and counting succeeds");
    counter.0
}

/// The size in bytes at which a page of messages ends: half of the smallest `maxPayload` in use.
pub const PAGE_BYTES: usize = 512 * 1024;
