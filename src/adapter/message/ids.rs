//! Names of requests. Ours tell who asks and that it is a server of this kind, to which answers go as
//! envelopes; those of others are any text, and get a number here.

use crate::adapter::envelope::NodeId;

/// Set in the numbers of what other kinds of servers ask.
pub(crate) const FOREIGN: u64 = 1 << 63;

const OURS: &str = "roomcast:";

/// What a request of a server is called.
pub(crate) fn request_id(node: &str, number: u64) -> String {
    format!("{OURS}{node}:{number}")
}

/// The number of a request of this server.
pub(crate) fn own_request(own: &NodeId, id: &str) -> Option<u64> {
    request_of(own.as_str(), id)
}

/// The number of a request that this server calls so, if it is one of our kind.
pub(crate) fn request_of(uid: &str, id: &str) -> Option<u64> {
    let number = id
        .strip_prefix(OURS)?
        .strip_prefix(uid)?
        .strip_prefix(':')?;
    // A number with the upper bit would be taken for that of a question of another kind of server.
    number.parse().ok().filter(|number| number & FOREIGN == 0)
}
