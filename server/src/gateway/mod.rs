//! Translates events to service calls and back. This layer has no rules, and no state but the login
//! sessions and connections of `admin_ui`.
//!
//! `identity` admits clients. `chat` and `market` handle connections and the events that do more
//! than call a service. `admin` is a separate namespace. `forwarding` derives all other handlers
//! from the rows of events (`service::policy`). Except in `admin_ui`, handlers of clients' events
//! are registered with the `catalogue`, which counts events, parses payloads and checks
//! permissions.

mod admin;
mod admin_ui;
mod catalogue;
mod chat;
mod diagnosed;
mod errors;
mod forwarding;
mod hooks;
mod identity;
mod limits;
mod market;
mod moderated;
mod traced;

use std::sync::Arc;

use crate::auth::authenticator::Authenticator;
use crate::limit::Users;
use crate::metrics::diagnosis::Diagnosis;
use crate::metrics::trace::Traces;
use crate::service::api::{ADMIN, Admin};
use crate::service::audit::Audit;
use crate::service::cluster::Announcer;
use crate::service::{Access, Channels, Chat, Hooks, Overlap, Subscriptions};
pub(crate) use admin_ui::{AdminUi, HashFault, check_hash};
use catalogue::Catalogue;
pub(crate) use diagnosed::observe_refusals;
pub(crate) use limits::report_spending;
use roomcast::Builder;

/// The services that handle events.
pub(crate) struct Parts {
    pub(crate) authenticator: Authenticator,
    pub(crate) users: Arc<Users>,
    pub(crate) access: Access,
    pub(crate) channels: Channels,
    pub(crate) chat: Chat,
    pub(crate) subscriptions: Subscriptions,
    pub(crate) hooks: Hooks,
    pub(crate) traces: Traces,
    pub(crate) diagnosis: Diagnosis,
    pub(crate) audit: Audit,
    /// The admin UI, which shows changes of sockets.
    pub(crate) admin_ui: Option<AdminUi>,
}

/// Registers all events of the namespace `/`.
///
/// The builder must have the same [`Users`], [`Channels`], [`Chat`] and [`Subscriptions`] as states,
/// and a [`Market`](crate::service::Market) and a [`Diagnosis`]. The announcer connects this server to
/// other servers of the store, if there can be any.
pub(crate) fn register(
    io: Builder,
    parts: Parts,
    overlap: Overlap,
    announcer: Option<&Announcer>,
) -> Builder {
    let Parts {
        authenticator,
        users,
        access,
        channels,
        chat,
        subscriptions,
        hooks,
        traces,
        diagnosis,
        audit,
        admin_ui,
    } = parts;
    let io = hooks::register(io, &hooks, &channels);
    let io = diagnosed::register(io, &diagnosis);
    io.namespace("/", |namespace| {
        let namespace = match announcer {
            Some(announcer) => limits::listen(namespace, announcer),
            None => namespace,
        };
        let granted = access.clone();
        let mut catalogue = Catalogue::new(namespace, "/", Arc::clone(&users), access, overlap);
        catalogue.hook(hooks);
        catalogue.diagnose(diagnosis);
        catalogue.audit(audit);
        traced::register(&mut catalogue, &traces);
        let services = (channels, chat, subscriptions);
        identity::register(&mut catalogue, authenticator, users, services, admin_ui);
        chat::register(&mut catalogue);
        market::register(&mut catalogue);
        forwarding::register(&mut catalogue);
        identity::greet(&mut catalogue, granted);
        catalogue.finish()
    })
}

/// Registers the admin namespace. The builder must have the same [`Users`] and [`Admin`] as states.
pub(crate) fn register_admins(
    io: Builder,
    authenticator: Authenticator,
    users: Arc<Users>,
    access: Access,
    admin: Admin,
    traces: &Traces,
    overlap: Overlap,
) -> Builder {
    io.namespace(ADMIN, |namespace| {
        let mut catalogue = Catalogue::new(namespace, ADMIN, Arc::clone(&users), access, overlap);
        traced::register(&mut catalogue, traces);
        admin::register(&mut catalogue, authenticator, users, admin);
        catalogue.finish()
    })
}
