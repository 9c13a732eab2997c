use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use roomcast_protocol::{
    Frame,
    socket::{Nsp, encode},
};

use super::{
    Io,
    acks::Questions,
    emit::{Broadcast, Target},
    handlers::Handlers,
    id::{IdMap, IdSet, SocketId},
    room::{Room, RoomName},
    rooms::{Except, Members, Pushing, Rooms, Tally},
    socket::Socket,
    targets::targets,
};
use crate::{
    Config,
    engine::{Mode, Outbox},
    metrics::{Gauge, Metrics},
};

/// A handle to one namespace. Cloning is cheap.
///
/// It can be had for a namespace that does not exist, or not yet: it then reaches nobody.
#[derive(Clone)]
pub struct Namespace {
    io: Io,
    name: Nsp,
    /// Namespaces made on demand come and go, so they are looked up when used.
    fixed: Option<Arc<Inner>>,
}

impl Namespace {
    pub(crate) fn new(io: Io, name: &str) -> Self {
        let name = Nsp::from(name);
        let fixed = io.fixed_namespace(name.as_str()).cloned();
        Self { io, name, fixed }
    }

    pub(crate) fn existing(io: Io, inner: Arc<Inner>) -> Self {
        Self {
            name: inner.name.clone(),
            io,
            fixed: Some(inner),
        }
    }

    pub(crate) fn of_socket(socket: &Socket) -> Self {
        let inner = socket.namespace_inner();
        Self {
            io: socket.io().clone(),
            name: inner.name.clone(),
            fixed: Some(Arc::clone(inner)),
        }
    }

    /// The name, with its leading slash.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// The server it belongs to.
    #[must_use]
    pub fn io(&self) -> &Io {
        &self.io
    }

    targets!("the namespace");

    /// The socket with this id, if it is connected.
    #[must_use]
    pub fn socket(&self, id: SocketId) -> Option<Socket> {
        self.inner()?.socket(id)
    }

    /// The rooms and how many members each has, in no order; without the sockets' own rooms.
    #[must_use]
    pub fn rooms(&self) -> Vec<(Room, usize)> {
        self.inner()
            .map_or_else(Vec::new, |inner| inner.rooms.sizes())
    }

    fn all<'a>(&self) -> Broadcast<'a> {
        Broadcast::new(self.inner())
    }

    fn inner(&self) -> Option<Arc<Inner>> {
        match &self.fixed {
            Some(inner) => Some(Arc::clone(inner)),
            None => self.io.made_namespace(&self.name),
        }
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Namespace").field(&self.name).finish()
    }
}

/// A namespace: its handlers, its sockets and their rooms.
pub(crate) struct Inner {
    pub(crate) name: Nsp,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) rooms: Rooms,
    pub(crate) questions: Questions,
    /// The namespace as a room.
    everybody: Mutex<Members>,
    sockets: RwLock<IdMap<Socket>>,
    /// Shared by all sockets, so that a broadcast that asks is one frame.
    ack_ids: AtomicU64,
    /// Whether it is taken down with its last socket.
    goes_when_empty: bool,
    /// Sockets that want to know what is sent to them.
    curious: Mutex<IdMap<Socket>>,
    /// How many those are, so that most broadcasts need not look.
    curious_count: AtomicUsize,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
}

impl Inner {
    pub(crate) fn new(
        name: Nsp,
        handlers: Arc<Handlers>,
        goes_when_empty: bool,
        config: Arc<Config>,
        metrics: Arc<Metrics>,
    ) -> Self {
        Self {
            name,
            handlers,
            rooms: Rooms::new(Arc::clone(&metrics)),
            questions: Questions::default(),
            everybody: Mutex::default(),
            sockets: RwLock::default(),
            ack_ids: AtomicU64::new(0),
            goes_when_empty,
            curious: Mutex::default(),
            curious_count: AtomicUsize::new(0),
            config,
            metrics,
        }
    }

    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// A socket wants to know what is sent to it, or no more.
    pub(crate) fn set_curious(&self, socket: &Socket, is_curious: bool) {
        let mut curious = self.curious.lock();
        let before = if is_curious {
            curious.insert(socket.id(), socket.clone())
        } else {
            curious.remove(&socket.id())
        };
        self.curious_count.store(curious.len(), Ordering::Relaxed);
        drop(curious);
        drop(before);
    }

    /// Whether a broadcast should say whom it reached.
    #[inline]
    pub(crate) fn has_curious(&self) -> bool {
        self.curious_count.load(Ordering::Relaxed) > 0
    }

    /// Those among these sockets that want to know what is sent to them.
    pub(crate) fn curious_of(&self, ids: &[SocketId]) -> Vec<Socket> {
        let curious = self.curious.lock();
        ids.iter()
            .filter_map(|id| curious.get(id).cloned())
            .collect()
    }

    pub(crate) fn next_ack_id(&self) -> u64 {
        self.ack_ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn len(&self) -> usize {
        self.everybody.lock().len()
    }

    pub(crate) fn socket(&self, id: SocketId) -> Option<Socket> {
        self.sockets.read().get(&id).cloned()
    }

    /// Lets a socket in: it is told its id and gets everything that is sent from then on.
    /// `false`: the namespace has just been taken down.
    pub(crate) fn admit(&self, socket: &Socket) -> bool {
        let frame = match encode::connect(self.name.as_str(), &Admitted { sid: socket.id() }) {
            Ok(frame) => frame,
            Err(error) => {
                // The name came from a packet, or was checked by the builder.
                tracing::error!(%error, "a connect packet cannot be encoded");
                return true;
            }
        };
        self.sockets.write().insert(socket.id(), socket.clone());
        let mut everybody = self.everybody.lock();
        if everybody.is_gone() {
            drop(everybody);
            self.sockets.write().remove(&socket.id());
            return false;
        }
        let _ = socket.outbox().push(&frame, Mode::Reliable);
        everybody.insert(socket.id(), socket.outbox().clone());
        drop(everybody);
        if let Some(watchers) = socket.conn_watchers() {
            watchers.tell_created(&self.metrics, &frame);
        }
        self.metrics.shift(Gauge::Sockets, 1);
        true
    }

    /// Takes a socket out. `true`: it was the last one of a namespace that goes with it.
    pub(crate) fn dismiss(&self, id: SocketId) -> bool {
        let mut sockets = self.sockets.write();
        sockets.remove(&id);
        if sockets.len() < sockets.capacity() / 4 {
            let kept = sockets.len() * 2;
            sockets.shrink_to(kept);
        }
        drop(sockets);
        let mut everybody = self.everybody.lock();
        if everybody.remove(id) {
            self.metrics.shift(Gauge::Sockets, -1);
        }
        self.goes_when_empty && everybody.close_if_empty()
    }

    /// Pushes a frame to the members of a target, and calls `each` for everyone it is queued for.
    pub(crate) fn broadcast(
        &self,
        to: &Target<'_>,
        frame: &Frame,
        mode: Mode,
        except: &Except,
        each: impl FnMut(SocketId),
    ) -> Tally {
        let mut pushing = Pushing::new(frame, mode, except, each);
        match to {
            Target::All => pushing.room(&self.everybody),
            Target::One(name) => match (self.rooms.find(name.as_str()), self.own_room(name)) {
                (Some(room), None) => pushing.room(&room),
                (None, Some((id, outbox))) => {
                    if !except.has(id) {
                        pushing.one(id, &outbox);
                    }
                }
                (None, None) => {}
                (Some(room), Some(single)) => pushing.union(vec![room], vec![single]),
            },
            Target::Many(names) => {
                let rooms = names
                    .iter()
                    .filter_map(|name| self.rooms.find(name.as_str()));
                let singles = names.iter().filter_map(|name| self.own_room(name));
                pushing.union(rooms.collect(), singles.collect());
            }
        }
        pushing.finish()
    }

    /// The ids of the members of a target.
    pub(crate) fn ids(&self, to: &Target<'_>) -> IdSet {
        let mut ids = IdSet::default();
        match to {
            Target::All => ids.extend(self.everybody.lock().ids()),
            Target::One(name) => self.collect(name, &mut ids),
            Target::Many(names) => {
                for name in names {
                    self.collect(name, &mut ids);
                }
            }
        }
        ids
    }

    /// Adds the ids of the members of one room.
    pub(crate) fn collect(&self, name: &RoomName<'_>, ids: &mut IdSet) {
        if let Some(room) = self.rooms.find(name.as_str()) {
            ids.extend(room.lock().ids());
        }
        ids.extend(self.own_room(name).map(|(id, _)| id));
    }

    pub(crate) fn all_sockets(&self) -> Vec<Socket> {
        self.sockets.read().values().cloned().collect()
    }

    pub(crate) fn sockets_of(&self, ids: &IdSet) -> Vec<Socket> {
        let sockets = self.sockets.read();
        ids.iter()
            .filter_map(|id| sockets.get(id).cloned())
            .collect()
    }

    /// Every socket is in the room of its own id, without anybody keeping a list.
    fn own_room(&self, name: &RoomName<'_>) -> Option<(SocketId, Outbox)> {
        let id = name.id()?;
        Some((id, self.sockets.read().get(&id)?.outbox().clone()))
    }
}

/// The payload of the `CONNECT` packet that admits a client.
#[derive(serde::Serialize)]
struct Admitted {
    sid: SocketId,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
