//! `/api/v1/sockets`: the sockets of all servers.

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::Method,
};

use super::{Api, ApiError, By, Operation, Parameters, Routes};
use crate::service::bounds::UserId;
use crate::{
    auth::Permission,
    service::api::{Disconnect, Disconnected, ListSockets, SocketList, disconnect, list_sockets},
};
/// Returns the routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    use Permission::ApiSockets;
    Routes::new()
        .on(
            Method::GET,
            "/sockets",
            list,
            Operation::new(
                "listSockets",
                "Lists the sockets of all servers.",
                ApiSockets,
            )
            .query::<ListSockets>()
            .answer::<SocketList>(200),
        )
        .on(
            Method::DELETE,
            "/sockets/{id}",
            close,
            Operation::new(
                "closeSocket",
                "Closes the connection of a socket.",
                ApiSockets,
            )
            .segment::<String>("id", "The id of the socket.")
            .answer::<Disconnected>(200)
            .refuses(404),
        )
        .on(
            Method::DELETE,
            "/users/{id}/sockets",
            close_user,
            Operation::new("closeUser", "Closes all connections of a user.", ApiSockets)
                .segment::<UserId>("id", "The id of the user.")
                .answer::<Disconnected>(200),
        )
}

async fn list(
    State(at): State<Api>,
    Extension(by): By,
    Parameters(wanted): Parameters<ListSockets>,
) -> Result<Json<SocketList>, ApiError> {
    let allowed = at.access.allow(by, wanted)?;
    Ok(Json(list_sockets(at.io(), allowed).await?))
}

async fn close(
    State(at): State<Api>,
    Extension(by): By,
    Path(id): Path<String>,
) -> Result<Json<Disconnected>, ApiError> {
    let allowed = at.access.allow(by, Disconnect::Socket(id))?;
    Ok(Json(disconnect(at.io(), allowed).await?))
}

async fn close_user(
    State(at): State<Api>,
    Extension(by): By,
    Path(id): Path<String>,
) -> Result<Json<Disconnected>, ApiError> {
    let allowed = at.access.allow(by, Disconnect::User(id))?;
    Ok(Json(disconnect(at.io(), allowed).await?))
}
