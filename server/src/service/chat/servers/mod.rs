//! What the servers of one store tell each other of the chat: `others` hears what was said and done elsewhere, `leases`
//! tells who is here for as long as this server lives.

mod leases;
mod others;

pub(crate) use leases::Leases;
pub(crate) use others::ConversationNews;
