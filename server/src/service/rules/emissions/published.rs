//! Types that all published data shares: revisions and responses to subscriptions.

use schemars::JsonSchema;
use serde::Serialize;

/// An update with its revision, which is larger than the revisions of the snapshot and of all
/// earlier updates.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Update")]
pub(crate) struct Update<T> {
    #[serde(flatten)]
    pub(crate) body: T,
    pub(crate) revision: u64,
}

/// The response to a subscription, as event and as acknowledgement.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{S}Subscribed")]
pub(crate) struct Subscribed<S> {
    pub(crate) room: String,
    /// The state at this moment. Later changes arrive as events.
    pub(crate) snapshot: S,
}

/// The response when a subscription ends.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Unsubscribed {
    pub(crate) room: String,
}

impl Unsubscribed {
    pub(in crate::service::rules) fn example(room: &str) -> Self {
        Self { room: room.into() }
    }
}
