//! Events about a client's own connection.

use std::num::NonZeroU64;

use schemars::JsonSchema;
use serde::Serialize;
use serde_json::Value;

use super::attendance::{self, UserStatus};
use crate::service::rules::emission::emissions;
use crate::service::rules::examples::{self, ADA, NOON};
use crate::store::Time;

emissions! {
    SESSION {
        event: "session", payload: Identity<'static>, delivery: Reliable,
        summary: "the identity of the client",
        to: "the socket, after it has connected", rooms: [],
        example: Identity {
            user_id: ADA,
            name: "Ada",
            roles: &[],
            permissions: &["chat:read", "chat:send", "chat:manage", "chat:type"],
            guest: false,
            expires_at: Some(examples::time(NOON)),
            status: Some(attendance::status()),
        },
    }
    ERROR {
        event: "error", payload: ErrorEvent<'static>, delivery: Reliable,
        summary: "an event that was sent without an acknowledgement has failed",
        to: "the socket whose event failed", rooms: [],
        example: ErrorEvent {
            kind: "rateLimit",
            code: "RATE_LIMITED",
            message: "too many events of this kind, try again later",
            event: Some("typing"),
            retry_after: NonZeroU64::new(200),
            details: None,
            status: 429,
        },
    }
    EXPIRING {
        event: "auth:expiring", payload: Expiring, delivery: Reliable,
        summary: "the credentials expire soon; `auth:refresh` renews them",
        to: "the socket, before its credentials expire", rooms: [],
        example: Expiring { expires_at: examples::time(NOON) },
    }
}

/// `session`: the identity of the client.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "Session")]
pub(crate) struct Identity<'a> {
    pub(crate) user_id: &'a str,
    pub(crate) name: &'a str,
    pub(crate) roles: &'a [String],
    /// The permissions that the roles grant, by their configuration names.
    pub(crate) permissions: &'a [&'static str],
    /// Whether the user is a guest, whose name is not verified.
    pub(crate) guest: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) expires_at: Option<Time>,
    /// The status that the user has set.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) status: Option<UserStatus>,
}

/// `error`: an event has failed.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub(crate) struct ErrorEvent<'a> {
    /// The category of the failure.
    #[serde(rename = "type")]
    pub(crate) kind: &'static str,
    pub(crate) code: &'static str,
    /// A description for developers of clients.
    pub(crate) message: &'a str,
    /// The event that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) event: Option<&'a str>,
    /// Milliseconds after which a retry makes sense.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after: Option<NonZeroU64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) details: Option<&'a Value>,
    /// The equivalent HTTP status.
    pub(crate) status: u16,
}

/// `auth:expiring`, which the library sends.
#[derive(Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(rename = "AuthExpiring")]
pub(crate) struct Expiring {
    pub(crate) expires_at: Time,
}
