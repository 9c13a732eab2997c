//! What all that is published has: its place in its journal, and the answers to those who follow it.

use schemars::JsonSchema;
use serde::Serialize;

/// An update with its place: a larger number than that of the snapshot and of everything before.
#[derive(Clone, Debug, Serialize, JsonSchema)]
#[schemars(rename = "{T}Update")]
pub(crate) struct Update<T> {
    #[serde(flatten)]
    pub(crate) body: T,
    pub(crate) revision: u64,
}

/// The answer to a subscription, as event and as acknowledgement.
#[derive(Debug, Serialize, JsonSchema)]
#[schemars(rename = "{S}Subscribed")]
pub(crate) struct Subscribed<S> {
    pub(crate) room: String,
    /// What there is at that moment; everything after it comes as an event.
    pub(crate) snapshot: S,
}

/// The answer to the end of a subscription.
#[derive(Debug, Serialize, JsonSchema)]
pub(crate) struct Unsubscribed {
    pub(crate) room: String,
}

impl Unsubscribed {
    pub(in crate::service::rules) fn example(room: &str) -> Self {
        Self { room: room.into() }
    }
}
