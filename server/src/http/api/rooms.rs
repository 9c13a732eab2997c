//! `/api/v1/rooms`: rooms and their number of sockets on all servers.

use axum::{
    Extension, Json,
    extract::{Path, State},
    http::Method,
};

use super::{Api, ApiError, By, Operation, Parameters, Routes};
use crate::service::bounds::RoomName;
use crate::{
    auth::Permission,
    service::api::{ListRooms, LookAtRoom, RoomList, RoomStatistics, list_rooms, look_at_room},
};
/// Returns the routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    use Permission::ApiRooms;
    Routes::new()
        .on(
            Method::GET,
            "/rooms",
            list,
            Operation::new(
                "listRooms",
                "Lists the rooms and how many sockets are in each.",
                ApiRooms,
            )
            .query::<ListRooms>()
            .refuses(409)
            .answer::<RoomList>(200),
        )
        .on(
            Method::GET,
            "/rooms/{room}",
            look,
            Operation::new("roomStatistics", "Says who is in a room.", ApiRooms)
                .segment::<RoomName>("room", "The name of the room.")
                .answer::<RoomStatistics>(200)
                .refuses(404),
        )
}

async fn list(
    State(at): State<Api>,
    Extension(by): By,
    Parameters(wanted): Parameters<ListRooms>,
) -> Result<Json<RoomList>, ApiError> {
    let allowed = at.access.allow(by, wanted)?;
    Ok(Json(list_rooms(at.io(), allowed).await?))
}

async fn look(
    State(at): State<Api>,
    Extension(by): By,
    Path(room): Path<String>,
) -> Result<Json<RoomStatistics>, ApiError> {
    let allowed = at.access.allow(by, LookAtRoom { room })?;
    Ok(Json(look_at_room(at.io(), allowed).await?))
}
