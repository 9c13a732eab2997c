//! `GET /api/v1/users/{id}/export` and `DELETE /api/v1/users/{id}`: the data of a user, for
//! requests by the user and for administrators.

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::Method,
};

use super::api::{Api, ApiError, By, Operation, Parameters, Routes};
use crate::auth::Permission::ApiUsers;
use crate::service::api::{
    EraseQuery, EraseUser, Erasure, ExportQuery, ExportUser, UserExport, erase_user, export_user,
};
use crate::service::bounds::UserId;

/// Returns the routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    Routes::new()
        .on(
            Method::GET,
            "/users/{id}/export",
            export,
            Operation::new(
                "exportUser",
                "Exports all stored data of a user, page by page.",
                ApiUsers,
            )
            .recorded()
            .segment::<UserId>("id", "The id of the user.")
            .query::<ExportQuery>()
            .answer::<UserExport>(200),
        )
        .on(
            Method::DELETE,
            "/users/{id}",
            erase,
            Operation::new(
                "eraseUser",
                "Erases a user and its data. Repeat the request with the returned cursor until it is done.",
                ApiUsers,
            )
            .segment::<UserId>("id", "The id of the user.")
            .query::<EraseQuery>()
            .answer::<Erasure>(200),
        )
}

async fn export(
    State(at): State<Api>,
    Extension(by): By,
    Path(user): Path<String>,
    Parameters(query): Parameters<ExportQuery>,
) -> Result<Json<UserExport>, ApiError> {
    let allowed = at.access.allow(by, ExportUser { user, query })?;
    Ok(Json(export_user(&at.chat, allowed).await?))
}

async fn erase(
    State(at): State<Api>,
    Extension(by): By,
    Path(user): Path<String>,
    Parameters(query): Parameters<EraseQuery>,
) -> Result<Json<Erasure>, ApiError> {
    let allowed = at.access.allow(by, EraseUser { user, query })?;
    let io = &at.connections.io;
    Ok(Json(erase_user(io, &at.chat, allowed).await?))
}
