//! Logins, revocations and explanations over HTTP. This module has names and shapes, no rules.

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::{Method, StatusCode},
    response::{IntoResponse, Response},
};

use super::{Api, ApiError, By, JsonBody, Operation, Parameters, Routes, once::SecretBody};
use crate::{
    auth::Permission,
    service::{
        EndLogin, ExplainQuery, Explanation, MadeLogin, MadeRevocation, NewLogin, NewRevocation,
    },
};
/// Returns the routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    use Permission::{ApiExplain, ApiLogins, ApiRevocations};
    Routes::new()
        .on(
            Method::POST,
            "/sessions",
            make_login,
            Operation::new("makeSession", "Creates a login session.", ApiLogins)
                .body::<NewLogin>()
                .answer::<MadeLogin>(201),
        )
        .on(
            Method::DELETE,
            "/sessions/{id}",
            end_login,
            Operation::new(
                "endSession",
                "Ends a login session and disconnects its sockets.",
                ApiLogins,
            )
            .segment::<String>("id", "The id of the session.")
            .refuses(404),
        )
        .on(
            Method::POST,
            "/revocations",
            revoke,
            Operation::new(
                "revoke",
                "Revokes a token, a session, a user or a role.",
                ApiRevocations,
            )
            .body::<NewRevocation>()
            .answer::<MadeRevocation>(200),
        )
        .on(
            Method::GET,
            "/explain",
            explain,
            Operation::new(
                "explain",
                "Explains whether a user may send an event.",
                ApiExplain,
            )
            .query::<ExplainQuery>()
            .answer::<Explanation>(200)
            .refuses(404),
        )
}

async fn make_login(
    State(at): State<Api>,
    Extension(by): By,
    JsonBody(new): JsonBody<NewLogin>,
) -> Result<Response, ApiError> {
    let made = at.access.make_login(at.access.allow(by, new)?).await?;
    let mut response = (StatusCode::CREATED, Json(made)).into_response();
    response.extensions_mut().insert(SecretBody);
    Ok(response)
}

async fn end_login(
    State(at): State<Api>,
    Extension(by): By,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let allowed = at.access.allow(by, EndLogin { id })?;
    at.access.end_login(at.io(), allowed).await?;
    Ok(StatusCode::NO_CONTENT)
}

async fn revoke(
    State(at): State<Api>,
    Extension(by): By,
    JsonBody(new): JsonBody<NewRevocation>,
) -> Result<Response, ApiError> {
    let is_of_user = new.user_id.is_some();
    let made = at.access.revoke(at.io(), at.access.allow(by, new)?).await?;
    // After the answer no follower receives anything by a token that was revoked: its `jti`, its
    // `sid` or one of its roles. A revoked user has no sockets any more.
    if !is_of_user {
        at.channels.end_revoked(&at.namespace());
    }
    Ok(Json(made).into_response())
}

async fn explain(
    State(at): State<Api>,
    Extension(by): By,
    Parameters(question): Parameters<ExplainQuery>,
) -> Result<Response, ApiError> {
    let channels = |by: &_, event: &_, channel: &_, is_service| {
        at.channels.explain(by, event, channel, is_service)
    };
    let allowed = at.access.allow(by, question)?;
    let why = at.access.explain(at.io(), &channels, allowed).await?;
    Ok(Json(why).into_response())
}
