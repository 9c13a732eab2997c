//! Commands of a client about its own connection.

use schemars::JsonSchema;
use serde::Serialize;

use crate::auth::RefreshOffer;
use crate::service::rules::event::events;
use crate::service::rules::examples::{self, NOON};
use crate::store::Time;

events! {
    REFRESH: RefreshOffer => Refreshed = "auth:refresh", Nothing, Requests, Anyone, object_or_none,
        "swaps the credentials of the connection, or prolongs its session",
        {"token": "eyJhbGciOiJFUzI1NiJ9…"} => Refreshed { expires_at: Some(examples::time(NOON)) };
}

/// The acknowledgement of `auth:refresh`, which the library sends.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AuthRefreshed")]
pub(crate) struct Refreshed {
    /// When the credentials expire. Absent if they do not.
    #[serde(skip_serializing_if = "Option::is_none")]
    expires_at: Option<Time>,
}
