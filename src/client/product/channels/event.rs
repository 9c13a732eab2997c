//! Events of a channel, and the payloads and answers of requests about it.

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};

/// An event of a channel.
#[derive(Clone, Debug, Deserialize)]
#[non_exhaustive]
pub struct ChannelEvent {
    /// The name of the event.
    pub event: String,
    /// The position of the event. With `history = "none"` all events have the same.
    pub position: String,
    /// The id that the publisher chose.
    pub id: String,
    /// When the event was stored, in the format of RFC 3339.
    pub timestamp: String,
    pub(super) data: Box<RawValue>,
}

impl ChannelEvent {
    /// Parses the data of the event.
    ///
    /// # Errors
    /// Fails if the data is not a `T`.
    pub fn data<T: DeserializeOwned>(&self) -> Result<T, serde_json::Error> {
        serde_json::from_str(self.json())
    }

    /// Returns the data of the event as JSON, as it was published.
    #[must_use]
    pub fn json(&self) -> &str {
        self.data.get()
    }

    /// Returns the approximate size of the event in a queue, in bytes.
    pub(super) fn weight(&self) -> usize {
        let texts = [&self.event, &self.position, &self.id, &self.timestamp];
        let texts: usize = texts.into_iter().map(String::len).sum();
        size_of::<Self>() + texts + self.json().len()
    }
}

/// The second argument of an event in a channel.
#[derive(Deserialize)]
pub(super) struct EventMeta {
    pub(super) channel: String,
    pub(super) position: String,
    pub(super) id: String,
    pub(super) timestamp: String,
}

/// Which events [`Channel::history`](super::Channel::history) reads. Default: the newest 50.
#[derive(Clone, Debug, Default, Serialize)]
#[must_use = "nothing is read before `Channel::history`"]
pub struct PageRequest {
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    before: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    limit: Option<usize>,
}

impl PageRequest {
    /// Requests the newest events.
    pub fn newest() -> Self {
        Self::default()
    }

    /// Requests the newest events before this position.
    pub fn before(position: impl Into<String>) -> Self {
        Self {
            before: Some(position.into()),
            ..Self::default()
        }
    }

    /// Requests the oldest events after this position.
    pub fn since(position: impl Into<String>) -> Self {
        Self {
            since: Some(position.into()),
            ..Self::default()
        }
    }

    /// Sets the maximum number of events, 1 to 200. Default 50.
    pub fn limit(mut self, limit: usize) -> Self {
        self.limit = Some(limit);
        self
    }
}

/// A page of a channel's events.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ChannelPage {
    /// The position after these events.
    pub position: String,
    /// The events, the oldest first.
    pub events: Vec<ChannelEvent>,
    /// Whether there are more events: after these with [`PageRequest::since`], otherwise before
    /// these.
    pub has_more: bool,
    /// Whether events after the requested position are no longer stored. `events` then has the
    /// newest.
    #[serde(default)]
    pub forgotten: bool,
    /// The followers, in answers to `channel:subscribe` of kinds with presence.
    pub(super) presence: Option<ChannelPresence>,
}

/// The users who follow a channel, at all servers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[non_exhaustive]
pub struct ChannelPresence {
    /// At most 1,000 users, ordered by when they began to follow.
    pub users: Vec<ChannelUser>,
    /// The number of users, including users who are not listed.
    pub count: u64,
    /// The number of servers that have not answered, whose users are missing.
    #[serde(default)]
    pub missing: u64,
}

/// A user who follows a channel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct ChannelUser {
    /// The user's id.
    pub user_id: String,
    /// The user's name. That of a guest is not verified.
    pub name: String,
    /// Whether the user is a guest.
    #[serde(default)]
    pub guest: bool,
    /// The number of the user's connections that follow the channel.
    pub connections: u64,
    /// Since when the user follows the channel, in the format of RFC 3339.
    pub since: String,
}

/// The payload of a request about a channel, with the fields of the request.
#[derive(Serialize)]
pub(super) struct Call<'a, P> {
    pub(super) channel: &'a str,
    #[serde(flatten)]
    pub(super) fields: &'a P,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) token: Option<&'a str>,
}

/// The fields of `channel:presence` and `channel:unsubscribe`.
#[derive(Serialize)]
pub(super) struct NoFields {}

#[derive(Serialize)]
pub(super) struct Subscribe<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) since: Option<&'a str>,
}

#[derive(Serialize)]
pub(super) struct Publish<'a> {
    pub(super) event: &'a str,
    pub(super) data: &'a Value,
    pub(super) id: &'a str,
}

/// The acknowledgement of `channel:publish`.
#[derive(Deserialize)]
pub(super) struct Published {
    pub(super) position: String,
}
