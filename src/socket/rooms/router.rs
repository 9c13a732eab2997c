//! The rooms of a namespace by name.
//!
//! A room is a contiguous list of outboxes with its own mutex, which is held while a broadcast
//! pushes. So two broadcasts never interleave, and all members receive them in the same order. The
//! sharded map only maps names to rooms. Its locks are never held together with a room's lock.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::RwLock;

use super::members::RoomCell;
use crate::{
    engine::Outbox,
    metrics::{Gauge, Metrics},
    socket::types::{Room, SocketId},
};

/// The rooms of one namespace by name. A room exists while it has members.
pub(crate) struct Rooms {
    shards: Box<[Shard]>,
    metrics: Arc<Metrics>,
}

type Shard = RwLock<HashMap<Room, Arc<RoomCell>>>;

impl Rooms {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            metrics,
        }
    }

    /// Returns the room of this name, if it has members.
    #[inline]
    pub(crate) fn find(&self, name: &str) -> Option<Arc<RoomCell>> {
        self.shard(name).read().get(name).cloned()
    }

    /// Adds a member, and creates the room if necessary. Also returns whether the member is the
    /// first one.
    pub(crate) fn join(&self, room: &Room, id: SocketId, outbox: &Outbox) -> (Arc<RoomCell>, bool) {
        loop {
            let cell = self.find_or_create(room);
            let mut members = cell.lock();
            if !members.is_closed() {
                members.insert(id, outbox.clone());
                let is_first = members.len() == 1;
                drop(members);
                return (cell, is_first);
            }
            // The last member left between the lookup and the lock, and the thread that removed it
            // is about to remove the name as well.
            drop(members);
            self.forget(room, &cell);
        }
    }

    /// Removes a member, and the room with its last member. Returns whether it was the last one.
    pub(crate) fn leave(&self, room: &Room, cell: &Arc<RoomCell>, id: &SocketId) -> bool {
        let mut members = cell.lock();
        let was_last = members.remove(id) && members.len() == 0;
        members.remove_recoverable(id);
        // The room is closed under its lock. A socket that found the room earlier and locks it
        // later detects that, and creates a new room.
        let empty = members.close_if_empty();
        drop(members);
        if empty {
            self.forget(room, cell);
        }
        was_last
    }

    /// Returns the names and sizes of all rooms, unordered.
    pub(crate) fn sizes(&self) -> Vec<(Room, usize)> {
        // The rooms are collected first, because the lock of the map is never held together with
        // that of a room.
        let mut cells = Vec::new();
        for shard in &self.shards {
            let shard = shard.read();
            cells.extend(
                shard
                    .iter()
                    .map(|(room, cell)| (room.clone(), Arc::clone(cell))),
            );
        }
        let sized = cells
            .into_iter()
            .map(|(room, cell)| (room, cell.lock().len()));
        sized.filter(|(_, size)| *size > 0).collect()
    }

    #[inline]
    fn find_or_create(&self, room: &Room) -> Arc<RoomCell> {
        // Most rooms to join exist already, and finding one needs only a shared lock.
        if let Some(cell) = self.find(room.as_str()) {
            return cell;
        }
        match self.shard(room.as_str()).write().entry(room.clone()) {
            Entry::Occupied(entry) => Arc::clone(entry.get()),
            Entry::Vacant(entry) => {
                self.metrics.shift(Gauge::Rooms, 1);
                Arc::clone(entry.insert(Arc::default()))
            }
        }
    }

    /// Removes the name, unless it belongs to a newer room.
    fn forget(&self, room: &Room, cell: &Arc<RoomCell>) {
        let mut shard = self.shard(room.as_str()).write();
        if shard
            .get(room.as_str())
            .is_some_and(|current| Arc::ptr_eq(current, cell))
        {
            shard.remove(room.as_str());
            if shard.len() < shard.capacity() / 4 {
                let capacity = shard.len() * 2;
                shard.shrink_to(capacity);
            }
            self.metrics.shift(Gauge::Rooms, -1);
        }
    }

    #[inline]
    fn shard(&self, name: &str) -> &Shard {
        // FNV-1a. Clients may choose names, but can at most overload one shard. The maps inside are
        // randomly keyed.
        let hash = name.bytes().fold(0x811c_9dc5_u32, |hash, byte| {
            (hash ^ u32::from(byte)).wrapping_mul(0x0100_0193)
        });
        let shard = (hash ^ (hash >> 16)) as usize % self.shards.len();
        #[expect(clippy::indexing_slicing, reason = "a remainder is below its divisor")]
        &self.shards[shard]
    }
}

impl Drop for Rooms {
    fn drop(&mut self) {
        let rooms: usize = self
            .shards
            .iter_mut()
            .map(|shard| shard.get_mut().len())
            .sum();
        self.metrics.shift(Gauge::Rooms, -(rooms as i64));
    }
}
const SHARDS: usize = 16;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use proptest::prelude::*;
    use roomcast_protocol::Frame;

    use super::*;
    use crate::{
        engine::TestOutboxes,
        socket::{Io, Socket, fuzzing},
    };

    fn server(size: usize) -> (Io, Vec<Socket>) {
        let builder = Io::builder().namespace("/", |namespace| namespace);
        let io = builder.build().unwrap();
        let outboxes = TestOutboxes::polling(Arc::clone(io.metrics()));
        let sockets = (0..size).map(|_| fuzzing::admit(&io, &outboxes)).collect();
        for socket in &sockets {
            received(socket);
        }
        (io, sockets)
    }

    fn received(socket: &Socket) -> Vec<String> {
        let frames = TestOutboxes::take(socket.outbox());
        let text = |frame: &Frame| String::from_utf8(frame.polling().to_vec()).unwrap();
        frames.iter().map(text).collect()
    }

    #[test]
    fn broadcast_reaches_only_the_members_of_the_room() {
        let (io, sockets) = server(40);
        for socket in &sockets[..20] {
            socket.join("room").unwrap();
        }
        assert_eq!(io.to("room").emit("hi", 1).queued, 20);
        for (i, socket) in sockets.iter().enumerate() {
            assert_eq!(received(socket).len(), usize::from(i < 20));
        }
    }

    #[test]
    fn a_member_of_several_named_rooms_gets_one_frame() {
        let (io, sockets) = server(3);
        sockets[0].join(["a", "b"]).unwrap();
        sockets[1].join("b").unwrap();
        let emitted = io.to("a").to(["b", "a"]).to(sockets[0].id()).emit("hi", ());
        assert_eq!(emitted.queued, 2);
        assert_eq!(received(&sockets[0]), ["42[\"hi\"]"]);
    }

    #[test]
    fn empty_room_list_selects_no_socket() {
        let (io, sockets) = server(2);
        assert_eq!(sockets[0].to(sockets[0].rooms()).emit("left", ()).queued, 0);
        assert_eq!(io.to(Vec::<Room>::new()).count(), 0);
        assert_eq!(
            io.to(Vec::<Room>::new())
                .to("none")
                .to(sockets[1].id())
                .count(),
            1
        );
    }

    #[test]
    fn every_socket_is_in_the_room_of_its_own_id() {
        let (io, sockets) = server(2);
        let id = sockets[1].id();
        assert_eq!(io.to(id.as_str()).emit("hi", ()).queued, 1);
        assert_eq!(received(&sockets[1]), ["42[\"hi\"]"]);
        assert_eq!(sockets[1].to(&id).emit("hi", ()).queued, 0);
        assert_eq!(io.except(&id).count(), 1);
        sockets[1].leave(&id);
        assert!(sockets[1].rooms().is_empty());
        // Other sockets may join it like any room.
        sockets[0].join(&id).unwrap();
        assert_eq!(io.to(id).count(), 2);
    }

    #[test]
    fn limits_are_errors_to_the_application() {
        let config = crate::Config::default().max_rooms_per_socket(2);
        let builder = Io::builder()
            .config(config)
            .namespace("/", |namespace| namespace);
        let io = builder.build().unwrap();
        let outboxes = TestOutboxes::polling(Arc::clone(io.metrics()));
        let socket = fuzzing::admit(&io, &outboxes);
        use crate::socket::JoinError;
        assert_eq!(socket.join("x".repeat(257)), Err(JoinError::NameTooLong));
        assert_eq!(socket.join(["x".repeat(256), "b".into()]), Ok(()));
        assert_eq!(socket.join("b"), Ok(()));
        assert_eq!(socket.join("c"), Err(JoinError::TooManyRooms));
        socket.disconnect();
        assert_eq!(socket.join("b"), Err(JoinError::Disconnected));
        assert_eq!(io.metrics().gauge(Gauge::Rooms), 0);
    }

    #[test]
    fn concurrent_senders_are_seen_in_one_order_by_all_members() {
        let (io, sockets) = server(30);
        for (i, socket) in sockets.iter().enumerate() {
            socket.join(if i < 25 { "a" } else { "b" }).unwrap();
            if i < 5 {
                socket.join("b").unwrap();
            }
        }
        let start = Barrier::new(4);
        std::thread::scope(|scope| {
            for sender in 0..4 {
                let (io, start) = (&io, &start);
                scope.spawn(move || {
                    start.wait();
                    for n in 0..200 {
                        let rooms = if n % 2 == 0 { ["a", "b"] } else { ["b", "a"] };
                        io.to(rooms).emit("n", (sender, n));
                    }
                });
            }
        });
        let order = received(&sockets[0]);
        assert_eq!(order.len(), 800);
        for socket in &sockets[1..] {
            assert_eq!(received(socket), order);
        }
    }

    #[test]
    fn no_join_is_lost_while_a_room_is_created_and_removed() {
        let (io, sockets) = server(8);
        std::thread::scope(|scope| {
            for pair in sockets.chunks(2) {
                let io = &io;
                scope.spawn(move || {
                    for socket in pair.iter().cycle().take(4000) {
                        socket.join("room").unwrap();
                        assert!((1..=8).contains(&io.to("room").count()));
                        socket.leave("room");
                    }
                    for socket in pair {
                        socket.join("room").unwrap();
                    }
                });
            }
        });
        assert_eq!(io.to("room").count(), 8);
        assert_eq!(io.metrics().gauge(Gauge::Rooms), 1);
        for socket in &sockets {
            socket.disconnect();
        }
        assert_eq!(io.metrics().gauge(Gauge::Rooms), 0);
        assert!(io.of("/").rooms().is_empty());
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_router_agrees_with_a_naive_model(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
            fuzzing::rooms_ops(&data);
        }
    }
}
