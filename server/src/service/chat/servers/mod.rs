//! What the servers of one store tell each other of the chat: `others` hears what was said and done at other servers,
//! `announced` says whether anything of that may be missing,
//! `leases` tells who is here for as long as this server lives, `statuses` keeps what users say of themselves, and by `moving`
//! clients go on at another server.
//!
//! The composition root runs [`Leases`] and [`ConversationNews`] as tasks, and the handle of the chat holds the
//! statuses. They change what this server believes of others, and tell its own clients: nothing in here may tell
//! another server's clients, or trust that an announcement arrives.

mod announced;
mod leases;
mod moving;
mod others;
mod statuses;

pub(crate) use leases::Leases;
pub(crate) use moving::{Leaving, Lost};
pub(crate) use others::ConversationNews;
pub(in crate::service::chat) use statuses::SharedStatuses;
