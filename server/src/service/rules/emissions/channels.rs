//! Events about channels, sent to one follower. The events in a channel have the names and payloads
//! of their application, and [`EventMeta`] as second argument.

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::service::rules::bounds::{ChannelName, ChannelPosition, ClientId, EventName};
use crate::service::rules::commands::channels::{ChannelEvents, page};
use crate::service::rules::emission::emissions;
use crate::service::rules::examples::{self, NOON};
use crate::store::Time;

emissions! {
    CHANNEL_ENDED {
        event: "channel:ended", payload: ChannelEnded, delivery: Reliable,
        summary: "the socket has stopped following a channel without a request of its client",
        to: "the socket", rooms: [],
        example: ChannelEnded { channel: ORDER.into(), reason: EndReason::Forbidden },
    }
    CHANNEL_SUBSCRIBED {
        event: "channel:subscribed", payload: ChannelSubscribed, delivery: Reliable,
        summary: "a service has let the socket follow a channel",
        to: "the socket", rooms: [],
        example: ChannelSubscribed { channel: ORDER.into(), events: page() },
    }
}

/// `channel:subscribed`
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChannelSubscribed {
    #[schemars(with = "ChannelName")]
    pub(crate) channel: String,
    /// The newest events. Later events follow.
    #[serde(flatten)]
    pub(crate) events: ChannelEvents,
}

/// `channel:ended`
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub(crate) struct ChannelEnded {
    #[schemars(with = "ChannelName")]
    pub(crate) channel: String,
    pub(crate) reason: EndReason,
}

/// Why a socket has stopped following a channel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum EndReason {
    /// The user may no longer follow it.
    Forbidden,
    /// The token that allowed to follow it has expired.
    Expired,
    /// The kind of the channel was removed from the configuration.
    Removed,
    /// A service has deleted the channel.
    Deleted,
    /// A service has ended the subscription.
    Unsubscribed,
    /// The server cannot continue without a gap: the client subscribes again with its position.
    Interrupted,
}

/// The second argument of an event in a channel.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct EventMeta<'a> {
    #[schemars(with = "ChannelName")]
    pub(crate) channel: &'a str,
    #[schemars(with = "ChannelPosition")]
    pub(crate) position: String,
    #[schemars(with = "ClientId")]
    pub(crate) id: &'a str,
    /// When it was stored.
    pub(crate) timestamp: Time,
}

/// An event of a channel in an answer.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct ChannelEvent {
    /// The name of the event.
    #[schemars(with = "EventName")]
    pub(crate) event: String,
    /// The data of the event, as it was published.
    #[schemars(with = "Value")]
    pub(crate) data: Box<RawValue>,
    #[schemars(with = "ChannelPosition")]
    pub(crate) position: String,
    /// The id that the publisher chose.
    #[schemars(with = "ClientId")]
    pub(crate) id: String,
    /// When it was stored.
    pub(crate) timestamp: Time,
}

/// The name of a channel in examples.
pub(in crate::service::rules) const ORDER: &str = "orders:ada:42";
/// A position in examples.
pub(in crate::service::rules) const POSITION: &str = "5f1d03ab.7.9e107d9d.0190b0e0";

pub(in crate::service::rules) fn event() -> ChannelEvent {
    let data = RawValue::from_string(r#"{"status":"shipped"}"#.to_owned());
    ChannelEvent {
        event: "order:updated".to_owned(),
        data: data.expect("the data of an example is JSON"),
        position: POSITION.to_owned(),
        id: "order-42-shipped".to_owned(),
        timestamp: examples::time(NOON),
    }
}
