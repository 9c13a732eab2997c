//! What clients may say: the commands they send, the bounds of every field, the forms of texts that
//! are shown, the names of rooms, and the table of events with the permission and the limit of each.
//!
//! All services import this module, and gateways do for the table of events. Nothing in it may know
//! a socket, a conversation or the store beyond the types of its rows: it has values, and functions
//! of values.
//!
//! Imports go one way: `event` ← `commands` ← `policy`.

pub(crate) mod commands;
pub(in crate::service) mod content;
pub(crate) mod event;
pub(in crate::service) mod html;
mod markup;
pub(crate) mod policy;
pub(in crate::service) mod rooms;
