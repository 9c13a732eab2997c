//! Events that the server sends, one file per feature, with their rows and payload types.
//!
//! Services emit through the rows, `policy` lists them, and the documents and the types for the
//! page are derived from them. `commands` may import this module, but not the reverse. A payload
//! consists of store values and texts. This module must not decide who receives an event.

pub(crate) mod attendance;
pub(crate) mod channels;
pub(crate) mod conversations;
pub(crate) mod identity;
pub(crate) mod messages;
pub(crate) mod notifications;
pub(crate) mod portfolio;
pub(crate) mod prices;
pub(crate) mod published;
pub(crate) mod signals;
pub(crate) mod trades;
