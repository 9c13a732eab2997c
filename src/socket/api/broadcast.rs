//! Acting on many sockets at once.

use std::sync::Arc;

use crate::socket::{
    core::{Socket, namespace},
    sending::Broadcast,
    words::{IntoRooms, JoinError},
};

impl Broadcast<'_> {
    /// Lets all of them join rooms. One that may not, for it is in too many, is left out.
    pub fn join<'r, M>(&self, rooms: impl IntoRooms<'r, M>) {
        let mut names = Vec::new();
        rooms.each(|room| names.push(room.into_room()));
        for socket in self.local_sockets() {
            let joined: Result<(), JoinError> = socket.join(&names);
            if let Err(error) = joined {
                tracing::warn!(socket = %socket.id(), %error, "a socket cannot join");
            }
        }
    }

    /// Lets all of them leave rooms, those too whose clients are away and may come back.
    pub fn leave<'r, M>(&self, rooms: impl IntoRooms<'r, M>) {
        let mut names = Vec::new();
        rooms.each(|room| names.push(room.into_room()));
        for socket in self.local_sockets().iter().chain(&self.sockets_away()) {
            socket.leave(&names);
        }
    }

    /// Disconnects all of them from the namespace, or closes their connections with all namespaces
    /// on them. See [`Socket::disconnect`](crate::Socket::disconnect). Those whose clients are away
    /// do not come back as the same socket.
    pub fn disconnect(&self, close: bool) {
        for socket in self.local_sockets() {
            socket.disconnect(close);
        }
        for socket in self.sockets_away() {
            socket.expel_away();
        }
    }

    /// Those whose clients are away and may come back.
    fn sockets_away(&self) -> Vec<Socket> {
        let away =
            |namespace: &Arc<namespace::Inner>| namespace.away(&self.to, &self.excepted(namespace));
        self.namespace.as_ref().map_or_else(Vec::new, away)
    }
}
