//! The ids of requests. An id of this library contains the name of the requesting server, and
//! identifies it as a server of this library. Such a server receives answers as envelopes. The ids
//! of Node servers are arbitrary strings, to which `ForeignRequests` assigns numbers.

use crate::adapter::envelope::NodeId;

/// The bit that marks the numbers of requests from Node servers.
pub(crate) const FOREIGN_REQUEST_BIT: u64 = 1 << 63;

const OURS: &str = "roomcast:";

/// Returns the id of a request of a server.
pub(crate) fn request_id(node: &str, number: u64) -> String {
    format!("{OURS}{node}:{number}")
}

/// Returns the number of a request if this server sent it.
pub(crate) fn own_request(own: &NodeId, id: &str) -> Option<u64> {
    request_of(own.as_str(), id)
}

/// Returns the number of a request if the server `uid` of this library sent it.
pub(crate) fn request_of(uid: &str, id: &str) -> Option<u64> {
    let number = id
        .strip_prefix(OURS)?
        .strip_prefix(uid)?
        .strip_prefix(':')?;
    // A number with the upper bit would be mistaken for a request of a Node server.
    number
        .parse()
        .ok()
        .filter(|number| number & FOREIGN_REQUEST_BIT == 0)
}
