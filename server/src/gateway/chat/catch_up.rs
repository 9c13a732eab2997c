//! Clients that arrive from another server. They receive their missed messages before any of their
//! events is handled.
//!
//! Stock clients send buffered events, such as `join_conversation`, as soon as they are connected.
//! Handled during the catch-up, these would deliver messages out of order or twice.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::service::{Chat, HandoverData, HandoverError, ServiceError, Subscriptions};
use roomcast::{Incoming, Refusal, Socket, handler::ListenerId};

/// Sends missed messages to a socket that arrives from another server, and restores its rooms. If
/// that fails, the connection is dropped and the client starts a new session.
pub(super) async fn arrive(
    socket: &Socket,
    handover: &Value,
    chat: &Chat,
    subscriptions: &Subscriptions,
) {
    let Some(held) = HeldEvents::of(socket) else {
        socket.drop_connection();
        return;
    };
    let arriving = async {
        let leaving = HandoverData::read(handover).ok_or(HandoverError::Unknown)?;
        let followed = leaving.followed();
        let by = socket.principal();
        // A subscription that this server does not know must not end silently.
        let mut all = followed.iter();
        if !all.all(|one| subscriptions.follows(one, &by)) {
            return Err(HandoverError::Unknown);
        }
        chat.arrive(socket, &leaving).await?;
        let lost = |_: ServiceError| HandoverError::Failed;
        subscriptions.arrive(socket, followed).await.map_err(lost)
    };
    let arrived = timeout(CATCH_UP_TIMEOUT, arriving).await;
    match arrived.unwrap_or(Err(HandoverError::TooLate)) {
        Ok(()) => socket.arrived(),
        Err(lost) => {
            let id = socket.id();
            let _scope = socket.log_scope();
            roomcast::throttled_log!(info, socket = %id, ?lost, "handover failed, the client starts a new session");
            socket.drop_connection();
        }
    }
    // Held events are now handled, or never if the connection has ended.
    drop(held);
}

/// Holds the events of a socket until dropped. They keep their order and are limited like all
/// queued events.
struct HeldEvents<'a> {
    socket: &'a Socket,
    listener: ListenerId,
    /// Dropping the sender wakes the waiting handlers.
    _end: watch::Sender<()>,
}

impl<'a> HeldEvents<'a> {
    /// Starts holding events. Returns `None` if the socket is disconnected.
    fn of(socket: &'a Socket) -> Option<Self> {
        let (end, until) = watch::channel(());
        let hold = move |_: Incoming| {
            let mut until = until.clone();
            async move {
                while until.changed().await.is_ok() {}
                Ok::<_, Refusal>(())
            }
        };
        let listener = socket.on_packet(hold).ok()?;
        Some(Self {
            socket,
            listener,
            _end: end,
        })
    }
}

impl Drop for HeldEvents<'_> {
    fn drop(&mut self) {
        self.socket.off(self.listener);
    }
}

/// The maximum duration of a catch-up. Until it ends, the client receives nothing from its
/// subscriptions.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(20);
