//! What operators see and do in the admin UI of Socket.IO. The services of the HTTP API execute it.

use std::sync::Arc;

use serde::Serialize;
use serde_json::{Value, json};

use super::Admin;
use crate::auth::{Permission, Principal};
use crate::service::api::emit::{self, Emit};
use crate::service::api::sockets::{self, ListSockets, SocketInfo};
use crate::service::audit::Requester;
use crate::service::fault::ServiceError;
use crate::service::rules::content::MAX_PAGE;
use crate::service::rules::event::Command;
use crate::service::rules::rooms::is_managed;
use crate::store::Time;
use roomcast::{Io, Room, Socket, SocketId};

/// An act of an operator on the sockets of the chat.
#[derive(Debug)]
pub(crate) enum UiAct {
    /// Sends an event.
    Emit(Emit),
    /// Adds sockets to a room.
    Join(RoomChange),
    /// Removes sockets from a room.
    Leave(RoomChange),
    /// Disconnects sockets.
    Disconnect(UiDisconnect),
}

/// A room, and the sockets that join or leave it.
#[derive(Debug)]
pub(crate) struct RoomChange {
    pub(crate) room: String,
    /// The room of these sockets, or the id of one.
    pub(crate) whom: String,
}

impl Command for RoomChange {
    const PERMISSION: Option<Permission> = Some(Permission::ApiSockets);
}

/// Sockets that are disconnected.
#[derive(Debug)]
pub(crate) struct UiDisconnect {
    /// The room of these sockets, or the id of one.
    pub(crate) whom: String,
    /// Whether their connections are closed too. Stock clients do not reconnect in either case.
    pub(crate) closes: bool,
}

impl Command for UiDisconnect {
    const PERMISSION: Option<Permission> = Some(Permission::ApiSockets);
}

impl UiAct {
    /// Returns the name of the act in the audit log, and its request.
    fn described(&self) -> (&'static str, Value) {
        match self {
            Self::Emit(emit) => {
                let request = json!({
                    "event": emit.event, "args": emit.args.len(), "rooms": emit.rooms,
                    "everyone": emit.everyone,
                });
                ("admin-ui:emit", request)
            }
            Self::Join(change) => ("admin-ui:join", change.described()),
            Self::Leave(change) => ("admin-ui:leave", change.described()),
            Self::Disconnect(UiDisconnect { whom, closes }) => {
                let request =
                    json!({"rooms": [whom], "type": if *closes { "close" } else { "leave" }});
                ("admin-ui:disconnect", request)
            }
        }
    }
}

impl RoomChange {
    fn described(&self) -> Value {
        json!({"room": self.room, "rooms": [self.whom]})
    }

    /// Refuses rooms of the server, whose members have rights that they would get or lose, and
    /// rooms of single sockets.
    fn check(&self) -> Result<(), ServiceError> {
        check_room("room", &self.room)?;
        if is_managed(&self.room) {
            let problem = "is one of the server's own rooms: its members are decided by the server";
            return Err(ServiceError::invalid("room", problem));
        }
        check_room("filter", &self.whom)
    }
}

fn check_room(field: &'static str, room: &str) -> Result<(), ServiceError> {
    if room.is_empty() || room.len() > Room::MAX_BYTES {
        let problem = format!("must have 1 to {} bytes", Room::MAX_BYTES);
        return Err(ServiceError::invalid(field, problem));
    }
    Ok(())
}

impl Admin {
    /// Performs an act of an operator, and records it in the audit log.
    ///
    /// # Errors
    ///
    /// If the role of the UI does not allow it, or it is invalid or cannot be recorded.
    pub(crate) async fn act_in_ui(&self, socket: &Socket, act: UiAct) -> Result<(), ServiceError> {
        let by = socket.principal();
        // Acts without the permission are not recorded, because they could fill the audit log.
        let permission = match act {
            UiAct::Emit(_) => Permission::ApiEmit,
            UiAct::Join(_) | UiAct::Leave(_) | UiAct::Disconnect(_) => Permission::ApiSockets,
        };
        self.0.access.require(&by, permission)?;
        let requester = Requester::of_socket(&by, socket);
        let (name, request) = act.described();
        tracing::info!(by = by.subject, act = name, %request, "an act in the admin UI");
        let acting = self.act_recorded(by, act);
        let acted = self.recorded(requester, name, &request, acting).await;
        acted.map(drop)
    }

    async fn act_recorded(&self, by: Arc<Principal>, act: UiAct) -> Result<Value, ServiceError> {
        let io = &self.built()?.io;
        let access = &self.0.access;
        match act {
            UiAct::Emit(emit) => {
                let emission = emit::publish(io, access.allow(by, emit)?).await?;
                return Ok(serde_json::to_value(emission).unwrap_or_default());
            }
            UiAct::Join(change) => {
                let (_, change) = access.allow(by, change)?.into_parts();
                change.check()?;
                io.to(&*change.whom).join(&*change.room);
            }
            UiAct::Leave(change) => {
                let (_, change) = access.allow(by, change)?.into_parts();
                change.check()?;
                io.to(&*change.whom).leave(&*change.room);
            }
            UiAct::Disconnect(disconnect) => {
                let (_, disconnect) = access.allow(by, disconnect)?.into_parts();
                check_room("filter", &disconnect.whom)?;
                let whom = io.to(&*disconnect.whom);
                if disconnect.closes {
                    whom.close_connections();
                } else {
                    whom.disconnect();
                }
            }
        }
        Ok(json!({}))
    }

    /// Returns sockets of all servers in the order of their ids: at most 1,000, and about 512 KiB.
    ///
    /// # Errors
    ///
    /// If the role of the UI does not allow it.
    pub(crate) async fn sockets_for_ui(
        &self,
        by: &Arc<Principal>,
    ) -> Result<Vec<UiSocket>, ServiceError> {
        let io = &self.built()?.io;
        let mut found = Vec::new();
        let (mut bytes, mut cursor) = (0, None);
        while found.len() < MAX_SOCKETS {
            let query = ListSockets {
                cursor: cursor.map(|id: SocketId| id.as_str().to_owned()),
                limit: Some(MAX_PAGE),
                ..ListSockets::default()
            };
            let allowed = self.0.access.allow(Arc::clone(by), query)?;
            let page = sockets::list_sockets(io, allowed).await?;
            for socket in page.sockets {
                let socket = UiSocket::from(socket);
                bytes += serde_json::to_string(&socket).map_or(0, |text| text.len());
                if bytes > MAX_BYTES || found.len() == MAX_SOCKETS {
                    return Ok(found);
                }
                found.push(socket);
            }
            cursor = page.cursor;
            if cursor.is_none() {
                break;
            }
        }
        Ok(found)
    }
}

/// A socket of the chat as the UI expects it. Headers and parameters of its request can have
/// credentials and are empty.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct UiSocket {
    id: SocketId,
    /// The UI groups sockets by connection. A connection has one socket in the chat.
    client_id: SocketId,
    transport: String,
    nsp: &'static str,
    data: UiSocketData,
    handshake: UiHandshake,
    rooms: Vec<Room>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct UiSocketData {
    user_id: String,
    name: String,
    node: String,
}

#[derive(Debug, Serialize)]
struct UiHandshake {
    address: String,
    headers: Empty,
    query: Empty,
    issued: Time,
    time: Time,
}

/// The object without fields.
#[derive(Clone, Copy, Debug, Serialize)]
struct Empty {}

impl UiSocket {
    /// Describes a socket of this server.
    pub(crate) fn of(io: &Io, socket: &Socket) -> Self {
        sockets::describe(socket, &sockets::node_of(io)).into()
    }

    /// Returns what can change while the socket is connected.
    pub(crate) fn into_data(self) -> impl Serialize {
        self.data
    }
}

impl From<SocketInfo> for UiSocket {
    fn from(info: SocketInfo) -> Self {
        // The room of its own id is how the UI recognizes private rooms.
        let own = Room::from(info.id.as_str());
        let rooms = [own].into_iter().chain(info.rooms).collect();
        Self {
            id: info.id.clone(),
            client_id: info.id,
            transport: info.transport,
            nsp: "/",
            data: UiSocketData {
                user_id: info.user_id,
                name: info.name,
                node: info.node,
            },
            handshake: UiHandshake {
                address: info.address,
                headers: Empty {},
                query: Empty {},
                issued: info.connection_time,
                time: info.connection_time,
            },
            rooms,
        }
    }
}

/// The sockets that the UI receives when it connects.
const MAX_SOCKETS: usize = 1000;
/// The maximum size of this list.
const MAX_BYTES: usize = 512 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rooms_of_the_server_cannot_be_joined_or_left_in_the_ui() {
        let check = |room: &str| {
            let change = RoomChange {
                room: room.into(),
                whom: "somebody".into(),
            };
            change.check()
        };
        assert!(check("news").is_ok());
        assert!(check("users").is_ok());
        let long = "x".repeat(Room::MAX_BYTES + 1);
        for room in [
            "",
            "user:ann",
            "user#1f",
            "conversation:1",
            "signals",
            "prices:x",
            "AAAAAAAAAAAAAAAAAAAA",
            &long,
        ] {
            assert!(check(room).is_err(), "{room}");
        }
    }
}
