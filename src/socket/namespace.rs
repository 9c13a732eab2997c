use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use roomcast_protocol::{Frame, Stamp, socket::Nsp};

use super::{
    Io,
    emit::Broadcast,
    expiring::give_back,
    handlers::Handlers,
    id::{IdMap, IdSet, SocketId},
    questions::Questions,
    recovery::{Channel, Offset, Pid},
    room::{Room, RoomName},
    rooms::{Except, Members, Pushing, Rooms, Tally, Target},
    socket::Socket,
    targets::targets,
};
use crate::{
    Config,
    engine::{Limits, Mode, Outbox, Push},
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

    /// Somebody who is connected now and is meant.
    #[cfg(feature = "server")]
    pub(crate) fn find_principal(
        &self,
        is_meant: impl Fn(&crate::auth::Principal) -> bool,
    ) -> Option<Arc<crate::auth::Principal>> {
        let sockets = self.inner()?.all_sockets();
        let mut principals = sockets.iter().map(Socket::principal);
        principals.find(|principal| is_meant(principal))
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

    pub(crate) fn inner(&self) -> Option<Arc<Inner>> {
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
    /// Numbers its events if clients may recover.
    channel: Option<Box<Channel<Socket>>>,
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
            channel: config
                .recovery
                .as_ref()
                .map(|on| Box::new(Channel::new(on))),
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

    /// The stamp of the next event that may be asked for again, if any may.
    #[inline]
    pub(crate) fn stamp(&self) -> Option<Stamp> {
        self.channel.as_ref().map(|channel| channel.next())
    }

    /// The stamp of an event that a client has.
    pub(crate) fn known(&self, last: Offset) -> Option<Stamp> {
        self.channel.as_ref().map(|channel| channel.known(last))
    }

    /// Forgets what was kept for a client.
    pub(crate) fn forget_recent(&self, socket: &Socket) {
        if let Some(channel) = &self.channel {
            socket.outbox().forget_recent(channel.id());
        }
    }

    /// Keeps a place for a client that is away.
    pub(crate) fn park(&self, socket: &Socket) {
        let id = socket.id();
        if let Some(channel) = &self.channel {
            channel.add_away(id, socket.clone());
        }
        // Whoever looks for it finds it in one place or the other.
        let mut everybody = self.everybody.lock();
        let was_there = everybody.contains(id);
        everybody.park(id, socket.outbox());
        drop(everybody);
        if was_there {
            self.metrics.shift(Gauge::Sockets, -1);
        }
        self.forget_socket(id);
    }

    /// Lets a client in that comes back: it gets what it has missed, and then is told so. The
    /// number of events it had missed; `None` if it cannot be let in any more.
    pub(crate) fn readmit(
        &self,
        old: &Socket,
        socket: &Socket,
        known: Stamp,
        limits: Limits,
    ) -> Option<usize> {
        let hello = self.hello(socket)?;
        let (id, outbox) = (socket.id(), socket.outbox());
        let missed = old.outbox().hand_over(known, outbox, limits, &hello)?;
        self.sockets.write().insert(id, socket.clone());
        self.everybody.lock().resume(id, outbox);
        self.forget_away(id);
        self.metrics.shift(Gauge::Sockets, 1);
        socket.rejoin(old);
        Some(missed)
    }

    /// What a client is told that has been let in.
    fn hello(&self, socket: &Socket) -> Option<Frame> {
        let admitted = Admitted {
            sid: socket.id(),
            pid: socket.recoverable().map(|recoverable| recoverable.pid),
        };
        match self.config.parser.connect(self.name.as_str(), &admitted) {
            Ok(frame) => Some(frame),
            Err(error) => {
                // The name came from a packet, or was checked by the builder.
                tracing::error!(%error, "a connect packet cannot be encoded");
                None
            }
        }
    }

    /// Lets a socket in: it is told its id and gets everything that is sent from then on.
    /// `false`: the namespace has just been taken down.
    pub(crate) fn admit(&self, socket: &Socket) -> bool {
        let Some(frame) = self.hello(socket) else {
            return true;
        };
        self.sockets.write().insert(socket.id(), socket.clone());
        let mut everybody = self.everybody.lock();
        if everybody.is_gone() {
            drop(everybody);
            self.sockets.write().remove(&socket.id());
            return false;
        }
        if let Some(channel) = &self.channel
            && socket.recoverable().is_some()
        {
            socket.outbox().keep_recent(channel.id(), channel.limits());
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
        self.forget_socket(id);
        let mut everybody = self.everybody.lock();
        if everybody.remove(id) {
            self.metrics.shift(Gauge::Sockets, -1);
        }
        everybody.forget_away(id);
        let is_over = self.goes_when_empty && everybody.close_if_empty();
        drop(everybody);
        self.forget_away(id);
        is_over
    }

    fn forget_away(&self, id: SocketId) {
        if let Some(channel) = &self.channel {
            channel.forget_away(id);
        }
    }

    /// The members of a target whose clients are away.
    pub(crate) fn away(&self, to: &Target<'_>, except: &Except) -> Vec<Socket> {
        let Some(channel) = &self.channel else {
            return Vec::new();
        };
        let mut ids = IdSet::default();
        let mut add = |name: &RoomName<'_>| self.collect_with_away(name, &mut ids);
        match to {
            Target::All => ids.extend(self.everybody.lock().ids_away()),
            Target::One(name) => add(name),
            Target::Many(names) => names.iter().for_each(add),
        }
        ids.retain(|id| !except.has(*id));
        channel.away_of(&ids)
    }

    fn forget_socket(&self, id: SocketId) {
        let mut sockets = self.sockets.write();
        let gone = sockets.remove(&id);
        give_back(&mut sockets);
        drop(sockets);
        drop(gone);
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
        let own = name.id().filter(|id| self.sockets.read().contains_key(id));
        ids.extend(own);
    }

    /// As [`collect`](Self::collect), with those whose clients are away.
    pub(crate) fn collect_with_away(&self, name: &RoomName<'_>, ids: &mut IdSet) {
        self.collect(name, ids);
        if self.channel.is_some() {
            if let Some(room) = self.rooms.find(name.as_str()) {
                ids.extend(room.lock().ids_away());
            }
            ids.extend(name.id());
        }
    }

    /// Keeps an event for a client that is away, or brings it to where it is now.
    pub(crate) fn push_to(&self, id: SocketId, frame: &Frame, mode: Mode) -> Push {
        match self.outbox_of(id) {
            Some(outbox) => outbox.push(frame, mode),
            None => Push::Closed,
        }
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
        Some((id, self.outbox_of(id)?))
    }

    fn outbox_of(&self, id: SocketId) -> Option<Outbox> {
        if let Some(socket) = self.sockets.read().get(&id) {
            return Some(socket.outbox().clone());
        }
        self.channel.as_ref()?;
        self.everybody.lock().away(id)
    }
}

/// The payload of the `CONNECT` packet that admits a client.
#[derive(serde::Serialize)]
struct Admitted {
    sid: SocketId,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<Pid>,
}

impl fmt::Debug for Inner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
