//! `/api/v1/…/presence` and `/api/v1/users/{id}/status`: presence and status of users, for
//! services.

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::Method,
    response::{IntoResponse, Response},
};

use schemars::JsonSchema;
use serde::Deserialize;

use super::{Api, ApiError, By, JsonBody, Operation, Routes, error::Id};
use crate::http::forwarding::forward;
use crate::service::bounds::{StatusText, UserId};
use crate::service::word;
use crate::{
    auth::Permission,
    service::{
        FoundStatus, ReadStatus, WhoIsIn,
        api::{FindUser, OnBehalfOf, UserPresence, find_user},
        attendance::SetStatus,
        emissions::attendance::{Here, Status, UserStatus},
    },
};
/// Returns the routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    use Permission::ApiPresence;
    Routes::new()
        .on(
            Method::GET,
            "/conversations/{id}/presence",
            forward!(Id(id): Id => chat.who_is_in(WhoIsIn { id })),
            Operation::new(
                "conversationPresence",
                "Reads the users in a conversation.",
                ApiPresence,
            )
            .id("id", "The id of the conversation.")
            .answer::<Here>(200)
            .refuses(404),
        )
        .on(
            Method::GET,
            "/users/{id}/presence",
            forward!(Path(user): Path<String> => find_user(io, FindUser { user })),
            Operation::new(
                "userPresence",
                "Reads the connections and conversations of a user.",
                ApiPresence,
            )
            .segment::<UserId>("id", "The id of the user.")
            .answer::<UserPresence>(200),
        )
        .on(
            Method::GET,
            "/users/{id}/status",
            status,
            Operation::new("userStatus", "Reads the status of a user.", ApiPresence)
                .segment::<UserId>("id", "The id of the user.")
                .answer::<FoundStatus>(200),
        )
        .on(
            Method::PUT,
            "/users/{id}/status",
            set_status,
            Operation::new("setUserStatus", "Sets the status of a user.", ApiPresence)
                .publishes()
                .segment::<UserId>("id", "The id of the user.")
                .gives::<SetStatus>()
                .body::<NewStatus>()
                .answer::<UserStatus>(200),
        )
}

/// A new status of a user.
#[derive(Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
#[schemars(rename = "SetUserStatus")]
struct NewStatus {
    #[serde(deserialize_with = "word")]
    status: Status,
    /// Default: no text.
    #[schemars(with = "Option<StatusText>")]
    text: Option<String>,
}

async fn status(
    State(at): State<Api>,
    Extension(by): By,
    Path(user): Path<String>,
) -> Result<Response, ApiError> {
    let allowed = at.access.allow(by, ReadStatus { user })?;
    Ok(Json(at.chat.found_status(allowed).await?).into_response())
}

async fn set_status(
    State(at): State<Api>,
    Extension(by): By,
    Path(user_id): Path<String>,
    JsonBody(NewStatus { status, text }): JsonBody<NewStatus>,
) -> Result<Response, ApiError> {
    let user = OnBehalfOf {
        field: "userId",
        user_id,
        name: None,
    };
    let command = SetStatus { status, text };
    let allowed = at.access.allow_served(by, Some(user), command)?;
    let status = at.chat.set_status(allowed, &at.namespace(), None).await?;
    Ok(Json(status).into_response())
}
