//! The communication about the chat between servers of one store:
//! * `inbound` receives the announcements and changes of other servers.
//! * `leases` publishes the presence of this server's users while it runs.
//! * `statuses` stores the statuses of users, and emits changes of this and other servers.
//! * `handover` hands clients over to another server.
//!
//! The composition root runs [`Leases`] and [`ConversationNews`] as tasks, and the chat's handle
//! holds the statuses. They update this server's knowledge of other servers and notify its own
//! clients. This module must not notify clients of other servers, and must not rely on the arrival
//! of announcements.

mod handover;
mod inbound;
mod leases;
mod statuses;

pub(crate) use handover::{HandoverData, HandoverError};
pub(crate) use inbound::ConversationNews;
pub(crate) use leases::Leases;
pub(crate) use statuses::StatusNews;
pub(in crate::service::chat) use statuses::{StatusEmitter, retention, statuses_of};
