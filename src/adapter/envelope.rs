//! What goes from one server to another: an operation that owns its parts, or a reply to one.

use std::time::Duration;

use roomcast_protocol::socket::{Args, Nsp};

use super::operation::{Audience, Delivery, Flags, Kind, Operation, Position, Target};
pub(super) use super::operation::{Item, NodeId};
use crate::names::{Room, RoomName, SocketId};

/// What one server sends to another. Cloning copies no arguments.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Envelope {
    /// Who has sent it.
    pub node: NodeId,
    /// Which one of its sender it is, so that one that comes twice is applied once. `None` where a
    /// foreign wire numbers nothing: such an envelope is always applied.
    pub number: Option<u64>,
    /// What it says.
    pub message: Message,
    /// Whether the envelope came sealed, so that its sender knows a secret of the cluster. It is not part of the
    /// envelope's bytes: the adapter that has opened the envelope sets it.
    pub was_sealed: bool,
}

impl Envelope {
    /// An envelope of this sender.
    #[must_use]
    pub const fn new(node: NodeId, number: Option<u64>, message: Message) -> Self {
        Self {
            node,
            number,
            message,
            was_sealed: false,
        }
    }

    /// Who must get it, if not every other server.
    #[must_use]
    pub fn channel(&self) -> Channel<'_> {
        match &self.message {
            Message::Publication(publication) => publication.channel(),
            Message::Reply(reply) => Channel::Node(&reply.to),
        }
    }
}

/// Which servers must get an envelope.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Channel<'a> {
    /// All other servers.
    All,
    /// The servers on which this room of this namespace is open; that all others get the envelope does no harm.
    Room(&'a str, &'a Room),
    /// The server of this name.
    Node(&'a NodeId),
}

/// What an envelope says.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Message {
    /// An operation for the sockets of other servers.
    Publication(Publication),
    /// What a server has to say to an operation that it was asked about.
    Reply(Reply),
}

/// An operation that was applied on one server and is to be applied on the others.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Publication {
    /// The namespace, which need not exist where it arrives.
    pub namespace: Nsp,
    /// The rooms whose members the operation is about, each member once; `None` is the whole namespace.
    pub rooms: Option<Vec<Room>>,
    /// Members of these are left out; the name may be a socket's id.
    pub except: Vec<Room>,
    /// What may become of an event for a slow client.
    pub delivery: Delivery,
    /// Whether an event may be compressed.
    pub compress: bool,
    /// How long answers may take.
    pub timeout: Option<Duration>,
    /// What replies refer to, for a kind that asks for them.
    pub request: Option<u64>,
    /// Where the journal has the operation, if it comes from there.
    pub position: Option<Position>,
    /// What is done.
    pub kind: Kind,
}

impl Publication {
    /// Something that is done to a whole namespace, as an ordinary event if it is one.
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

    /// An event for one room need only reach where that room is open. The room of a socket's own id is
    /// never said to be open, so it counts as none.
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

    /// What is to be applied on this server, with the number that a stream has here.
    pub(crate) fn operation<'a>(
        &'a self,
        rooms: &'a Audience<'a>,
        except: &'a [RoomName<'a>],
        stream: impl FnOnce(&Delivery) -> u64,
    ) -> Operation<'a, Args> {
        let flags = Flags {
            delivery: self.delivery.clone().map(|_| Some(stream(&self.delivery))),
            compress: self.compress,
            timeout: self.timeout,
            position: self.position,
        };
        let target = Target {
            namespace: &self.namespace,
            rooms,
            except,
            sender: None,
            // What has come from another server is never published again.
            local: true,
            flags,
            stream: None,
        };
        let kind = match &self.kind {
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

impl<A> Operation<'_, A> {
    /// The operation for other servers, with its arguments in the form in which those of clients are.
    pub(crate) fn publication<X>(
        &self,
        args: impl FnOnce(&A) -> Result<Args, X>,
    ) -> Result<Publication, X> {
        let Target {
            namespace,
            rooms,
            except,
            sender,
            local: _,
            flags,
            stream,
        } = self.target;
        // The sender is no socket of other servers, which are told to leave out the room of its id.
        let sender = sender.map(|id| Room::from(id.as_str()));
        let except = except.iter().map(|name| name.clone().into_room());
        let kind = self.kind.clone();
        Ok(Publication {
            namespace: namespace.clone(),
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

/// What a server says to a request. One that has several things to say sends several.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Reply {
    /// Who has asked.
    pub to: NodeId,
    /// What is answered.
    pub request: u64,
    /// How many items this server sends, once it is known: clients that were asked, parts of a list
    /// of sockets, 1 for an answer, 0 for nothing at all.
    pub total: Option<u32>,
    /// One of these items.
    pub item: Option<Item>,
}

impl Reply {
    /// An answer to a request of this server.
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
