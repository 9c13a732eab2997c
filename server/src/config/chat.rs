//! Sections `[chat]` and `[presence]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Section `[chat]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Chat {
    /// Characters a message may have. Default 10,000.
    pub content_chars: usize,
    /// Bytes a message's metadata may have, as it was sent. Default 4,096.
    pub metadata_bytes: usize,
    /// Members a conversation may have beside its owner. Default 1,000.
    pub members: usize,
    /// Messages a page of history may have. Default 200.
    pub page: usize,
    /// Messages a page of history has if the client does not say. Default 50.
    pub page_default: usize,
    /// How long the receivers of a message may take to confirm it. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub confirm_timeout: Duration,
    /// Confirmations that may be outstanding in all conversations together; past that, messages go
    /// out without asking for them, and their senders are told so. One takes about 60 bytes. Default
    /// 100,000.
    pub confirmations: usize,
    /// What the text of a message is. Default [`Content::Text`].
    pub content: Content,
}

/// What the text of a message is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "two kinds of text are the design")]
pub enum Content {
    /// Plain text, delivered as it was sent; clients show it as text.
    #[default]
    Text,
    /// HTML for clients that insert it into a page: only an allow-list of elements and attributes
    /// is stored and delivered.
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
        }
    }
}

/// Section `[presence]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Presence {
    /// How long a user who lost the connection still counts as present. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// The shortest time between two lists of those present; in large conversations it is
    /// longer. Within this time the others are told at most twice that the same user has come or
    /// gone. Default 250 ms.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// How many of those present the answer to `join_conversation` and the event `presence` name, at
    /// most 1,000; who asks for `presence` gets up to 1,000 in any case. Default 100.
    pub listed: usize,
    /// How long others go on seeing the users of a server that is dead or stands still, where several
    /// servers share one PostgreSQL. It is renewed three times as often. Default 15 s.
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
