//! The rules of the chat protocol: events in both directions with their types, bounds of fields,
//! forms of displayed texts, and names of rooms.
//!
//! All services import this module; gateways import it for the table of events. It must not depend
//! on sockets, conversations or the store, except for the types in its rows. It contains only
//! values and functions of values.
//!
//! A row also sends its event to the receivers that the caller selects. Imports go one way:
//! `versions` ← `emission` ← `emissions` and `event` ← `commands` ← `policy` ← `documents`.

pub(crate) mod admin;
pub(crate) mod bounds;
pub(crate) mod commands;
pub(in crate::service) mod content;
pub(crate) mod documents;
pub(crate) mod emission;
pub(crate) mod emissions;
pub(crate) mod event;
mod examples;
#[cfg(feature = "html")]
pub(in crate::service) mod html;
#[cfg(not(feature = "html"))]
#[path = "html/no_html.rs"]
pub(in crate::service) mod html;
pub(crate) mod policy;
pub(in crate::service) mod rooms;
pub(crate) mod versions;
