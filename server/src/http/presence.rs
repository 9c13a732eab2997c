//! `/api/v1/…/presence`: who is where, for other services.

use std::sync::Arc;

use axum::{
    Extension, Json, Router,
    extract::{Path, State},
    response::{IntoResponse, Response},
    routing::get,
};
use uuid::Uuid;

use super::api::ApiError;
use crate::{
    auth::Principal,
    service::{Access, Chat, FindUser, WhoIsIn},
};
use roomcast::Io;

/// The routes, below `/api/v1`.
pub(crate) fn routes(chat: Chat, access: Access, io: Io) -> Router {
    Router::new()
        .route("/conversations/{id}/presence", get(conversation))
        .route("/users/{id}/presence", get(user))
        .with_state(PresenceApi { chat, access, io })
}

#[derive(Clone)]
struct PresenceApi {
    chat: Chat,
    access: Access,
    io: Io,
}

type By = Extension<Arc<Principal>>;

async fn conversation(
    State(at): State<PresenceApi>,
    Extension(by): By,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let id = Uuid::try_parse(&id).map_err(|_| ApiError::invalid("the id is no UUID"))?;
    let allowed = at.access.allow(by, WhoIsIn { id })?;
    Ok(Json(at.chat.who_is_in(allowed)).into_response())
}

async fn user(
    State(at): State<PresenceApi>,
    Extension(by): By,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let allowed = at.access.allow(by, FindUser { user: id })?;
    Ok(Json(at.chat.where_is(&at.io, allowed).await?).into_response())
}
