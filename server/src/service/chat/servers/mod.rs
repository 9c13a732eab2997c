//! What the servers of one store tell each other of the chat: `others` hears what was said and done at other servers, `leases`
//! tells who is here for as long as this server lives, `statuses` keeps what users say of themselves.

mod leases;
mod others;
mod statuses;

pub(crate) use leases::Leases;
pub(crate) use others::ConversationNews;
pub(in crate::service::chat) use statuses::SharedStatuses;
