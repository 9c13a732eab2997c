//! The connection handlers of the chat.
//!
//! [`forwarding`](super::forwarding) registers the events of the chat. Functions in this module
//! must not make decisions, hold state, or access the store without the services.

mod catch_up;

use super::catalogue::Catalogue;
use crate::service::{Chat, Subscriptions};
use roomcast::{DisconnectReason, Event, State};

/// Registers the connection handlers.
pub(super) fn register(catalogue: &mut Catalogue) {
    catalogue.namespace(|namespace| {
        namespace
            .on_connect(
                async |event: Event, chat: State<Chat>, subscriptions: State<Subscriptions>| {
                    let socket = &event.socket;
                    chat.connected(socket);
                    if let Some(handover) = socket.arrival() {
                        catch_up::arrive(socket, handover, &chat, &subscriptions).await;
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
}
