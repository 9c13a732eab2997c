//! Events about attendance in a conversation: joining, leaving, typing, presence and status.

use std::sync::Arc;

use schemars::JsonSchema;
use serde::Serialize;
use uuid::Uuid;

use crate::service::rules::emission::{Keyed, emissions};
use crate::service::rules::examples::{self, CONVERSATION, NOON};
use crate::store::Time;
pub(crate) use crate::store::{Status, UserStatus};

emissions! {
    USER_JOINED {
        event: "user_joined", payload: System, delivery: Reliable,
        summary: "a user's first socket has joined a conversation",
        to: "sockets in the conversation, except the user's", rooms: [Conversation],
        example: system(),
    }
    USER_LEFT {
        event: "user_left", payload: System, delivery: Reliable,
        summary: "a user's last socket has left a conversation on purpose",
        to: "sockets in the conversation, except the user's", rooms: [Conversation],
        example: system(),
    }
    USER_DISCONNECTED {
        event: "user_disconnected", payload: System, delivery: Reliable,
        summary: "a user's last socket has lost its connection and did not reconnect",
        to: "sockets in the conversation, except the user's", rooms: [Conversation],
        example: system(),
    }
    PRESENCE {
        event: "presence", payload: Here, delivery: Reliable,
        summary: "the users in a conversation have changed",
        to: "sockets in the conversation", rooms: [Conversation],
        example: presence(),
    }
    TYPING {
        event: "typing", payload: Typing, delivery: Conflated,
        summary: "a user has started or stopped typing",
        to: "sockets in the conversation, except the sending socket", rooms: [Conversation],
        example: Typing {
            conversation_id: CONVERSATION,
            user: user(),
            is_typing: true,
            timestamp: examples::time(NOON),
        },
    }
    STATUS {
        event: "status", payload: UserStatus, delivery: Reliable,
        summary: "a user has changed its status",
        to: "sockets in conversations of which the user is a member, all sockets of members of those with at most 100 members, and the user's other sockets; not the sending socket",
        rooms: [Conversation, User],
        example: status(),
    }
}

/// A user as shown to other users.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct User {
    /// The user's id.
    pub(crate) user_id: Arc<str>,
    /// The user's name.
    pub(crate) name: Arc<str>,
}

/// A user who is present in a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "PresentUser")]
pub(crate) struct Present {
    /// The user.
    #[serde(flatten)]
    pub(crate) user: User,
    /// Whether the user is a guest, whose name is not verified. Absent if not.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) guest: bool,
    /// Number of the user's sockets in this conversation. 0 during the grace period after a lost
    /// connection.
    pub(crate) connections: usize,
    /// Since when the user is present.
    pub(crate) since: Time,
}

/// The users in a conversation.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Presence")]
pub(crate) struct Here {
    pub(crate) conversation_id: Uuid,
    /// Ordered by arrival, earliest first.
    pub(crate) users: Vec<Present>,
    /// The number of users, including users who are not listed.
    pub(crate) count: usize,
}

impl Here {
    /// Returns an empty presence.
    pub(in crate::service) fn empty(conversation_id: Uuid) -> Self {
        Self {
            conversation_id,
            users: Vec::new(),
            count: 0,
        }
    }
}

/// `user_joined`, `user_left` and `user_disconnected`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "SystemEvent")]
pub(crate) struct System {
    #[serde(rename = "type")]
    pub(crate) kind: Kind,
    pub(crate) conversation_id: Uuid,
    #[serde(flatten)]
    pub(crate) user: User,
    pub(crate) timestamp: Time,
}

/// The type of a system event.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
pub(crate) enum Kind {
    System,
}

/// `typing`.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Typing {
    pub(crate) conversation_id: Uuid,
    #[serde(flatten)]
    pub(crate) user: User,
    pub(crate) is_typing: bool,
    pub(crate) timestamp: Time,
}

impl Keyed for Typing {
    const BY: &'static str = "conversation and user";

    fn key(&self) -> String {
        // The conversation is part of the key because a user can type in several conversations.
        format!("typing {} {}", self.conversation_id, self.user.user_id)
    }
}

fn user() -> User {
    User {
        user_id: examples::ADA.into(),
        name: "Ada".into(),
    }
}

pub(in crate::service::rules) fn present() -> Present {
    Present {
        user: user(),
        guest: false,
        connections: 1,
        since: examples::time(NOON),
    }
}

pub(in crate::service::rules) fn presence() -> Here {
    Here {
        conversation_id: CONVERSATION,
        users: vec![present()],
        count: 1,
    }
}

fn system() -> System {
    System {
        kind: Kind::System,
        conversation_id: CONVERSATION,
        user: user(),
        timestamp: examples::time(NOON),
    }
}

pub(in crate::service::rules) fn status() -> UserStatus {
    UserStatus {
        user_id: examples::ADA.into(),
        status: Status::Busy,
        text: Some("in a meeting".into()),
        timestamp: examples::time(NOON),
    }
}
