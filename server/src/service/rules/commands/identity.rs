//! Commands of a client about its own connection.

use schemars::JsonSchema;
use serde::Serialize;

use crate::auth::RefreshOffer;
use crate::service::rules::event::events;
use crate::service::rules::examples::{self, NOON};
use crate::store::Time;

events! {
    REFRESH {
        event: "auth:refresh", payload: RefreshOffer, answer: Refreshed,
        permission: None, limit: Requests, room: Anyone, argument: object_or_none,
        does: "replaces the credentials of the connection, or extends its session",
        example: {"token": "eyJhbGciOiJFUzI1NiJ9…"},
        answered: Refreshed { expires_at: Some(examples::time(NOON)) },
    }
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
