//! The description of a socket that servers exchange.

use roomcast_protocol::socket::Value;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value as Json;

use crate::socket::{
    core::Socket,
    types::{Room, Shared, SocketId},
};

/// A snapshot of a socket on another server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: SocketId,
    #[serde(deserialize_with = "rooms")]
    pub(crate) rooms: Vec<Room>,
    #[serde(deserialize_with = "handshake")]
    pub(crate) handshake: Json,
    /// Node.js servers send any value here, including binary.
    #[serde(default)]
    pub(crate) data: Value,
}

/// Parses JSON that may contain binary, because the `auth` payload on Node.js servers may.
fn handshake<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Json, D::Error> {
    let value = Value::deserialize(deserializer)?;
    Ok(value.to_json_with_buffers())
}

/// Parses the names of rooms: strings, or numbers from Node.js servers.
fn rooms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Room>, D::Error> {
    let names = Vec::<Json>::deserialize(deserializer)?;
    let room = |name: &Json| match name.as_str() {
        Some(name) => Room::from(name),
        None => Room::from(name.to_string()),
    };
    Ok(names.iter().map(room).collect())
}

impl Record {
    pub(crate) fn of(socket: &Socket) -> Self {
        let mut handshake = serde_json::to_value(socket.handshake()).unwrap_or_default();
        // Credentials are omitted: they stay on the server that verified them.
        if let Some(Json::Object(headers)) = handshake.get_mut("headers") {
            for secret in ["authorization", "cookie"] {
                headers.remove(secret);
            }
        }
        let shared = socket.data::<Shared>();
        Self {
            id: socket.id(),
            rooms: socket.rooms(),
            handshake,
            data: shared.map_or(Value::Null, |shared| shared.0.clone()),
        }
    }

    /// Encodes the records of one part of a list as arguments.
    pub(crate) fn list(
        records: &[Self],
    ) -> Result<roomcast_protocol::socket::Args, roomcast_protocol::socket::EncodeError> {
        crate::socket::types::args::any_arguments(&records)
    }
}
