//! Commands about channels: following, reading and publishing, for clients and for services.

use schemars::JsonSchema;
use serde::{Deserialize, Deserializer, Serialize, de};
use serde_json::Value;
use serde_json::value::RawValue;

use super::form::{Object, objects, present, whole_in_query, whole_or_none};
use super::streams::Held;
use crate::auth::Permission;
use crate::service::rules::bounds::{
    CHANNEL_EVENTS, ChannelName, ChannelPosition, ClientId, EventName, UserId, not_both,
};
use crate::service::rules::emissions::attendance::{self, Present};
use crate::service::rules::emissions::channels::{self, ChannelEvent, ORDER, POSITION};
use crate::service::rules::event::{Command, events};

events! {
    CHANNEL_SUBSCRIBE {
        event: "channel:subscribe", payload: SubscribeChannel, answer: Held<ChannelEvents>,
        permission: None, limit: Channels, room: Anyone, argument: object,
        does: "follows a channel, and reads its events after a position or the newest ones",
        example: {"channel": ORDER, "since": POSITION},
        answered: page().into(),
        call: Channels::subscribe(socket), serial: true,
    }
    CHANNEL_UNSUBSCRIBE {
        event: "channel:unsubscribe", payload: UnsubscribeChannel, answer: (),
        permission: None, limit: Channels, room: Anyone, argument: object,
        does: "stops following a channel",
        example: {"channel": ORDER},
        answered: (),
        call: Channels::unsubscribe(socket), serial: true,
    }
    CHANNEL_HISTORY {
        event: "channel:history", payload: ReadChannel, answer: ChannelEvents,
        permission: None, limit: Requests, room: Anyone, argument: object,
        does: "reads a page of a channel's events, the oldest first",
        example: {"channel": ORDER, "before": POSITION, "limit": 1},
        answered: page(),
        call: Channels::history(),
    }
    CHANNEL_PRESENCE {
        event: "channel:presence", payload: GetChannelPresence, answer: ChannelPresence,
        permission: None, limit: Requests, room: Anyone, argument: object,
        does: "reads the users who follow a channel",
        example: {"channel": ORDER},
        answered: presence(),
        call: Channels::presence(socket),
    }
    CHANNEL_PUBLISH {
        event: "channel:publish", payload: PublishToChannel, answer: Published,
        permission: None, limit: Channels, room: Anyone, argument: object,
        does: "publishes an event to a channel",
        example: {
            "channel": ORDER,
            "event": "order:updated",
            "data": {"status": "shipped"},
            "id": "order-42-shipped",
        },
        answered: Published { position: POSITION.into() },
        call: Channels::publish(socket),
    }
}

/// `channel:subscribe`: follows a channel.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct SubscribeChannel {
    #[schemars(with = "ChannelName")]
    pub(crate) channel: String,
    /// The position of the last event that the client has. The answer then has only later events.
    /// If `hasMore` is true, the socket does not follow yet: the client subscribes again with the
    /// `position` of the answer.
    #[schemars(with = "Option<ChannelPosition>")]
    pub(crate) since: Option<String>,
    /// A token for the channel, of a kind whose rules have `token`.
    #[schemars(length(max = 8192))]
    pub(crate) token: Option<String>,
}

/// `channel:unsubscribe`: stops following a channel.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct UnsubscribeChannel {
    #[schemars(with = "ChannelName")]
    pub(crate) channel: String,
}

/// `channel:history`: reads a page of a channel's events.
#[derive(Debug, Deserialize, JsonSchema)]
#[schemars(extend("not" = not_both(["since", "before"], "string")))]
pub(crate) struct ReadChannel {
    #[schemars(with = "ChannelName")]
    pub(crate) channel: String,
    /// Only events after this position: the oldest of them. Excludes `before`.
    #[schemars(with = "Option<ChannelPosition>")]
    pub(crate) since: Option<String>,
    /// Only events before this position: the newest of them.
    #[schemars(with = "Option<ChannelPosition>")]
    pub(crate) before: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) limit: Option<usize>,
    /// A token for the channel, of a kind whose rules have `token`.
    #[schemars(length(max = 8192))]
    pub(crate) token: Option<String>,
}

/// `channel:presence`: reads the users who follow a channel.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct GetChannelPresence {
    #[schemars(with = "ChannelName")]
    pub(crate) channel: String,
    /// A token for the channel, of a kind whose rules have `token`.
    #[schemars(length(max = 8192))]
    pub(crate) token: Option<String>,
}

/// The users who follow a channel, read by a service.
#[derive(Debug)]
pub(crate) struct ReadPresence {
    pub(crate) channel: String,
}

impl Command for ReadPresence {
    const PERMISSION: Option<Permission> = Some(Permission::ChannelsRead);
}

/// Answers of the backend that a service revokes.
#[derive(Debug)]
pub(crate) struct RevokeChannel {
    pub(crate) channel: String,
    pub(crate) new: NewChannelRevocation,
}

impl Command for RevokeChannel {
    const PERMISSION: Option<Permission> = Some(Permission::ChannelsPublish);
}

/// `POST /api/v1/channels/{channel}/revoke`: lets the backend decide again who may follow.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewChannelRevocation {
    /// Only this user. Without it, all users.
    #[schemars(with = "Option<UserId>")]
    pub(crate) user_id: Option<String>,
}

/// The subscriptions that were ended.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EndedSubscriptions {
    /// Their number.
    pub(crate) ended: usize,
    /// Servers that have not answered. Repeat the request.
    pub(crate) missing: usize,
}

/// A user whose sockets a service subscribes to a channel.
#[derive(Debug)]
pub(crate) struct SubscribeUser {
    pub(crate) channel: String,
    pub(crate) new: NewChannelSubscriber,
}

impl Command for SubscribeUser {
    const PERMISSION: Option<Permission> = Some(Permission::ChannelsPublish);
}

/// `POST /api/v1/channels/{channel}/subscribers`: lets the connected sockets of a user follow a
/// channel.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct NewChannelSubscriber {
    #[schemars(with = "UserId")]
    pub(crate) user_id: String,
}

/// The sockets that a service has subscribed.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct UserSubscriptions {
    /// The number of sockets of the user that follow the channel. 0 if the user is not connected.
    pub(crate) subscribed: usize,
    /// Servers that have not answered. Repeat the request.
    pub(crate) missing: usize,
}

/// A user whose subscriptions to a channel a service ends.
#[derive(Debug)]
pub(crate) struct UnsubscribeUser {
    pub(crate) channel: String,
    pub(crate) user: String,
}

impl Command for UnsubscribeUser {
    const PERMISSION: Option<Permission> = Some(Permission::ChannelsPublish);
}

/// The users who follow a channel, at all servers. The list may be a second old.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct ChannelFollowers {
    /// At most 1,000, ordered by when they began to follow.
    pub(crate) users: Vec<Present>,
    /// The number of users, including users who are not listed.
    pub(crate) count: usize,
    /// Servers that have not answered. Absent if all have.
    #[serde(skip_serializing_if = "is_zero")]
    pub(crate) missing: usize,
}

fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// The acknowledgement of `channel:presence`.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChannelPresence {
    #[schemars(with = "ChannelName")]
    pub(crate) channel: String,
    #[serde(flatten)]
    pub(crate) followers: ChannelFollowers,
}

/// `channel:publish`: publishes an event to a channel.
#[derive(Debug, Deserialize, JsonSchema)]
pub(crate) struct PublishToChannel {
    #[schemars(with = "ChannelName")]
    pub(crate) channel: String,
    /// The name of the event.
    #[schemars(with = "EventName")]
    pub(crate) event: String,
    /// The first argument of the event. Stored and sent unchanged, at most 16,384 bytes
    /// (`channels.NAME.max_bytes`).
    #[schemars(with = "Value")]
    pub(crate) data: Box<RawValue>,
    /// An event that the user publishes again under the same id is stored only once.
    #[schemars(with = "ClientId")]
    pub(crate) id: String,
    /// A token for the channel, of a kind whose rules have `token`.
    #[schemars(length(max = 8192))]
    pub(crate) token: Option<String>,
}

/// Events that a service publishes to a channel.
#[derive(Debug)]
pub(crate) struct PublishAsService {
    pub(crate) channel: String,
    pub(crate) new: NewChannelEvents,
}

impl Command for PublishAsService {
    const PERMISSION: Option<Permission> = Some(Permission::ChannelsPublish);
}

/// A channel that a service deletes.
#[derive(Debug)]
pub(crate) struct DeleteChannel {
    pub(crate) channel: String,
}

impl Command for DeleteChannel {
    const PERMISSION: Option<Permission> = Some(Permission::ChannelsPublish);
}

/// An event that a service deletes.
#[derive(Debug)]
pub(crate) struct DeleteChannelEvent {
    pub(crate) channel: String,
    pub(crate) id: String,
    pub(crate) user: Option<String>,
}

impl Command for DeleteChannelEvent {
    const PERMISSION: Option<Permission> = Some(Permission::ChannelsPublish);
}

/// The query of `DELETE /api/v1/channels/{channel}/events/{id}`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct EventPublisher {
    /// The user who has published the event. Absent if a service has published it.
    #[schemars(with = "Option<UserId>")]
    pub(crate) user_id: Option<String>,
}

/// `POST /api/v1/channels/{channel}/events`: publishes an event to a channel, or several as
/// `events`.
#[derive(Debug, JsonSchema)]
#[schemars(untagged)]
pub(crate) enum NewChannelEvents {
    /// An event.
    One(NewChannelEvent),
    /// Several events in their order. Either all are accepted or none.
    #[schemars(extend("additionalProperties" = false))]
    Many {
        /// 1 to 1,000.
        #[schemars(length(min = 1, max = CHANNEL_EVENTS))]
        events: Vec<NewChannelEvent>,
    },
}

/// An event that a service publishes to a channel.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewChannelEvent {
    /// The name of the event.
    #[schemars(with = "EventName")]
    pub(crate) event: String,
    /// The first argument of the event. Stored and sent unchanged, at most 16,384 bytes
    /// (`channels.NAME.max_bytes`).
    #[schemars(with = "Value")]
    pub(crate) data: Box<RawValue>,
    /// An event that is published again under the same id is stored only once.
    #[schemars(with = "ClientId")]
    pub(crate) id: String,
}

/// The fields of both variants, so that errors in a list have a path.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct EventFields {
    #[serde(default, deserialize_with = "present")]
    event: Option<String>,
    #[serde(default, deserialize_with = "present")]
    data: Option<Box<RawValue>>,
    #[serde(default, deserialize_with = "present")]
    id: Option<String>,
    #[serde(default, deserialize_with = "present")]
    events: Option<Vec<Object<NewChannelEvent>>>,
}

impl<'de> Deserialize<'de> for NewChannelEvents {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let EventFields {
            event,
            data,
            id,
            events,
        } = EventFields::deserialize(deserializer)?;
        let Some(events) = events else {
            return Ok(Self::One(NewChannelEvent {
                event: event.ok_or_else(|| de::Error::missing_field("event"))?,
                data: data.ok_or_else(|| de::Error::missing_field("data"))?,
                id: id.ok_or_else(|| de::Error::missing_field("id"))?,
            }));
        };
        // A list excludes the fields of a single event.
        let single = [
            ("event", event.is_some()),
            ("data", data.is_some()),
            ("id", id.is_some()),
        ];
        if let Some((field, _)) = single.iter().find(|(_, is_there)| *is_there) {
            return Err(de::Error::unknown_field(field, &["events"]));
        }
        let events = events.into_iter().map(|Object(event)| event);
        Ok(Self::Many {
            events: events.collect(),
        })
    }
}

/// `POST /api/v1/channels/events`: publishes events to several channels.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PublishToChannels {
    /// 1 to 1,000, published in their order. Either all are accepted or none.
    #[schemars(with = "Vec<EventForChannel>", length(min = 1, max = CHANNEL_EVENTS))]
    #[serde(deserialize_with = "objects")]
    pub(crate) events: Vec<EventForChannel>,
}

impl Command for PublishToChannels {
    const PERMISSION: Option<Permission> = Some(Permission::ChannelsPublish);
}

/// An event that a service publishes, and its channel.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct EventForChannel {
    #[schemars(with = "ChannelName")]
    pub(crate) channel: String,
    /// The name of the event.
    #[schemars(with = "EventName")]
    pub(crate) event: String,
    /// The first argument of the event. Stored and sent unchanged, at most 16,384 bytes
    /// (`channels.NAME.max_bytes`).
    #[schemars(with = "Value")]
    pub(crate) data: Box<RawValue>,
    /// An event that is published again to the channel under the same id is stored only once.
    #[schemars(with = "ClientId")]
    pub(crate) id: String,
}

/// The events of a channel, read by a service.
#[derive(Debug)]
pub(crate) struct ReadAsService {
    pub(crate) channel: String,
    pub(crate) page: ChannelPageRequest,
}

impl Command for ReadAsService {
    const PERMISSION: Option<Permission> = Some(Permission::ChannelsRead);
}

/// The requested page of a channel's events.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChannelPageRequest {
    /// Only events after this position: the oldest of them. Excludes `before`.
    #[schemars(with = "Option<ChannelPosition>")]
    pub(crate) since: Option<String>,
    /// Only events before this position: the newest of them.
    #[schemars(with = "Option<ChannelPosition>")]
    pub(crate) before: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) limit: Option<usize>,
}

/// Events of a channel, the oldest first.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ChannelEvents {
    /// Continue after this position.
    #[schemars(with = "ChannelPosition")]
    pub(crate) position: String,
    pub(crate) events: Vec<ChannelEvent>,
    /// Whether there are more events: after `position` with `since`, otherwise before these.
    pub(crate) has_more: bool,
    /// Set if some events after `since` are no longer stored. `events` then has the newest.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub(crate) forgotten: bool,
    /// The followers, in answers to `channel:subscribe` of kinds with presence.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) presence: Option<ChannelFollowers>,
}

/// The acknowledgement of an event that is stored in a channel.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "PublishedToChannel")]
pub(crate) struct Published {
    /// The position of the event.
    #[schemars(with = "ChannelPosition")]
    pub(crate) position: String,
}

/// The response to one or several events of a service, which are stored.
#[derive(Debug, Serialize, JsonSchema)]
#[serde(untagged)]
pub(crate) enum PublishedAsService {
    /// An event.
    One(Published),
    /// Several events.
    Many(PublishedEvents),
}

/// The response to several events, which are stored.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct PublishedEvents {
    /// The positions of the events in the order of the request.
    #[schemars(with = "Vec<ChannelPosition>")]
    pub(crate) positions: Vec<String>,
}

pub(in crate::service::rules) fn page() -> ChannelEvents {
    ChannelEvents {
        position: POSITION.into(),
        events: vec![channels::event()],
        has_more: false,
        forgotten: false,
        presence: None,
    }
}

fn presence() -> ChannelPresence {
    ChannelPresence {
        channel: ORDER.into(),
        followers: ChannelFollowers {
            users: vec![attendance::present()],
            count: 1,
            missing: 0,
        },
    }
}
