//! `/api/v1/sockets`: the sockets of all servers.

use axum::{extract::Path, http::Method};

use super::{Api, Operation, Parameters, Routes};
use crate::http::forwarding::forward;
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
            forward!(Parameters(query): Parameters<ListSockets> => list_sockets(io, query)),
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
            forward!(Path(id): Path<String> => disconnect(io, Disconnect::Socket(id))),
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
            forward!(Path(id): Path<String> => disconnect(io, Disconnect::User(id))),
            Operation::new("closeUser", "Closes all connections of a user.", ApiSockets)
                .segment::<UserId>("id", "The id of the user.")
                .answer::<Disconnected>(200),
        )
}
