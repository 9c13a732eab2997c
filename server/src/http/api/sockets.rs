//! `/api/v1/sockets` and `/api/v1/rooms`: the sockets and rooms of all servers.

use axum::{extract::Path, http::Method};

use super::{Api, Operation, Parameters, Routes};
use crate::http::forwarding::forward;
use crate::service::bounds::{RoomName, UserId};
use crate::{
    auth::Permission,
    service::api::{
        DescribeRoom, DescribeSocket, Direction, Disconnect, Disconnected, ListRooms, ListSockets,
        MoveSocket, MovedSocket, RoomList, RoomStatistics, SocketInfo, SocketList, describe_room,
        describe_socket, disconnect, list_rooms, list_sockets, move_socket,
    },
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
                "Lists or searches the sockets of all servers.",
                ApiSockets,
            )
            .query::<ListSockets>()
            .answer::<SocketList>(200),
        )
        .on(
            Method::GET,
            "/sockets/{id}",
            forward!(Path(id): Path<String> => describe_socket(io, DescribeSocket { id })),
            Operation::new("readSocket", "Reads the details of a socket.", ApiSockets)
                .segment::<String>("id", "The id of the socket.")
                .answer::<SocketInfo>(200)
                .refuses(404),
        )
        .on(
            Method::PUT,
            "/sockets/{id}/rooms/{room}",
            forward!(Path((id, room)): Path<(String, String)> =>
                move_socket(io, MoveSocket { id, room, direction: Direction::Join })),
            moving(
                "joinRoom",
                "Adds a socket to a room that the server does not manage itself.",
            ),
        )
        .on(
            Method::DELETE,
            "/sockets/{id}/rooms/{room}",
            forward!(Path((id, room)): Path<(String, String)> =>
                move_socket(io, MoveSocket { id, room, direction: Direction::Leave })),
            moving(
                "leaveRoom",
                "Removes a socket from a room that the server does not manage itself.",
            ),
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
        .on(
            Method::GET,
            "/rooms",
            forward!(Parameters(query): Parameters<ListRooms> => list_rooms(io, query)),
            Operation::new(
                "listRooms",
                "Lists the rooms with the number of sockets in each.",
                Permission::ApiRooms,
            )
            .query::<ListRooms>()
            .refuses(409)
            .answer::<RoomList>(200),
        )
        .on(
            Method::GET,
            "/rooms/{room}",
            forward!(Path(room): Path<String> => describe_room(io, DescribeRoom { room })),
            Operation::new(
                "roomStatistics",
                "Counts the sockets in a room.",
                Permission::ApiRooms,
            )
            .segment::<RoomName>("room", "The name of the room.")
            .answer::<RoomStatistics>(200)
            .refuses(404),
        )
}

fn moving(id: &'static str, summary: &'static str) -> Operation {
    Operation::new(id, summary, Permission::ApiSockets)
        .segment::<String>("id", "The id of the socket.")
        .segment::<RoomName>("room", "The name of the room.")
        .answer::<MovedSocket>(200)
        .refuses(404)
        .refuses(409)
}
