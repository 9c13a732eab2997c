//! The room memberships of a socket.

use std::collections::hash_map::Entry;

use crate::socket::{
    core::{Lifecycle, Socket},
    rooms::RoomCell,
    types::{IntoRooms, JoinError, Room},
};

impl Socket {
    /// Joins rooms. Has no effect for rooms that the socket is in.
    ///
    /// # Errors
    ///
    /// Fails if a name is longer than [`Room::MAX_BYTES`], if the socket would exceed
    /// [`Config::max_rooms_per_socket`](crate::Config::max_rooms_per_socket), or if it is
    /// disconnected. Rooms before the failing one are joined.
    pub fn join<'a, M>(&self, rooms: impl IntoRooms<'a, M>) -> Result<(), JoinError> {
        let limit = self.0.io.config().sockets.max_rooms_per_socket;
        let reports_rooms = self.reports_rooms();
        let mut news = Vec::new();
        let mut outcome = Ok(());
        // No lock is held while the iterator advances or an observer is notified, because both are
        // application code.
        rooms.each(|name| {
            if outcome.is_err() || name.as_str() == self.0.id.as_str() {
                return;
            }
            let room = name.into_room();
            let known = reports_rooms.then(|| room.clone());
            match self.join_one(room, limit) {
                Ok(Some(is_first)) => news.extend(known.map(|room| (room, is_first))),
                Ok(None) => {}
                Err(error) => outcome = Err(error),
            }
        });
        self.report_joined(&news);
        outcome
    }

    /// Joins one room. Returns `None` if the socket is in it already, else whether it is the first
    /// member.
    fn join_one(&self, room: Room, limit: usize) -> Result<Option<bool>, JoinError> {
        // The rooms of a socket are locked before any room.
        let mut joined = self.0.rooms.lock();
        if joined.closed {
            return Err(JoinError::Disconnected);
        }
        if room.as_str().len() > Room::MAX_BYTES {
            return Err(JoinError::NameTooLong);
        }
        let count = joined.rooms.len();
        let Entry::Vacant(entry) = joined.rooms.entry(room) else {
            return Ok(None);
        };
        if count >= limit {
            return Err(JoinError::TooManyRooms);
        }
        let rooms = &self.0.namespace.rooms;
        let (cell, is_first) = rooms.join(entry.key(), self.0.id.clone(), self.outbox());
        entry.insert(cell);
        Ok(Some(is_first))
    }

    /// Leaves rooms. Has no effect for rooms that the socket is not in.
    pub fn leave<'a, M>(&self, rooms: impl IntoRooms<'a, M>) {
        let reports_rooms = self.reports_rooms();
        let mut news = Vec::new();
        // No lock is held while the iterator advances, because it is application code.
        rooms.each(|name| {
            let mut joined = self.0.rooms.lock();
            if let Some((room, cell)) = joined.rooms.remove_entry(name.as_str()) {
                let was_last = self.0.namespace.rooms.leave(&room, &cell, &self.0.id);
                if reports_rooms {
                    news.push((room, was_last));
                }
            }
        });
        self.report_left(&news);
    }

    /// Returns the joined rooms, unordered. The room of the socket's own id, which it cannot leave,
    /// is not included.
    #[must_use]
    pub fn rooms(&self) -> Vec<Room> {
        self.0.rooms.lock().rooms.keys().cloned().collect()
    }

    /// Returns whether the socket has joined a room.
    #[must_use]
    pub fn is_in(&self, room: &str) -> bool {
        self.0.rooms.lock().rooms.contains_key(room)
    }

    /// Leaves all rooms except that of its own id. The socket may join rooms afterwards.
    ///
    /// ```
    /// # use roomcast::{Event, Io, errors::JoinError};
    /// let io = Io::builder().namespace("/", |namespace| {
    ///     namespace.on("move", async |event: Event, room: String| {
    ///         event.socket.leave_all();
    ///         event.socket.join(room)
    ///     })
    /// });
    /// ```
    #[doc(alias = "leaveAll")]
    pub fn leave_all(&self) {
        let reports_rooms = self.reports_rooms();
        let mut news = Vec::new();
        let mut joined = self.0.rooms.lock();
        for (room, cell) in std::mem::take(&mut joined.rooms) {
            let was_last = self.0.namespace.rooms.leave(&room, &cell, &self.0.id);
            if reports_rooms {
                news.push((room, was_last));
            }
        }
        drop(joined);
        self.report_left(&news);
    }

    /// Leaves all rooms permanently.
    pub(crate) fn end_membership(&self) {
        let mut joined = self.0.rooms.lock();
        joined.closed = true;
        // Later joins are refused, so that no room keeps a member.
        let rooms = std::mem::take(&mut joined.rooms);
        drop(joined);
        let reports_rooms = self.reports_rooms();
        for (room, cell) in rooms {
            let was_last = self.0.namespace.rooms.leave(&room, &cell, &self.0.id);
            if reports_rooms {
                self.report_left(&[(room, was_last)]);
            }
        }
    }

    /// Disables further joins, keeps the current rooms, and calls `each` for them.
    pub(crate) fn stay(&self, mut each: impl FnMut(&Room, &RoomCell)) {
        let mut joined = self.0.rooms.lock();
        joined.closed = true;
        for (room, cell) in &joined.rooms {
            each(room, cell);
        }
    }

    /// Takes over the rooms of another socket, and calls `each` for each room.
    ///
    /// Returns `false` if this socket is disconnected. Then the rooms are left.
    pub(crate) fn inherit(&self, old: &Self, mut each: impl FnMut(&Room, &RoomCell)) -> bool {
        // The rooms are moved out first, so that two sockets are never locked together.
        let rooms = std::mem::take(&mut old.0.rooms.lock().rooms);
        let mut joined = self.0.rooms.lock();
        if joined.closed {
            drop(joined);
            for (room, cell) in &rooms {
                self.0.namespace.rooms.leave(room, cell, &self.0.id);
                self.room_changed(room);
            }
            return false;
        }
        for (room, cell) in &rooms {
            each(room, cell);
        }
        joined.rooms = rooms;
        true
    }

    /// Returns whether joins and leaves must be reported.
    pub(crate) fn reports_rooms(&self) -> bool {
        self.0.io.is_watched() || self.0.namespace.cluster.follows_rooms()
    }

    /// Notifies the adapter if the room was opened or closed. A room with only recoverable members
    /// is open, because their missed events are still stored.
    fn room_changed(&self, room: &Room) {
        let namespace = &self.0.namespace;
        let exists = || namespace.rooms.find(room.as_str()).is_some();
        namespace
            .cluster
            .room_changed(&namespace.name, room, exists);
    }

    pub(crate) fn report_left(&self, news: &[(Room, bool)]) {
        for (room, was_last) in news {
            self.room_changed(room);
            self.0
                .io
                .notify(&Lifecycle::RoomLeft { socket: self, room });
            if *was_last {
                let namespace = self.nsp();
                self.0
                    .io
                    .notify(&Lifecycle::RoomDeleted { namespace, room });
            }
        }
    }

    pub(crate) fn report_joined(&self, news: &[(Room, bool)]) {
        for (room, is_first) in news {
            self.room_changed(room);
            if *is_first {
                let namespace = self.nsp();
                self.0
                    .io
                    .notify(&Lifecycle::RoomCreated { namespace, room });
            }
            self.0
                .io
                .notify(&Lifecycle::RoomJoined { socket: self, room });
        }
    }
}
