//! The events of the chat, one file per feature, and connection handlers.
//!
//! The gateway registers this module with its catalogue, which parses commands and checks
//! permissions. Functions in this module call [`Chat`] and return the result. They must not make
//! decisions, hold state, or access the store without the service.

mod attendance;
mod catch_up;
mod conversations;
mod history;
mod invites;
mod members;
mod messages;

use super::catalogue::Catalogue;
use crate::service::{Chat, Market, Notifications};
use roomcast::{DisconnectReason, Event, State};

/// Registers the chat.
pub(super) fn register(catalogue: &mut Catalogue) {
    catalogue.namespace(|namespace| {
        namespace
            .on_connect(
                async |event: Event,
                       chat: State<Chat>,
                       market: State<Market>,
                       notifications: State<Notifications>| {
                    let socket = &event.socket;
                    chat.connected(socket);
                    if let Some(said) = socket.arrival() {
                        catch_up::arrive(socket, said, &chat, &market, &notifications).await;
                    } else if socket.recovered() {
                        chat.recheck(socket).await;
                    }
                },
            )
            .on(
                "disconnect",
                async |event: Event, reason: DisconnectReason, chat: State<Chat>| {
                    chat.disconnected(&event.socket, reason);
                },
            )
    });
    messages::register(catalogue);
    attendance::register(catalogue);
    history::register(catalogue);
    conversations::register(catalogue);
    members::register(catalogue);
    invites::register(catalogue);
}
