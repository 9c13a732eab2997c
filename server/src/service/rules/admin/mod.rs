//! The events of the namespace `/admin`, with their rows and types, in both directions.
//!
//! `commands` has the events that admins send, `emissions` those that they receive. The gateway
//! registers the commands, `api` executes them and emits, and `policy` lists the rows for checks
//! and documents. As in all of `rules`, this folder contains only values and functions of values.
//! It must not depend on sockets or know who is an admin.

pub(crate) mod commands;
pub(crate) mod emissions;
