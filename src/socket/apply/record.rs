//! What one server tells another about a socket.

use roomcast_protocol::socket::{Args, EncodeError, Parser};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

use crate::socket::{
    core::Socket,
    types::{Room, Shared, SocketId, args},
};

/// What is known about a socket of another server.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    pub(crate) id: SocketId,
    #[serde(deserialize_with = "rooms")]
    pub(crate) rooms: Vec<Room>,
    pub(crate) handshake: Value,
    #[serde(default)]
    pub(crate) data: Value,
}

/// Rooms of Node servers may be numbers.
fn rooms<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Room>, D::Error> {
    let names = Vec::<Value>::deserialize(deserializer)?;
    let room = |name: &Value| match name.as_str() {
        Some(name) => Room::from(name),
        None => Room::from(name.to_string()),
    };
    Ok(names.iter().map(room).collect())
}

impl Record {
    pub(crate) fn of(socket: &Socket) -> Self {
        let mut handshake = serde_json::to_value(socket.handshake()).unwrap_or_default();
        // Credentials are not sent: they stay on the server that has verified them.
        if let Some(Value::Object(headers)) = handshake.get_mut("headers") {
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

    /// The arguments of one part of a list.
    pub(crate) fn list(records: &[Self]) -> Result<Args, EncodeError> {
        args::arguments(Parser::Json, &records)
    }
}
