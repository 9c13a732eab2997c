//! Events to service calls and back: tables without state and without rules.
//!
//! `identity` admits clients, `chat` has the events of the chat, `market` those of trades, signals, portfolios and
//! notifications; `admin` is a namespace of its own. All register what they handle with
//! the `catalogue`, which counts events, parses their payloads and has permissions checked.

mod admin;
mod catalogue;
mod chat;
mod errors;
mod hooks;
mod identity;
mod limits;
mod market;

use std::sync::Arc;

use crate::auth::authenticator::Authenticator;
use crate::limit::Users;
use crate::service::api::{ADMIN, Admin};
use crate::service::cluster::Announcer;
use crate::service::{Access, Chat, Hooks, Market, Overlap};
use catalogue::Catalogue;
pub(crate) use limits::tell as tell_spending;
use roomcast::Builder;

/// What events are handled with.
pub(crate) struct Parts {
    pub(crate) authenticator: Authenticator,
    pub(crate) users: Arc<Users>,
    pub(crate) access: Access,
    pub(crate) chat: Chat,
    pub(crate) market: Market,
    pub(crate) hooks: Hooks,
}

/// Registers all events of the namespace `/`, for those whom the authenticator lets in. The builder must be
/// given the same [`Users`] and [`Chat`] as states, and a
/// [`Market`](crate::service::Market). The announcer tells other servers of the store, where there may be any.
pub(crate) fn register(
    io: &mut Builder,
    parts: Parts,
    overlap: Overlap,
    announcer: Option<&Announcer>,
) {
    let Parts {
        authenticator,
        users,
        access,
        chat,
        market,
        hooks,
    } = parts;
    hooks::register(io, &hooks);
    if let Some(announcer) = announcer {
        limits::listen(io.namespace("/"), announcer);
    }
    let granted = access.clone();
    let mut catalogue = Catalogue::new(io, "/", Arc::clone(&users), access, overlap);
    catalogue.hook(hooks);
    identity::register(&mut catalogue, authenticator, users, (chat, market));
    chat::register(&mut catalogue);
    market::register(&mut catalogue);
    identity::greet(&mut catalogue, granted);
    catalogue.finish();
}

/// Registers the namespace of admins. The builder must be given the same [`Users`] and [`Admin`] as states.
pub(crate) fn register_admins(
    io: &mut Builder,
    authenticator: Authenticator,
    users: Arc<Users>,
    access: Access,
    admin: Admin,
    overlap: Overlap,
) {
    let mut catalogue = Catalogue::new(io, ADMIN, Arc::clone(&users), access, overlap);
    admin::register(&mut catalogue, authenticator, users, admin);
    catalogue.finish();
}
