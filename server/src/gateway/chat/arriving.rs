//! A client that comes from another server: it is told what it has missed before anything that it asks for is done.
//!
//! Stock clients send what they have buffered as soon as they are connected, such as a `join_conversation`. Done while the
//! client is told what it has missed, that would have it told later messages first, or the same ones twice.

use std::time::Duration;

use serde_json::Value;
use tokio::sync::watch;
use tokio::time::timeout;

use crate::service::{Chat, Leaving, Lost, Market, Notifications, ServiceError};
use roomcast::{Incoming, ListenerId, Refusal, Socket};

/// Has a socket whose client was at another server told what it has missed, and lets it in again. If that cannot be, its
/// client comes back and starts afresh.
pub(super) async fn arrive(
    socket: &Socket,
    said: &Value,
    chat: &Chat,
    market: &Market,
    notifications: &Notifications,
) {
    let Some(held) = HeldEvents::of(socket) else {
        socket.drop_connection();
        return;
    };
    let arriving = async {
        let leaving = Leaving::read(said).ok_or(Lost::Unknown)?;
        let followed = leaving.followed();
        let by = socket.principal();
        // What this server does not know must not be forgotten without a word.
        let mut all = followed.iter();
        if !all.all(|one| market.follows(one, &by) || Notifications::follows(one, &by)) {
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
            roomcast::throttled_log!(info, socket = %id, ?lost, "a client of another server starts afresh");
            socket.drop_connection();
        }
    }
    // What the client has asked for meanwhile is done now, or never if its connection has ended.
    drop(held);
}

/// Holds back the events of a socket while this lives. They wait in their order, and are bounded as all that wait.
struct HeldEvents<'a> {
    socket: &'a Socket,
    listener: ListenerId,
    /// The handlers that wait are woken when the sender is dropped.
    _end: watch::Sender<()>,
}

impl<'a> HeldEvents<'a> {
    /// `None` if the socket has ended.
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

/// How long a client is told what it has missed. Until then nobody else gets it, and it has nothing of what it follows.
const PATIENCE: Duration = Duration::from_secs(20);
