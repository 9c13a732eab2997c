//! What clients may say and what they are told: the events of both directions with their types, the bounds of
//! every field, the forms of texts that are shown, and the names of rooms.
//!
//! All services import this module, and gateways do for the table of events. Nothing in it may know
//! a socket, a conversation or the store beyond the types of its rows: it has values, and functions
//! of values.
//!
//! A row also sends what it is about, to those whom its caller has chosen. Imports go one way: `versions` ← `emission` ←
//! `emissions` and `event` ← `commands` ← `policy` ← `documents`.

pub(crate) mod admin;
pub(crate) mod bounds;
pub(crate) mod commands;
pub(in crate::service) mod content;
pub(crate) mod documents;
pub(crate) mod emission;
pub(crate) mod emissions;
pub(crate) mod event;
mod examples;
pub(in crate::service) mod html;
mod markup;
pub(crate) mod policy;
pub(in crate::service) mod rooms;
pub(crate) mod versions;
