//! What is known of sockets wherever they are.

use std::collections::HashMap;

use roomcast_protocol::socket::{Argument, Arguments, EncodeError, Value};
use serde::{Serialize, de::DeserializeOwned};
use serde_json::Value as Json;

use super::Broadcast;
use crate::{
    adapter::{Missing, NodeId},
    socket::{
        apply::{Applied, Outcome, Record, RemoteOutcome, TargetNamespace},
        core::Socket,
        types::{AckError, Contract, EmitError, IntoRooms, Request, Room, Shared, SocketId, args},
    },
};

/// A socket of any server of a cluster, as it was when it was asked for.
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
        // Node servers tell the room of the socket's own id as well.
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

    /// The id of the socket.
    #[must_use]
    pub fn id(&self) -> SocketId {
        self.id
    }

    /// The server that it is connected to.
    #[must_use]
    pub fn node(&self) -> &NodeId {
        &self.node
    }

    /// The rooms it had joined, in no order, without that of its own id.
    #[must_use]
    pub fn rooms(&self) -> &[Room] {
        &self.rooms
    }

    /// The request that opened its connection, as a [`Handshake`](crate::Handshake) is serialized, but
    /// without the headers `authorization` and `cookie`. Binary in it, which sockets of Node servers may have, is as
    /// `JSON.stringify` writes a `Buffer`.
    #[must_use]
    pub fn handshake(&self) -> &Json {
        &self.handshake
    }

    /// What its server has [shown](Socket::share) of it, as `T`; `None` if that is nothing, or another
    /// thing. Binary is `Bytes`, and anything is a [`Value`](crate::Value).
    #[must_use]
    pub fn data<T: DeserializeOwned>(&self) -> Option<T> {
        if self.data == Value::Null {
            return None;
        }
        args::whatever(&(&self.data,)).ok()?.get(0).ok()
    }

    /// The socket alone, wherever it is now.
    pub fn target<'a>(&self) -> Broadcast<'a> {
        Broadcast::new(self.target_namespace.clone()).to(self.id)
    }

    /// Sends an event to it.
    pub fn emit(&self, event: &str, args: impl Arguments) {
        self.target().emit(event, args);
    }

    /// Sends a typed event to it; see [`Contract`].
    pub fn send(&self, event: impl Contract) {
        self.target().send(event);
    }

    /// Sends a typed event to it and waits for its reply; see [`Request`].
    ///
    /// # Errors
    ///
    /// As [`emit_with_ack`](Self::emit_with_ack).
    pub async fn request<T: Request>(&self, event: T) -> Result<T::Reply, AckError> {
        self.emit_with_ack(T::EVENT, event).await
    }

    /// Sends an event to it and waits for its acknowledgement: one value, a tuple for several, or
    /// [`Args`](crate::Args) for all of them. For another time than
    /// [`Config::ack_timeout`](crate::Config::ack_timeout), use [`target`](Self::target) with
    /// [`timeout`](Broadcast::timeout) and [`emit_with_acks`](Broadcast::emit_with_acks).
    ///
    /// # Errors
    ///
    /// [`AckError::Disconnected`] if the socket is on no server any more, and as for
    /// [`Socket::emit_with_ack`].
    pub async fn emit_with_ack<R: Argument>(
        &self,
        event: &str,
        args: impl Arguments,
    ) -> Result<R, AckError> {
        let mut answers = self.target().emit_with_acks(event, args).await;
        if let Some((_, answer)) = answers.next().await {
            return answer;
        }
        let is_missing = !answers.missing().is_empty();
        Err(match answers.into_error() {
            Some(EmitError::Encode(error)) => AckError::Encode(error),
            Some(EmitError::TooManyPending) => AckError::TooManyPending,
            // A server that did not say whether it has the socket may have it.
            None if is_missing => AckError::Timeout,
            Some(EmitError::Closed | EmitError::TooLarge) | None => AckError::Disconnected,
        })
    }

    /// Lets it join rooms.
    pub fn join<'r, M>(&self, rooms: impl IntoRooms<'r, M>) {
        self.target().join(rooms);
    }

    /// Lets it leave rooms.
    pub fn leave<'r, M>(&self, rooms: impl IntoRooms<'r, M>) {
        self.target().leave(rooms);
    }

    /// Disconnects it; see [`Socket::disconnect`].
    pub fn disconnect(&self, close: bool) {
        self.target().disconnect(close);
    }
}

/// What is known of the sockets of a cluster; see [`Broadcast::fetch_sockets`].
#[derive(Debug)]
#[non_exhaustive]
pub struct Fetched {
    /// The sockets of all servers that have answered.
    pub sockets: Vec<RemoteSocket>,
    /// The servers that have not, or not completely, or in a way that nobody can read.
    pub missing: Missing,
}

impl Fetched {
    /// The rooms of these sockets and how many of the sockets each has, in no order; without the
    /// sockets' own rooms.
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
            missing: Missing::default(),
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
            #[cfg(feature = "cluster")]
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
                            crate::throttled_log!(warn, %node, %error, "a list of sockets cannot be read");
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
    /// Shows a value to whoever [fetches](Broadcast::fetch_sockets) this socket, on this server and on
    /// others; it replaces what was shown before. Nothing else of what is [kept](Socket::set_data) with
    /// a socket leaves its server. Bytes (`bytes::Bytes`, not `Vec<u8>`) are binary at any depth; servers of Node
    /// get them as `JSON.stringify` writes a `Buffer`.
    ///
    /// # Errors
    ///
    /// When it cannot be serialized, or is nested deeper than a hundred levels.
    pub fn share(&self, value: impl Serialize) -> Result<(), EncodeError> {
        let shown = args::whatever(&(value,))?;
        let value = shown.get(0).map_err(|_| EncodeError::InvalidArguments)?;
        if !is_flat(&value, MAX_LEVELS) {
            return Err(EncodeError::InvalidArguments);
        }
        self.set_data(Shared(value));
        Ok(())
    }
}

/// Whether a value has no more than so many levels.
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

/// Less than what decoders take, since lists of sockets lie around it.
const MAX_LEVELS: usize = 100;
