//! `/api/v1/rooms`: rooms and their number of sockets on all servers.

use axum::{extract::Path, http::Method};

use super::{Api, Operation, Parameters, Routes};
use crate::http::forwarding::forward;
use crate::service::bounds::RoomName;
use crate::{
    auth::Permission,
    service::api::{DescribeRoom, ListRooms, RoomList, RoomStatistics, describe_room, list_rooms},
};
/// Returns the routes, below `/api/v1`.
pub(super) fn routes() -> Routes<Api> {
    use Permission::ApiRooms;
    Routes::new()
        .on(
            Method::GET,
            "/rooms",
            forward!(Parameters(query): Parameters<ListRooms> => list_rooms(io, query)),
            Operation::new(
                "listRooms",
                "Lists the rooms with the number of sockets in each.",
                ApiRooms,
            )
            .query::<ListRooms>()
            .refuses(409)
            .answer::<RoomList>(200),
        )
        .on(
            Method::GET,
            "/rooms/{room}",
            forward!(Path(room): Path<String> => describe_room(io, DescribeRoom { room })),
            Operation::new("roomStatistics", "Counts the sockets in a room.", ApiRooms)
                .segment::<RoomName>("room", "The name of the room.")
                .answer::<RoomStatistics>(200)
                .refuses(404),
        )
}
