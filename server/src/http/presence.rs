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
use crate::{auth::Principal, service::Chat};
use roomcast::Io;

/// The routes, below `/api/v1`.
pub(crate) fn routes(chat: Chat, io: Io) -> Router {
    Router::new()
        .route("/conversations/{id}/presence", get(conversation))
        .route("/users/{id}/presence", get(user))
        .with_state(Entrance { chat, io })
}

#[derive(Clone)]
struct Entrance {
    chat: Chat,
    io: Io,
}

type By = Extension<Arc<Principal>>;

async fn conversation(
    State(at): State<Entrance>,
    Extension(by): By,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let id = Uuid::try_parse(&id).map_err(|_| ApiError::invalid("the id is no UUID"))?;
    Ok(Json(at.chat.who_is_in(&by, id)?).into_response())
}

async fn user(
    State(at): State<Entrance>,
    Extension(by): By,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    Ok(Json(at.chat.where_is(&at.io, &by, id).await?).into_response())
}
