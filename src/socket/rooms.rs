//! Who is in which room, and how one frame reaches all of them.
//!
//! A room is a contiguous list of outboxes behind its own mutex, which is held while a broadcast
//! pushes: two broadcasts never interleave, so all members see them in one order. The sharded map
//! is only there to find a room by name; neither lock of it is ever held together with a room's.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::Arc,
};

use parking_lot::{Mutex, MutexGuard, RwLock};
use roomcast_protocol::Frame;

use super::{
    id::{IdMap, IdSet, SocketId},
    room::{Room, RoomName},
};
use crate::{
    engine::{Batch, Mode, Outbox, Push},
    metrics::{Gauge, Metrics},
};

/// The rooms of one namespace by name. A room exists while it has members.
pub(crate) struct Rooms {
    shards: Box<[Shard]>,
    metrics: Arc<Metrics>,
}

type Shard = RwLock<HashMap<Room, Arc<RoomCell>>>;

/// A room: a handle to its members that outlives the name.
pub(crate) type RoomCell = Mutex<Members>;

impl Rooms {
    pub(crate) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            shards: (0..SHARDS).map(|_| RwLock::default()).collect(),
            metrics,
        }
    }

    /// The room of this name, if it has members.
    pub(crate) fn find(&self, name: &str) -> Option<Arc<RoomCell>> {
        self.shard(name).read().get(name).cloned()
    }

    /// Adds a member, making the room if it is not there. `true`: it is the first one.
    pub(crate) fn join(&self, room: &Room, id: SocketId, outbox: &Outbox) -> (Arc<RoomCell>, bool) {
        loop {
            let cell = self.find_or_make(room);
            let mut members = cell.lock();
            if !members.gone {
                members.insert(id, outbox.clone());
                let is_first = members.len() == 1;
                drop(members);
                return (cell, is_first);
            }
            // The last member left between the look-up and the lock, and whoever took it out is
            // about to take the name out as well.
            drop(members);
            self.forget(room, &cell);
        }
    }

    /// Takes a member out, and the room with its last one. `true`: it was that.
    pub(crate) fn leave(&self, room: &Room, cell: &Arc<RoomCell>, id: SocketId) -> bool {
        let mut members = cell.lock();
        let was_last = members.remove(id) && members.slots.is_empty();
        members.forget_away(id);
        let empty = members.close_if_empty();
        drop(members);
        if empty {
            self.forget(room, cell);
        }
        was_last
    }

    /// Names and sizes of all rooms, in no order.
    pub(crate) fn sizes(&self) -> Vec<(Room, usize)> {
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

    fn find_or_make(&self, room: &Room) -> Arc<RoomCell> {
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

    /// Takes the name out, unless it belongs to a newer room by now.
    fn forget(&self, room: &Room, cell: &Arc<RoomCell>) {
        let mut shard = self.shard(room.as_str()).write();
        if shard
            .get(room.as_str())
            .is_some_and(|current| Arc::ptr_eq(current, cell))
        {
            shard.remove(room.as_str());
            if shard.len() < shard.capacity() / 4 {
                let kept = shard.len() * 2;
                shard.shrink_to(kept);
            }
            self.metrics.shift(Gauge::Rooms, -1);
        }
    }

    fn shard(&self, name: &str) -> &Shard {
        // FNV-1a. Names may come from clients; what they can achieve is a busy shard, the maps
        // inside are keyed at random.
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

/// The members of a room, or of a whole namespace.
#[derive(Default)]
pub(crate) struct Members {
    slots: Vec<Slot>,
    /// Position by id; kept from [`INDEXED`] members on.
    index: Option<IdMap<u32>>,
    /// Members whose clients are away: they count for nobody, and get what may be asked for again.
    away: Option<Box<IdMap<Outbox>>>,
    /// The last member has left and the name is being taken out: nobody may join any more.
    gone: bool,
}

struct Slot {
    id: SocketId,
    outbox: Outbox,
}

impl Members {
    pub(crate) fn len(&self) -> usize {
        self.slots.len()
    }

    pub(crate) fn ids(&self) -> impl Iterator<Item = SocketId> {
        self.slots.iter().map(|slot| slot.id)
    }

    pub(crate) fn contains(&self, id: SocketId) -> bool {
        self.position(id).is_some()
    }

    /// Whether the list was closed to newcomers by [`close_if_empty`](Self::close_if_empty).
    pub(crate) fn is_gone(&self) -> bool {
        self.gone
    }

    /// Closes an empty list to newcomers.
    pub(crate) fn close_if_empty(&mut self) -> bool {
        self.gone = self.slots.is_empty() && self.away.is_none();
        self.gone
    }

    /// The client of a member is away. `true`: nobody else is there.
    pub(crate) fn park(&mut self, id: SocketId, outbox: &Outbox) -> bool {
        let was_last = self.remove(id) && self.slots.is_empty();
        let away = self.away.get_or_insert_default();
        away.insert(id, outbox.clone());
        was_last
    }

    /// The client of a member is back. `true`: nobody else is there.
    pub(crate) fn resume(&mut self, id: SocketId, outbox: &Outbox) -> bool {
        self.forget_away(id);
        self.insert(id, outbox.clone());
        self.slots.len() == 1
    }

    /// A client that is away will not come back.
    pub(crate) fn forget_away(&mut self, id: SocketId) {
        let Some(away) = &mut self.away else {
            return;
        };
        away.remove(&id);
        if away.is_empty() {
            self.away = None;
        } else if away.len() < away.capacity() / 4 {
            let kept = away.len() * 2;
            away.shrink_to(kept);
        }
    }

    /// The outbox of a member whose client is away.
    pub(crate) fn away(&self, id: SocketId) -> Option<Outbox> {
        self.away.as_ref()?.get(&id).cloned()
    }

    /// Those whose clients are away.
    pub(crate) fn ids_away(&self) -> impl Iterator<Item = SocketId> {
        self.away.iter().flat_map(|away| away.keys().copied())
    }

    /// Adds a member; one that is there already stays where it is.
    pub(crate) fn insert(&mut self, id: SocketId, outbox: Outbox) {
        if self.contains(id) {
            return;
        }
        let position = self.slots.len() as u32;
        self.slots.push(Slot { id, outbox });
        if let Some(index) = &mut self.index {
            index.insert(id, position);
        } else if self.slots.len() > INDEXED {
            self.index = Some(
                (0..)
                    .zip(&self.slots)
                    .map(|(i, slot)| (slot.id, i))
                    .collect(),
            );
        }
    }

    /// Takes a member out; the last one takes its place.
    pub(crate) fn remove(&mut self, id: SocketId) -> bool {
        let Some(position) = self.position(id) else {
            return false;
        };
        self.slots.swap_remove(position);
        if let Some(index) = &mut self.index {
            index.remove(&id);
            if let Some(moved) = self.slots.get(position) {
                index.insert(moved.id, position as u32);
            }
            if self.slots.len() <= INDEXED / 2 {
                self.index = None;
            }
        }
        if self.slots.len() < self.slots.capacity() / 4 {
            self.slots.shrink_to(self.slots.len() * 2);
        }
        true
    }

    fn position(&self, id: SocketId) -> Option<usize> {
        match &self.index {
            Some(index) => index.get(&id).map(|&position| position as usize),
            None => self.slots.iter().position(|slot| slot.id == id),
        }
    }

    /// Pushes a frame to every member that is not excepted. Nothing in here may call back: the
    /// caller holds the lock.
    fn push(&self, push: &mut Pushing<'_, impl FnMut(SocketId)>) {
        for slots in self.slots.chunks(AHEAD) {
            // A push is full of atomic operations, each of which waits for every load before it.
            // So what several of them need is fetched in one go, side by side.
            let fetched = slots.iter().fold(0, |sum, slot| sum ^ slot.outbox.touch());
            std::hint::black_box(fetched);
            for slot in slots {
                if !push.except.has(slot.id) {
                    push.one(slot.id, &slot.outbox);
                }
            }
        }
        if let Some(away) = &self.away
            && push.frame.stamp().is_some()
        {
            for (&id, outbox) in &**away {
                if !push.except.has(id) {
                    push.one_away(outbox);
                }
            }
        }
    }
}

/// Members whose memory is fetched together; a core has about a dozen fetches in flight.
const AHEAD: usize = 8;

/// The rooms of a broadcast.
#[derive(Clone, Debug)]
pub(crate) enum Target<'a> {
    /// The whole namespace.
    All,
    One(RoomName<'a>),
    /// Maybe none, which reaches nobody.
    Many(Vec<RoomName<'a>>),
}

impl<'a> Target<'a> {
    pub(crate) fn add(self, room: RoomName<'a>) -> Self {
        match self {
            Self::All => Self::One(room),
            Self::One(first) => Self::Many(vec![first, room]),
            Self::Many(mut rooms) => {
                rooms.push(room);
                Self::Many(rooms)
            }
        }
    }
}

/// Who does not get a broadcast although a named room has it.
#[derive(Debug, Default)]
pub(crate) struct Except {
    pub(crate) sender: Option<SocketId>,
    pub(crate) others: Option<IdSet>,
}

impl Except {
    pub(crate) fn has(&self, id: SocketId) -> bool {
        self.sender == Some(id)
            || self
                .others
                .as_ref()
                .is_some_and(|others| others.contains(&id))
    }
}

/// What became of a frame, by number of recipients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tally {
    pub(crate) queued: usize,
    pub(crate) dropped: usize,
    pub(crate) overflowed: usize,
    pub(crate) closed: usize,
}

impl Tally {
    pub(crate) fn count(&mut self, push: Push) {
        match push {
            Push::Queued => self.queued += 1,
            Push::Dropped => self.dropped += 1,
            Push::Overflow => self.overflowed += 1,
            Push::Closed => self.closed += 1,
        }
    }
}

/// One broadcast on its way: what is sent how, and to whom it went.
pub(crate) struct Pushing<'a, F> {
    pub(crate) frame: &'a Frame,
    pub(crate) mode: Mode,
    pub(crate) except: &'a Except,
    /// Called for every recipient that the frame was queued for.
    pub(crate) each: F,
    pub(crate) batch: Batch,
    pub(crate) tally: Tally,
}

impl<'a, F: FnMut(SocketId)> Pushing<'a, F> {
    pub(crate) fn new(frame: &'a Frame, mode: Mode, except: &'a Except, each: F) -> Self {
        Self {
            frame,
            mode,
            except,
            each,
            batch: Batch::new(),
            tally: Tally::default(),
        }
    }

    /// One recipient, whoever it is.
    pub(crate) fn one(&mut self, id: SocketId, outbox: &Outbox) {
        let push = outbox.push_batched(self.frame, self.mode, &mut self.batch);
        if push == Push::Queued {
            (self.each)(id);
        }
        self.tally.count(push);
    }

    /// One recipient that will get it when it comes back. It has not been reached.
    fn one_away(&mut self, outbox: &Outbox) {
        let _ = outbox.push_batched(self.frame, self.mode, &mut self.batch);
    }

    /// The members of one room.
    pub(crate) fn room(&mut self, cell: &RoomCell) {
        cell.lock().push(self);
    }

    /// The members of several rooms and `singles`, each of them once.
    pub(crate) fn union(
        &mut self,
        mut cells: Vec<Arc<RoomCell>>,
        singles: Vec<(SocketId, Outbox)>,
    ) {
        // Always in the same order, so that two of these cannot wait for one another.
        cells.sort_unstable_by_key(|cell| Arc::as_ptr(cell).addr());
        cells.dedup_by(|a, b| Arc::ptr_eq(a, b));
        // All at once, so that two of these reach all common members in one order.
        let rooms: Vec<MutexGuard<'_, Members>> = cells.iter().map(|cell| cell.lock()).collect();
        let mut seen = IdSet::default();
        for slot in rooms.iter().flat_map(|members| &members.slots) {
            if !self.except.has(slot.id) && seen.insert(slot.id) {
                self.one(slot.id, &slot.outbox);
            }
        }
        for (id, outbox) in singles {
            if !self.except.has(id) && seen.insert(id) {
                self.one(id, &outbox);
            }
        }
        if self.frame.stamp().is_some() {
            let away = rooms.iter().filter_map(|members| members.away.as_deref());
            for (&id, outbox) in away.flatten() {
                if !self.except.has(id) && seen.insert(id) {
                    self.one_away(outbox);
                }
            }
        }
    }

    /// Hands the queues to their flushers and tells what became of the frame. Called without any
    /// lock held.
    pub(crate) fn finish(self) -> Tally {
        self.batch.finish();
        self.tally
    }
}

/// A list longer than this has an index.
const INDEXED: usize = 16;
const SHARDS: usize = 16;

#[cfg(test)]
mod tests {
    use std::sync::Barrier;

    use proptest::prelude::*;

    use super::*;
    use crate::{
        engine::Unattended,
        socket::{Io, Socket, fuzzing},
    };

    fn server(size: usize) -> (Io, Vec<Socket>) {
        let mut builder = Io::builder();
        builder.namespace("/");
        let io = builder.build().unwrap();
        let outboxes = Unattended::polling(Arc::clone(io.metrics_arc()));
        let sockets = (0..size).map(|_| fuzzing::admit(&io, &outboxes)).collect();
        for socket in &sockets {
            received(socket);
        }
        (io, sockets)
    }

    fn received(socket: &Socket) -> Vec<String> {
        let frames = Unattended::take(socket.outbox());
        let text = |frame: &Frame| String::from_utf8(frame.polling().to_vec()).unwrap();
        frames.iter().map(text).collect()
    }

    #[test]
    fn a_broadcast_reaches_the_members_of_the_room_and_nobody_else() {
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
    fn an_empty_list_of_rooms_is_nobody() {
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
        assert_eq!(sockets[1].to(id).emit("hi", ()).queued, 0);
        assert_eq!(io.except(id).count(), 1);
        sockets[1].leave(id);
        assert!(sockets[1].rooms().is_empty());
        // Somebody else may join it, as any room.
        sockets[0].join(id).unwrap();
        assert_eq!(io.to(id).count(), 2);
    }

    #[test]
    fn limits_are_errors_to_the_application() {
        let config = crate::Config {
            max_rooms_per_socket: 2,
            ..crate::Config::default()
        };
        let mut builder = Io::builder().config(config);
        builder.namespace("/");
        let io = builder.build().unwrap();
        let outboxes = Unattended::polling(Arc::clone(io.metrics_arc()));
        let socket = fuzzing::admit(&io, &outboxes);
        use crate::JoinError;
        assert_eq!(socket.join("x".repeat(257)), Err(JoinError::NameTooLong));
        assert_eq!(socket.join(["x".repeat(256), "b".into()]), Ok(()));
        assert_eq!(socket.join("b"), Ok(()));
        assert_eq!(socket.join("c"), Err(JoinError::TooManyRooms));
        socket.disconnect(false);
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
    fn no_join_is_lost_while_a_room_comes_and_goes() {
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
            socket.disconnect(false);
        }
        assert_eq!(io.metrics().gauge(Gauge::Rooms), 0);
        assert!(io.of("/").rooms().is_empty());
    }

    #[test]
    fn a_slot_is_no_larger_than_an_id_and_a_pointer() {
        assert_eq!(size_of::<Slot>(), 32);
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn the_router_agrees_with_a_naive_model(data in proptest::collection::vec(any::<u8>(), 0..2000)) {
            fuzzing::rooms_ops(&data);
        }
    }
}
