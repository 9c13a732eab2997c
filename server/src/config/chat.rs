//! Sections `[chat]` and `[presence]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Section `[chat]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chat {
    /// Maximum length of a message in characters. Default 10,000.
    pub content_chars: usize,
    /// Maximum size of a message's metadata in bytes, as sent. Default 4,096.
    pub metadata_bytes: usize,
    /// Maximum number of members of a conversation in addition to its owner. Default 1,000.
    pub members: usize,
    /// Maximum number of messages on a page of history. Default 200.
    pub page: usize,
    /// Default number of messages on a page of history. Default 50.
    pub page_default: usize,
    /// Timeout of the confirmations of a message. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub confirm_timeout: Duration,
    /// Maximum number of pending confirmations in all conversations together. If it is reached,
    /// messages are sent without requesting confirmations, and their senders are notified. A
    /// confirmation takes about 60 bytes. Default 100,000.
    pub confirmations: usize,
    /// Format of message texts. Default [`Content::Text`].
    pub content: Content,
    /// Section `[chat.streams]`.
    pub streams: Streams,
}

/// Section `[chat.streams]`: messages whose text arrives in pieces.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Streams {
    /// Shortest time between two events with new text of a message. `0s` sends each piece at once.
    /// Default 40 ms.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How long an author may add nothing to a message until it ends. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Maximum length of a message that is sent in pieces, in characters. Default 100,000.
    pub max_chars: usize,
    /// Maximum number of messages that a user may write at the same time. Default 5.
    pub per_user: usize,
    /// Maximum number of messages that are written at the same time through one server. Default
    /// 1,000.
    pub max: usize,
    /// Maximum number of pieces of a message per second. Default 50.
    pub appends_per_second: u32,
    /// Maximum size of the pieces of a message per second, in bytes. A larger piece may be the only
    /// one of a second. Default 65,536.
    pub bytes_per_second: usize,
}

impl Default for Streams {
    fn default() -> Self {
        Self {
            interval: Duration::from_millis(40),
            timeout: Duration::from_secs(30),
            max_chars: 100_000,
            per_user: 5,
            max: 1000,
            appends_per_second: 50,
            bytes_per_second: 64 << 10,
        }
    }
}

/// Format of message texts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "two kinds of text are the design")]
pub enum Content {
    /// Plain text, delivered unchanged; clients display it as text.
    #[default]
    Text,
    /// HTML for clients that insert it into a page. Only listed elements and attributes are stored
    /// and delivered.
    Html,
}

impl Default for Chat {
    fn default() -> Self {
        Self {
            content_chars: 10_000,
            metadata_bytes: 4096,
            members: 1000,
            page: 200,
            page_default: 50,
            confirm_timeout: Duration::from_secs(5),
            confirmations: 100_000,
            content: Content::Text,
            streams: Streams::default(),
        }
    }
}

/// Section `[presence]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Presence {
    /// How long a user with a lost connection still counts as present. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// Minimum interval between two presence lists; longer in large conversations. Within it, other
    /// users receive at most two events about the same user joining or leaving. Default 250 ms.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Maximum number of users in the answer to `join_conversation` and in the event `presence`, at
    /// most 1,000. A `presence` request always returns up to 1,000. Default 100.
    pub listed: usize,
    /// How long the users of a crashed or stalled server stay visible on other servers that share
    /// its PostgreSQL. The lease is renewed three times as often. Default 15 s.
    #[serde(with = "humantime_serde")]
    pub lease: Duration,
}

impl Default for Presence {
    fn default() -> Self {
        Self {
            grace: Duration::from_secs(5),
            interval: Duration::from_millis(250),
            listed: 100,
            lease: Duration::from_secs(15),
        }
    }
}
