//! What a tracer selects.

use roomcast::SocketId;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

/// The selection of one tracer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Filter {
    /// What concerns a user, by id.
    User(String),
    /// What concerns a socket, by id.
    Socket(String),
    /// What concerns a conversation.
    Conversation(Uuid),
    /// What is published to a channel of a declared kind.
    Channel(String),
}

/// What a step concerns.
#[derive(Clone, Debug, Default)]
pub(crate) struct Subject<'a> {
    pub(crate) user: Option<&'a str>,
    pub(crate) socket: Option<SocketId>,
    pub(crate) conversation: Option<Uuid>,
    pub(crate) channel: Option<&'a str>,
}

impl Filter {
    /// Returns whether the selection includes a subject.
    pub(crate) fn matches(&self, subject: &Subject<'_>) -> bool {
        match self {
            Self::User(user) => subject.user == Some(user),
            Self::Socket(id) => subject
                .socket
                .as_ref()
                .is_some_and(|socket| socket.as_str() == id),
            Self::Conversation(id) => subject.conversation == Some(*id),
            Self::Channel(channel) => subject.channel == Some(channel),
        }
    }

    /// Returns whether the selection can include sockets.
    pub(crate) const fn selects_sockets(&self) -> bool {
        match self {
            Self::User(_) | Self::Socket(_) => true,
            Self::Conversation(_) | Self::Channel(_) => false,
        }
    }

    /// Returns the conversation, if one is selected.
    pub(crate) const fn conversation(&self) -> Option<Uuid> {
        match self {
            Self::Conversation(id) => Some(*id),
            Self::User(_) | Self::Socket(_) | Self::Channel(_) => None,
        }
    }

    /// Returns the kind and the id of what is selected.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::User(user) => format!("user {user}"),
            Self::Socket(id) => format!("socket {id}"),
            Self::Conversation(id) => format!("conversation {id}"),
            Self::Channel(channel) => format!("channel {channel}"),
        }
    }
}
