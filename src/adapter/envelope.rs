//! Envelopes, which servers exchange: an owned operation, or a reply to a request.

use std::time::Duration;

use roomcast_protocol::socket::{Args, Arguments, Nsp};

use super::operation::{
    Audience, Delivery, Flags, Kind, Operation, OperationKind, Position, Target,
};
pub(super) use super::operation::{Item, NodeId};
use crate::names::{Room, RoomName, SocketId};

/// A message from one server to other servers. Cloning copies no arguments.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Envelope {
    /// The sender.
    pub node: NodeId,
    /// The sequence number of the envelope at its sender. Receivers apply a repeated number once.
    /// `None` on foreign wire formats without numbers; such an envelope is always applied.
    pub number: Option<u64>,
    /// The content.
    pub message: Message,
    /// Whether the envelope arrived sealed, which proves that its sender knows a secret of the
    /// cluster. The encoded envelope does not contain this field. The adapter sets it after it
    /// opens the envelope.
    pub was_sealed: bool,
}

impl Envelope {
    /// Creates an envelope of this sender.
    #[must_use]
    pub const fn new(node: NodeId, number: Option<u64>, message: Message) -> Self {
        Self {
            node,
            number,
            message,
            was_sealed: false,
        }
    }

    /// Returns which servers must receive the envelope.
    #[must_use]
    pub fn channel(&self) -> Channel<'_> {
        match &self.message {
            Message::Publication(publication) => publication.channel(),
            Message::Reply(reply) => Channel::Node(&reply.to),
        }
    }
}

/// The servers that must receive an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Channel<'a> {
    /// All other servers.
    All,
    /// The servers on which this room of this namespace is open. Additional receivers do no harm.
    Room(&'a str, &'a Room),
    /// The server with this name.
    Node(&'a NodeId),
}

/// The content of an envelope.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Message {
    /// An operation to apply to the sockets of other servers.
    Publication(Publication),
    /// A reply to a request.
    Reply(Reply),
}

/// An operation that one server has applied and the other servers must apply.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Publication {
    /// The namespace. It may not exist on the receiving server.
    pub namespace: Nsp,
    /// The rooms whose members the operation targets, each member once. `None` means the whole
    /// namespace.
    pub rooms: Option<Vec<Room>>,
    /// Rooms whose members are excluded. A name may be the id of a socket.
    pub except: Vec<Room>,
    /// The delivery of an event to slow clients.
    pub delivery: Delivery,
    /// Whether an event may be compressed.
    pub compress: bool,
    /// The time limit for acknowledgements and answers.
    pub timeout: Option<Duration>,
    /// The number to which replies refer, for kinds that request replies.
    pub request: Option<u64>,
    /// The position in the journal, if the operation comes from a journal.
    pub position: Option<Position>,
    /// The operation.
    pub kind: Kind,
}

impl Publication {
    /// Creates a publication for a whole namespace, with the defaults of an ordinary event.
    #[must_use]
    pub const fn new(namespace: Nsp, kind: Kind) -> Self {
        Self {
            namespace,
            rooms: None,
            except: Vec::new(),
            delivery: Delivery::Reliable,
            compress: true,
            timeout: None,
            request: None,
            position: None,
            kind,
        }
    }

    /// Returns the room's channel for an event to one room, and `Channel::All` otherwise. Adapters
    /// need not follow the room of a socket's own id, so it does not count.
    fn channel(&self) -> Channel<'_> {
        match (&self.kind, self.rooms.as_deref()) {
            (Kind::Broadcast { .. }, Some([room])) if SocketId::parse(room.as_str()).is_none() => {
                Channel::Room(self.namespace.as_str(), room)
            }
            _ => Channel::All,
        }
    }

    pub(crate) fn audience(&self) -> Audience<'_> {
        match self.rooms.as_deref() {
            None => Audience::All,
            Some([room]) => Audience::One(room.into()),
            Some(rooms) => Audience::Many(rooms.iter().map(Into::into).collect()),
        }
    }

    pub(crate) fn excepted(&self) -> Vec<RoomName<'_>> {
        self.except.iter().map(Into::into).collect()
    }

    /// Returns the operation to apply on this server. `stream` maps a delivery to the local number
    /// of its stream.
    pub(crate) fn operation<'a>(
        &'a self,
        rooms: &'a Audience<'a>,
        except: &'a [RoomName<'a>],
        stream: impl FnOnce(&Delivery) -> u64,
    ) -> Operation<'a> {
        let flags = Flags {
            delivery: self.delivery.clone().map(|_| Some(stream(&self.delivery))),
            compress: self.compress,
            timeout: self.timeout,
            position: self.position,
            replaces: None,
        };
        let target = Target {
            namespace: &self.namespace,
            rooms,
            except,
            sender: None,
            // Operations from other servers are never published again.
            local: true,
            flags,
            stream: None,
        };
        let kind: OperationKind<'a> = match &self.kind {
            Kind::Broadcast { event, args } => Kind::Broadcast {
                event: &**event,
                args,
            },
            Kind::BroadcastWithAck { event, args } => Kind::BroadcastWithAck {
                event: &**event,
                args,
            },
            Kind::Join(rooms) => Kind::Join(&**rooms),
            Kind::Leave(rooms) => Kind::Leave(&**rooms),
            Kind::Disconnect { close } => Kind::Disconnect { close: *close },
            Kind::FetchSockets => Kind::FetchSockets,
            Kind::ServerSide { event, args } => Kind::ServerSide {
                event: &**event,
                args,
            },
            Kind::ServerSideWithAck { event, args } => Kind::ServerSideWithAck {
                event: &**event,
                args,
            },
        };
        Operation { target, kind }
    }
}

impl Operation<'_> {
    /// Converts the operation for other servers. `args` encodes the arguments like those of
    /// clients.
    pub(crate) fn publication<X>(
        &self,
        args: impl FnOnce(&dyn Arguments) -> Result<Args, X>,
    ) -> Result<Publication, X> {
        let Target {
            namespace,
            rooms,
            except,
            sender,
            local: _,
            flags,
            stream,
        } = &self.target;
        // The sender is not a socket of the other servers, so they exclude the room of its id.
        let sender = sender.as_ref().map(|id| Room::from(id.as_str()));
        let except = except.iter().map(|name| name.clone().into_room());
        let kind = self.kind.clone();
        Ok(Publication {
            namespace: Nsp::clone(namespace),
            rooms: rooms.names(),
            except: except.chain(sender).collect(),
            delivery: flags.delivery.map(|_| stream.map(Into::into)),
            compress: flags.compress,
            timeout: flags.timeout,
            request: None,
            position: None,
            kind: kind.map(Into::into, args, <[Room]>::to_vec)?,
        })
    }
}

/// A reply to a request. A server with several items sends several replies.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reply {
    /// The server that sent the request.
    pub to: NodeId,
    /// The number of the request.
    pub request: u64,
    /// The number of items that this server sends, once it is known: the number of requested
    /// clients, the number of parts of a list of sockets, 1 for an answer, or 0 for no items.
    pub total: Option<u32>,
    /// One of these items.
    pub item: Option<Item>,
}

impl Reply {
    /// Creates a reply to a request of the server `to`.
    #[must_use]
    pub const fn new(to: NodeId, request: u64, total: Option<u32>, item: Option<Item>) -> Self {
        Self {
            to,
            request,
            total,
            item,
        }
    }
}
