//! Snapshots of sockets on any server.

use std::collections::HashMap;

use roomcast_protocol::socket::{Argument, Arguments, EncodeError, Value};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

use super::Broadcast;
use crate::{
    adapter::{NodeId, Unanswered},
    socket::{
        apply::{Applied, Outcome, Record, RemoteOutcome, TargetNamespace},
        core::Socket,
        types::{AckError, Contract, EmitError, IntoRooms, Request, Room, Shared, SocketId, args},
    },
};

/// A snapshot of a socket on any server of a cluster.
#[derive(Clone, Debug)]
pub struct RemoteSocket {
    target_namespace: TargetNamespace,
    node: NodeId,
    id: SocketId,
    rooms: Vec<Room>,
    handshake: Json,
    data: Value,
}

impl RemoteSocket {
    fn new(target_namespace: &TargetNamespace, node: &NodeId, mut record: Record) -> Self {
        // Node.js servers include the room of the socket's own id.
        let own = record.id.as_str();
        record.rooms.retain(|room| room.as_str() != own);
        Self {
            target_namespace: target_namespace.clone(),
            node: node.clone(),
            id: record.id,
            rooms: record.rooms,
            handshake: record.handshake,
            data: record.data,
        }
    }

    /// Returns the id of the socket.
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.id.clone()
    }

    /// Returns the server that the socket is connected to.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// Returns the rooms that the socket had joined, unordered, without the room of its own id.
    #[must_use]
    pub fn rooms(&self) -> &[Room] {
        &self.rooms
    }

    /// Returns the request that opened the connection, in the format of a serialized
    /// [`Handshake`](crate::connection::Handshake).
    ///
    /// The headers `authorization` and `cookie` are omitted. Binary values, which sockets of
    /// Node.js servers may have, appear as `JSON.stringify` writes a `Buffer`.
    #[must_use]
    pub fn handshake(&self) -> &Json {
        &self.handshake
    }

    /// Returns the value that the socket's server has [shared](Socket::share), as `T`.
    ///
    /// Returns `None` if no value was shared or it is not a `T`. Binary is `Bytes`, and any value
    /// is a [`Value`](crate::Value).
    #[must_use]
    pub fn data<T: DeserializeOwned>(&self) -> Option<T> {
        if self.data == Value::Null {
            return None;
        }
        args::any_arguments(&(&self.data,)).ok()?.get(0).ok()
    }

    /// Selects only this socket, on its current server.
    pub fn target<'a>(&self) -> Broadcast<'a> {
        Broadcast::new(self.target_namespace.clone()).to(self.id.clone())
    }

    /// Sends an event to the socket.
    pub fn emit(&self, event: &str, args: impl Arguments) {
        self.target().emit(event, args);
    }

    /// Sends a typed event to the socket; see [`Contract`].
    pub fn send(&self, event: impl Contract) {
        self.target().send(event);
    }

    /// Sends a typed event to the socket and waits for its reply; see [`Request`].
    ///
    /// # Errors
    ///
    /// As [`emit_with_ack`](Self::emit_with_ack).
    pub async fn request<T: Request>(&self, event: T) -> Result<T::Reply, AckError> {
        self.emit_with_ack(T::EVENT, event).await
    }

    /// Sends an event to the socket and waits for its acknowledgement.
    ///
    /// `R` is one value, a tuple for several, or [`Args`](crate::Args) for all of them. The timeout
    /// is [`Config::ack_timeout`](crate::Config::ack_timeout). For a different one, use
    /// [`target`](Self::target) with [`timeout`](Broadcast::timeout) and
    /// [`emit_with_acks`](Broadcast::emit_with_acks).
    ///
    /// # Errors
    ///
    /// Returns [`AckError::Disconnected`] if the socket is no longer on any server. Otherwise as
    /// [`Socket::emit_with_ack`].
    pub async fn emit_with_ack<R: Argument>(
        &self,
        event: &str,
        args: impl Arguments,
    ) -> Result<R, AckError> {
        let mut answers = self.target().emit_with_acks(event, args);
        if let Some((_, answer)) = answers.next().await {
            return answer;
        }
        let is_missing = !answers.missing().is_empty();
        Err(match answers.into_error() {
            Some(EmitError::Encode(error)) => AckError::Encode(error),
            Some(EmitError::TooManyPending) => AckError::TooManyPending,
            // A server that did not answer may still have the socket.
            None if is_missing => AckError::Timeout,
            Some(EmitError::Closed | EmitError::TooLarge) | None => AckError::Disconnected,
        })
    }

    /// Adds the socket to rooms.
    pub fn join<'r, M>(&self, rooms: impl IntoRooms<'r, M>) {
        self.target().join(rooms);
    }

    /// Removes the socket from rooms.
    pub fn leave<'r, M>(&self, rooms: impl IntoRooms<'r, M>) {
        self.target().leave(rooms);
    }

    /// Disconnects the socket; see [`Socket::disconnect`].
    pub fn disconnect(&self) {
        self.target().disconnect();
    }

    /// Closes the connection of the socket; see [`Socket::close_connection`].
    pub fn close_connection(&self) {
        self.target().close_connections();
    }
}

/// Snapshots of the sockets of a cluster; see [`Broadcast::fetch_sockets`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Fetched {
    /// The sockets of all servers that answered.
    pub sockets: Vec<RemoteSocket>,
    /// The servers that did not answer, or whose answer was incomplete or invalid.
    pub missing: Unanswered,
}

impl Fetched {
    /// Returns the rooms of these sockets with their number of sockets, unordered. The sockets' own
    /// rooms are omitted.
    #[must_use]
    pub fn rooms(&self) -> Vec<(Room, usize)> {
        let mut sizes: HashMap<&Room, usize> = HashMap::new();
        for room in self.sockets.iter().flat_map(RemoteSocket::rooms) {
            *sizes.entry(room).or_default() += 1;
        }
        let owned = |(room, size): (&Room, usize)| (room.clone(), size);
        sizes.into_iter().map(owned).collect()
    }

    pub(super) async fn collect(target_namespace: &TargetNamespace, applied: Applied) -> Self {
        let mut fetched = Self {
            sockets: Vec::new(),
            missing: Unanswered::default(),
        };
        if let (Outcome::Sockets(local), TargetNamespace::Local(namespace)) =
            (&applied.local, target_namespace)
        {
            let own = |socket: &Socket| {
                RemoteSocket::new(target_namespace, &namespace.node, Record::of(socket))
            };
            fetched.sockets.extend(local.iter().map(own));
        }
        match applied.remote {
            RemoteOutcome::None | RemoteOutcome::Published => {}
            RemoteOutcome::Failed(why) => fetched.missing = why.missing(),
            RemoteOutcome::Requested(mut request) => {
                use crate::{adapter::Item, metrics::Counter};
                let mut unread = Vec::new();
                while let Some((node, item)) = request.next().await {
                    let Item::Sockets(list) = item else {
                        continue;
                    };
                    match Vec::<Record>::take(&list, &mut 0) {
                        Ok(records) => {
                            let remote =
                                |record| RemoteSocket::new(target_namespace, &node, record);
                            fetched.sockets.extend(records.into_iter().map(remote));
                        }
                        Err(error) => {
                            target_namespace.metrics().count(Counter::ClusterMalformed);
                            crate::throttled_log!(warn, %node, %error, "could not decode a socket list of another server");
                            if !unread.contains(&node) {
                                unread.push(node);
                            }
                        }
                    }
                }
                fetched.missing = request.missing();
                unread.retain(|node| !fetched.missing.nodes.contains(node));
                fetched.missing.nodes.extend(unread);
            }
        }
        fetched
    }
}

impl Socket {
    /// Shares a value with callers that [fetch](Broadcast::fetch_sockets) this socket on any
    /// server.
    ///
    /// The value replaces the previous one. No other [data](Socket::set_data) of a socket leaves
    /// its server. Bytes (`bytes::Bytes`, not `Vec<u8>`) are binary at any depth. Node.js servers
    /// receive them as `JSON.stringify` writes a `Buffer`.
    ///
    /// # Errors
    ///
    /// Fails if the value cannot be serialized or is nested deeper than 100 levels.
    pub fn share(&self, value: impl Serialize) -> Result<(), EncodeError> {
        let shown = args::any_arguments(&(value,))?;
        let value = shown.get(0).map_err(|_| EncodeError::InvalidArguments)?;
        if !is_flat(&value, MAX_LEVELS) {
            return Err(EncodeError::InvalidArguments);
        }
        self.set_data(Shared(value));
        Ok(())
    }
}

/// Returns whether a value has at most this many levels.
fn is_flat(value: &Value, levels: usize) -> bool {
    let is_inner_flat = |value: &Value| levels > 0 && is_flat(value, levels - 1);
    match value {
        Value::Array(values) => values.iter().all(is_inner_flat),
        Value::Object(fields) => fields.values().all(is_inner_flat),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Binary(_) => {
            true
        }
    }
}

/// Less than the limit of decoders, because lists of sockets wrap the value.
const MAX_LEVELS: usize = 100;
