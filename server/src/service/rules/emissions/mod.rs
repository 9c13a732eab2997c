//! What clients are told, one file for each feature: the events that the server sends with their rows, and the types of
//! their payloads.
//!
//! Services emit through the rows, `policy` lists them, and the documents and the types for the page are written from
//! them. Imports go from `commands` to this folder and not back. A payload is made of values of the store and of texts:
//! nothing in here may decide who is told.

pub(crate) mod attendance;
pub(crate) mod conversations;
pub(crate) mod identity;
pub(crate) mod messages;
pub(crate) mod notifications;
pub(crate) mod portfolio;
pub(crate) mod prices;
pub(crate) mod published;
pub(crate) mod signals;
pub(crate) mod trades;
