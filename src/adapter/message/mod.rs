//! What the messages of Node's adapters are made of, whatever carries them: packets and targets in
//! JSON or MessagePack, ids of requests, and what other kinds of servers have asked.
//!
//! Adapters that speak to Node servers come in here. Nothing in here knows a transport.

mod asked;
mod cluster;
mod ids;
mod parts;
mod tree;

pub(super) use asked::{Asked, Question, Response};
pub(super) use cluster::{
    Parts, kind, packed_response, pulse as write_pulse, read as read_message, read_parts,
    response as write_response, response_parts, write as write_message, write_parts,
};
pub(super) use ids::{FOREIGN, own_request, request_id, request_of};
pub(super) use parts::{
    Body, Opts, arguments, body, event, first, flags, get, names, node, packed, parse,
    request_name, server_event, sockets, text,
};
pub(super) use tree::Tree;

use super::{
    WireError,
    envelope::{Item, NodeId, Publication},
};
use roomcast_protocol::socket::Args;

/// What a message of another server says.
#[derive(Debug)]
pub(crate) enum Heard {
    /// The message is this server's own, or for another server.
    Nothing,
    /// Something is to be done, and maybe answered.
    Publication(NodeId, Box<Publication>, Option<Request>),
    /// An answer to a question of this server. Some wires do not say whose.
    Answer(u64, Option<NodeId>, Said),
    /// The names of all rooms are asked for.
    Rooms(Request),
    /// A server says that it is there, or not any more.
    Pulse(NodeId, Pulse),
}

/// What a server says of itself, where servers are known by that.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulse {
    /// The server has come, and wants to know which others are there.
    Hello,
    /// The server is there.
    Alive,
    /// The server leaves.
    Bye,
}

/// Who answers under which name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The name that answers are sent to, if any was told.
    pub(crate) uid: String,
    /// What the other server calls its question.
    pub(crate) id: String,
    /// Whether the other server wants no more than the ids of sockets.
    pub(crate) ids_only: bool,
}

/// One thing that another server answers.
#[derive(Debug)]
pub(crate) enum Said {
    /// So many clients are asked.
    Count(u32),
    /// One of the clients has answered.
    Acknowledgement(Args),
    /// All sockets of the server.
    Sockets(Args),
    /// The answer of the server itself.
    Answer(Args),
}

impl Said {
    /// What is said as a reply: how many items there are, and one.
    pub(super) fn reply(self) -> (Option<u32>, Option<Item>) {
        match self {
            Self::Count(count) => (Some(count), None),
            Self::Acknowledgement(args) => {
                let (socket, args) = (None, Some(args));
                (None, Some(Item::Acknowledgement { socket, args }))
            }
            Self::Sockets(args) => (Some(1), Some(Item::Sockets(args))),
            Self::Answer(args) => (Some(1), Some(Item::Answer(args))),
        }
    }
}

pub(super) const fn malformed(what: &'static str) -> WireError {
    WireError::Malformed(what)
}
