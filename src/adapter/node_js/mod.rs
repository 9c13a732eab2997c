//! The wire formats of Node's adapters, for any transport: packets and targets in JSON or
//! MessagePack, request ids, and pending requests of Node servers.
//!
//! - `cluster_adapter` writes and reads the messages of Node's cluster adapters.
//! - `parts` and `tree` write and read their parts.
//! - `ids` and `foreign_requests` map request ids.
//! - `node_compatible` publishes to Node servers and answers them.
//!
//! Adapters that are compatible with Node servers use this module. It must not depend on a
//! transport, nor on the servers in the cluster.

mod cluster_adapter;
mod foreign_requests;
mod ids;
mod node_compatible;
mod parts;
mod tree;

pub(super) use cluster_adapter::{
    Parts, kind, packed_response, pulse as write_pulse, read as read_message, read_parts,
    response as write_response, response_parts, write as write_message, write_parts,
};
pub(super) use foreign_requests::{ForeignRequests, RequestOrigin, Response};
pub(super) use ids::{FOREIGN_REQUEST_BIT, own_request, request_id, request_of};
pub(super) use node_compatible::{NodeCompatible, publish_to_nodes, reply_to_node};
pub(super) use parts::{
    Body, Opts, arguments, body, event, first, flags, get, names, node, packed, parse,
    request_name, server_event, sockets, text,
};
pub(super) use tree::Tree;

use super::{
    WireError,
    envelope::{Item, Message, NodeId, Publication, Reply},
};
use roomcast_protocol::socket::Args;

/// The content of a received message.
#[derive(Debug)]
pub(crate) enum ParsedMessage {
    /// This server sent the message, or it is for another server.
    Nothing,
    /// An operation, and a request if it needs a response.
    Publication(NodeId, Box<Publication>, Option<Request>),
    /// An answer to a request of this server. Some wire formats do not name the answering server.
    Answer(u64, Option<NodeId>, PeerReply),
    /// A request for the names of all rooms.
    Rooms(Request),
    /// A heartbeat or leave message.
    Pulse(NodeId, Pulse),
}

/// A presence message of a server, on wire formats that have them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pulse {
    /// The server has started, and requests heartbeats of its peers.
    Hello,
    /// A heartbeat.
    Alive,
    /// A leave message.
    Bye,
}

/// The address of a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Request {
    /// The name of the server that receives the responses, or an empty string if it is unknown.
    pub(crate) uid: String,
    /// The id that the requesting server assigned.
    pub(crate) id: String,
    /// Whether the requesting server only needs the ids of sockets.
    pub(crate) ids_only: bool,
}

/// One item that another server answers with.
#[derive(Debug)]
pub(crate) enum PeerReply {
    /// The number of clients that received the request.
    Count(u32),
    /// The acknowledgement of one client.
    Acknowledgement(Args),
    /// All sockets of the server.
    Sockets(Args),
    /// The answer of the server.
    Answer(Args),
}

impl PeerReply {
    /// Converts the item to a reply to a request of the server `own`.
    pub(super) fn reply(self, own: &NodeId, request: u64) -> Message {
        let (total, item) = match self {
            Self::Count(count) => (Some(count), None),
            Self::Acknowledgement(args) => {
                let (socket, args) = (None, Some(args));
                (None, Some(Item::Acknowledgement { socket, args }))
            }
            Self::Sockets(args) => (Some(1), Some(Item::Sockets(args))),
            Self::Answer(args) => (Some(1), Some(Item::Answer(args))),
        };
        Message::Reply(Reply::new(own.clone(), request, total, item))
    }
}

pub(super) const fn malformed(what: &'static str) -> WireError {
    WireError::Malformed(what)
}
