//! The interface of adapters whose transport has channels for namespaces and rooms.

use std::sync::Arc;

use super::BoxFuture;
use crate::names::Room;

/// Subscribes to the channels of the namespaces and rooms that exist on a server, returned by
/// [`Adapter::subscriber`](super::Adapter::subscriber).
///
/// No method may deliver to the inbox.
pub trait Subscriber: Send + Sync + 'static {
    /// Returns which channels the server reports. Called once. Default
    /// [`Namespaces`](Subscriptions::Namespaces).
    fn subscriptions(&self) -> Subscriptions {
        Subscriptions::Namespaces
    }

    /// Called when a namespace is opened on this server. From then on, messages to the namespace
    /// must arrive. This method and [`namespace_closed`](Self::namespace_closed) are called one at
    /// a time.
    fn namespace_opened(&self, _namespace: &str) {}

    /// Called when a namespace no longer exists on this server.
    fn namespace_closed(&self, _namespace: &str) {}

    /// Called when a room has its first member on this server. From then on, events for the room
    /// must arrive. The server never holds the lock of a room during the call. This method and
    /// [`room_closed`](Self::room_closed) are called one at a time, and alternately for each room.
    fn room_opened(&self, _namespace: &str, _room: &Room) {}

    /// Called when a room has no member on this server any longer, and no disconnected client that
    /// could return to it.
    fn room_closed(&self, _namespace: &str, _room: &Room) {}

    /// Waits until events arrive for all rooms that were opened before the call, or until this
    /// cannot be determined. Default: returns immediately.
    fn followed(self: Arc<Self>) -> BoxFuture<()> {
        Box::pin(std::future::ready(()))
    }
}

/// The channels to which an adapter subscribes. All servers of a cluster must agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subscriptions {
    /// One channel per namespace, and one per room with members on this server, except the rooms of
    /// the sockets' own ids.
    #[default]
    Rooms,
    /// One channel per namespace.
    Namespaces,
    /// One channel per namespace, one per room with members on this server, and one per socket.
    /// Events for one socket then only reach its server.
    RoomsAndSockets,
}

impl Subscriptions {
    pub(crate) const fn has_rooms(self) -> bool {
        match self {
            Self::Rooms | Self::RoomsAndSockets => true,
            Self::Namespaces => false,
        }
    }

    pub(crate) const fn has_sockets(self) -> bool {
        match self {
            Self::RoomsAndSockets => true,
            Self::Rooms | Self::Namespaces => false,
        }
    }
}
