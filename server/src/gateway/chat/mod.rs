//! The events of the chat, one file for each feature, and sockets that come and go.
//!
//! The gateway registers this module with its catalogue, which has parsed a command and checked the permission before a
//! function in here sees it. A function in here calls [`Chat`] and returns what comes of it. Nothing in here may decide
//! anything, keep a state, or reach the store past the service.

mod attendance;
mod conversations;
mod history;
mod invites;
mod members;
mod messages;

use std::time::Duration;

use super::catalogue::Catalogue;
use crate::service::{Chat, Leaving, Lost, Market, Notifications, ServiceError};
use roomcast::{DisconnectReason, Event, Socket, State};
use serde_json::Value;
use tokio::time::timeout;

/// Registers the chat.
pub(super) fn register(catalogue: &mut Catalogue<'_>) {
    catalogue
        .namespace()
        .on_connect(
            async |event: Event,
                   chat: State<Chat>,
                   market: State<Market>,
                   notifications: State<Notifications>| {
                let socket = &event.socket;
                chat.connected(socket);
                if let Some(said) = socket.arrival() {
                    arrive(socket, said, &chat, &market, &notifications).await;
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
        );
    messages::register(catalogue);
    attendance::register(catalogue);
    history::register(catalogue);
    conversations::register(catalogue);
    members::register(catalogue);
    invites::register(catalogue);
}

/// Has a socket whose client was at another server told what it has missed, and lets it in again. If that cannot be, its
/// client comes back and starts afresh.
async fn arrive(
    socket: &Socket,
    said: &Value,
    chat: &Chat,
    market: &Market,
    notifications: &Notifications,
) {
    let arriving = async {
        let leaving = Leaving::read(said).ok_or(Lost::Unknown)?;
        let followed = leaving.followed();
        let by = socket.principal();
        // What this server does not know must not be forgotten without a word.
        let mut all = followed.iter();
        if !all.all(|one| Market::follows(one, &by) || Notifications::follows(one, &by)) {
            return Err(Lost::Unknown);
        }
        chat.arrive(socket, &leaving).await?;
        let lost = |_: ServiceError| Lost::Failed;
        market.arrive(socket, followed).await.map_err(lost)?;
        let following = notifications.arrive(socket, followed);
        following.await.map_err(lost)
    };
    let arrived = timeout(PATIENCE, arriving).await;
    match arrived.unwrap_or(Err(Lost::TooLate)) {
        Ok(()) => socket.arrived(),
        Err(lost) => {
            let id = socket.id();
            tracing::info!(socket = %id, ?lost, "a client of another server starts afresh");
            socket.drop_connection();
        }
    }
}

/// How long a client is told what it has missed. Until then nobody else gets it, and it has nothing of what it follows.
const PATIENCE: Duration = Duration::from_secs(20);
