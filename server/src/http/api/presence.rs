//! `/api/v1/…/presence`: who is where, for other services.

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::Method,
    response::{IntoResponse, Response},
};

use super::{ApiError, By, Operation, Routes, error::Id};
use crate::{
    auth::Permission,
    service::{
        Access, Chat, WhoIsIn,
        api::{FindUser, UserPresence, find_user},
        emissions::attendance::Here,
    },
};
use roomcast::Io;

/// The routes, below `/api/v1`.
pub(super) fn routes(chat: Chat, access: Access, io: Io) -> Routes {
    use Permission::ApiPresence;
    Routes::new()
        .on(
            Method::GET,
            "/conversations/{id}/presence",
            conversation,
            Operation::new(
                "conversationPresence",
                "Says who is in a conversation.",
                ApiPresence,
            )
            .id("id", "The id of the conversation.")
            .answer::<Here>(200),
        )
        .on(
            Method::GET,
            "/users/{id}/presence",
            user,
            Operation::new("userPresence", "Says where a user is.", ApiPresence)
                .segment("id", "The id of the user.")
                .answer::<UserPresence>(200),
        )
        .with_state(PresenceApi { chat, access, io })
}

#[derive(Clone)]
struct PresenceApi {
    chat: Chat,
    access: Access,
    io: Io,
}

async fn conversation(
    State(at): State<PresenceApi>,
    Extension(by): By,
    Id(id): Id,
) -> Result<Response, ApiError> {
    let allowed = at.access.allow(by, WhoIsIn { id })?;
    Ok(Json(at.chat.who_is_in(allowed)).into_response())
}

async fn user(
    State(at): State<PresenceApi>,
    Extension(by): By,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let allowed = at.access.allow(by, FindUser { user: id })?;
    Ok(Json(find_user(&at.io, allowed).await?).into_response())
}
