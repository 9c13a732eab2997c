//! Events to service calls and back: tables without state and without rules.
//!
//! `session` admits clients, `chat` has the events of the chat, `market` those of trades, signals, portfolios and
//! notifications. All register what they handle with
//! the `catalogue`, which counts events, parses their payloads and has permissions checked.

mod catalogue;
mod chat;
mod errors;
mod limits;
mod market;
mod session;

use std::sync::Arc;

use crate::auth::authenticator::Authenticator;
use crate::limit::Users;
use crate::service::{Access, Chat, Overlap};
use catalogue::Catalogue;
pub(crate) use limits::tell as tell_spending;
use roomcast::Builder;
use uuid::Uuid;

/// Registers all events of the namespace `/`, for those whom the authenticator lets in. The builder must be
/// given the same [`Users`] and [`Chat`] as states, and a
/// [`Market`](crate::service::Market). Where servers share a store this is its id.
pub(crate) fn register(
    io: &mut Builder,
    authenticator: Authenticator,
    users: Arc<Users>,
    access: Access,
    chat: Chat,
    overlap: Overlap,
    store: Option<Uuid>,
) {
    if let Some(store) = store {
        limits::listen(io.namespace("/"), store);
    }
    let mut catalogue = Catalogue::new(io.namespace("/"), Arc::clone(&users), access, overlap);
    session::register(&mut catalogue, authenticator, users, chat);
    chat::register(&mut catalogue);
    market::register(&mut catalogue);
    session::greet(&mut catalogue);
    catalogue.finish();
}
