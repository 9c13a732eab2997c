//! Events to service calls and back: tables without state and without rules.
//!
//! `session` admits clients, `chat` has the events of the chat. Both register what they handle with
//! the `catalogue`, which counts events, parses their payloads and has permissions checked.

mod catalogue;
mod chat;
mod errors;
mod limits;
mod session;

use std::sync::Arc;

use crate::auth::authenticator::Authenticator;
use crate::limit::Users;
use crate::service::{Access, Chat, Overlap};
use catalogue::Catalogue;
pub(crate) use limits::tell as tell_spending;
use roomcast::Builder;

/// Registers all events of the namespace `/`, for those whom the authenticator lets in. The builder must be
/// given the same [`Users`] and [`Chat`] as states.
pub(crate) fn register(
    io: &mut Builder,
    authenticator: Authenticator,
    users: Arc<Users>,
    access: Access,
    chat: Chat,
    overlap: Overlap,
) {
    limits::listen(io.namespace("/"));
    let mut catalogue = Catalogue::new(io.namespace("/"), Arc::clone(&users), access, overlap);
    session::register(&mut catalogue, authenticator, users, chat);
    chat::register(&mut catalogue);
    session::greet(&mut catalogue);
    catalogue.finish();
}
