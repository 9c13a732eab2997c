//! The common parts of adapters that exchange messages with Node servers.

use bytes::Bytes;

use super::{FOREIGN_REQUEST_BIT, ForeignRequests, RequestOrigin, Response};
use crate::adapter::{
    common::unwritten,
    envelope::{Envelope, Message, NodeId, Publication},
    interface::AdapterError,
};

/// An adapter that exchanges messages with Node servers.
pub(in crate::adapter) trait NodeCompatible {
    /// Returns the pending requests of Node servers.
    fn foreign_requests(&self) -> &ForeignRequests;

    /// Sends an operation to all servers of its namespace.
    fn publish(&self, publication: &Publication) -> Result<(), AdapterError>;

    /// Sends a response to a Node server.
    fn respond(&self, origin: &RequestOrigin, response: &Response) -> Result<(), AdapterError>;

    /// Sends an envelope to one server of this library, in the form that it accepts.
    fn reply(&self, to: &NodeId, envelope: Bytes) -> Result<(), AdapterError>;
}

/// Sends an operation, or a reply to its server.
pub(in crate::adapter) fn publish_to_nodes(
    adapter: &impl NodeCompatible,
    envelope: Envelope,
) -> Result<(), AdapterError> {
    match &envelope.message {
        Message::Publication(publication) => adapter.publish(publication),
        Message::Reply(reply) => reply_to_node(adapter, &reply.to.clone(), envelope),
    }
}

/// Sends a reply to one server. A Node server receives a response in its own format. A server of
/// this library receives an envelope.
pub(in crate::adapter) fn reply_to_node(
    adapter: &impl NodeCompatible,
    to: &NodeId,
    envelope: Envelope,
) -> Result<(), AdapterError> {
    match envelope.message {
        Message::Reply(reply) if reply.request & FOREIGN_REQUEST_BIT != 0 => {
            match adapter.foreign_requests().answer(reply) {
                Some((origin, response)) => adapter.respond(&origin, &response),
                None => Ok(()),
            }
        }
        Message::Reply(_) | Message::Publication(_) => {
            adapter.reply(to, envelope.to_bytes().map_err(unwritten)?)
        }
    }
}
