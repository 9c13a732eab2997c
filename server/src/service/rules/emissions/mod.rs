//! What clients are told, one file for each feature: the events that the server sends with their rows, and
//! the types of their payloads.

pub(crate) mod attendance;
pub(crate) mod conversations;
pub(crate) mod messages;
pub(crate) mod notifications;
pub(crate) mod portfolio;
pub(crate) mod prices;
pub(crate) mod published;
pub(crate) mod session;
pub(crate) mod signals;
pub(crate) mod trades;
