use std::{
    fmt,
    str::FromStr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
};

use parking_lot::{Mutex, RwLock};
use roomcast_protocol::{Frame, Stamp, socket::Nsp};

use super::{
    handlers::Handlers,
    io::{Io, WeakIo},
    socket::Socket,
};
use crate::{
    Config,
    adapter::{Audience, Cluster, NodeId, Position},
    engine::{Mode, Outbox, Push},
    metrics::Metrics,
    socket::{
        acks::BroadcastRequests,
        recovery::{Channel, EventOffset, LastOffset, Tag},
        rooms::{Collected, Except, Members, Observed, Pushing, Rooms, Tally},
        types::{IdMap, IdSet, RoomName, SocketId},
    },
};

/// A handle to one namespace. Clones are cheap.
///
/// The namespace might not exist, or not yet. Then the handle reaches no socket.
#[derive(Clone)]
pub struct Namespace {
    io: Io,
    name: Nsp,
    /// `None` if each use looks up the namespace by its name.
    fixed: Option<Arc<NamespaceInner>>,
}

impl Namespace {
    pub(crate) fn new(io: Io, name: &str) -> Self {
        let name = Nsp::from(name);
        let fixed = io.fixed_namespace(name.as_str()).cloned();
        Self { io, name, fixed }
    }

    pub(crate) fn existing(io: Io, inner: Arc<NamespaceInner>) -> Self {
        Self {
            name: inner.name.clone(),
            io,
            fixed: Some(inner),
        }
    }

    pub(crate) fn of_socket(socket: &Socket) -> Self {
        let inner = Arc::clone(socket.namespace_inner());
        Self::existing(socket.io().clone(), inner)
    }

    /// Returns the name, with its leading slash.
    #[must_use]
    pub fn name(&self) -> &str {
        self.name.as_str()
    }

    /// Returns the value of a parameter of
    /// [`namespace_pattern`](crate::Builder::namespace_pattern), as `T`.
    ///
    /// Returns `None` if the namespace has no such parameter or its value is not a `T`. The value
    /// is part of the name as the client sent it.
    #[must_use]
    pub fn param<T: FromStr>(&self, name: &str) -> Option<T> {
        // A handler of a removed namespace can still read its parameters.
        let inner = self.fixed.clone().or_else(|| self.inner())?;
        let pattern = inner.handlers.pattern.as_ref()?;
        pattern.param(self.name(), name)?.parse().ok()
    }

    /// Returns the server of the namespace.
    #[must_use]
    pub fn io(&self) -> &Io {
        &self.io
    }

    pub(crate) fn nsp(&self) -> &Nsp {
        &self.name
    }

    pub(crate) fn inner(&self) -> Option<Arc<NamespaceInner>> {
        match &self.fixed {
            Some(inner) if !inner.is_removed() => Some(Arc::clone(inner)),
            // A namespace of the same name may have been added since.
            Some(_) | None => self.io.made_namespace(&self.name),
        }
    }
}

impl fmt::Debug for Namespace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Namespace").field(&self.name).finish()
    }
}

/// The state of a namespace: its handlers, sockets and rooms.
pub(crate) struct NamespaceInner {
    pub(crate) name: Nsp,
    /// The server of the namespace.
    pub(crate) io: WeakIo,
    pub(crate) handlers: Arc<Handlers>,
    pub(crate) rooms: Rooms,
    pub(crate) broadcast_requests: BroadcastRequests,
    /// All sockets of the namespace, as a room.
    pub(in crate::socket) members: Mutex<Members>,
    pub(in crate::socket) sockets: RwLock<IdMap<Socket>>,
    /// Shared by all sockets, so that a broadcast with acknowledgements is a single frame.
    ack_ids: AtomicU64,
    /// Whether the namespace is removed with its last socket.
    pub(in crate::socket) removed_when_empty: bool,
    /// Whether the application has removed the namespace.
    is_removed: AtomicBool,
    /// Sockets with observers of outgoing events.
    observers: Mutex<IdMap<Socket>>,
    /// The number of `observers`, so that most broadcasts need no lock.
    observer_count: AtomicUsize,
    /// Numbers the events, if recovery is enabled.
    pub(in crate::socket) channel: Option<Box<Channel<Socket>>>,
    /// The cluster, or `Cluster::Local` without an adapter.
    pub(crate) cluster: Cluster,
    /// The id of this server in its cluster.
    pub(crate) node: NodeId,
    config: Arc<Config>,
    metrics: Arc<Metrics>,
}

impl NamespaceInner {
    pub(crate) fn new(
        io: WeakIo,
        name: Nsp,
        handlers: Arc<Handlers>,
        removed_when_empty: bool,
        (cluster, node): (Cluster, NodeId),
        config: Arc<Config>,
        metrics: Arc<Metrics>,
    ) -> Self {
        let tag = cluster
            .is_joined()
            .then(|| Tag::of(node.as_str()))
            .flatten();
        let journals = cluster.has_journal();
        Self {
            name,
            io,
            handlers,
            rooms: Rooms::new(Arc::clone(&metrics)),
            broadcast_requests: BroadcastRequests::default(),
            members: Mutex::default(),
            sockets: RwLock::default(),
            ack_ids: AtomicU64::new(0),
            removed_when_empty,
            is_removed: AtomicBool::new(false),
            observers: Mutex::default(),
            observer_count: AtomicUsize::new(0),
            channel: config
                .recovery
                .as_ref()
                .map(|on| Box::new(Channel::new(on, tag, journals))),
            cluster,
            node,
            config,
            metrics,
        }
    }

    /// Marks the namespace as removed, so that no further client enters. Returns `false` if it was
    /// removed before.
    pub(crate) fn remove(&self) -> bool {
        if self.is_removed.swap(true, Ordering::AcqRel) {
            return false;
        }
        // A client that enters concurrently holds this lock. Clients that acquire it later detect
        // the mark. Earlier clients are members, which the caller disconnects.
        drop(self.members.lock());
        true
    }

    /// Returns whether the application has removed the namespace.
    #[inline]
    pub(crate) fn is_removed(&self) -> bool {
        self.is_removed.load(Ordering::Acquire)
    }

    #[inline]
    pub(crate) fn config(&self) -> &Config {
        &self.config
    }

    #[inline]
    pub(crate) fn metrics(&self) -> &Metrics {
        &self.metrics
    }

    /// Registers or unregisters a socket with observers of outgoing events.
    pub(crate) fn set_observed(&self, socket: &Socket, is_observed: bool) {
        let mut observers = self.observers.lock();
        let before = if is_observed {
            observers.insert(socket.id(), socket.clone())
        } else {
            observers.remove(&socket.id())
        };
        // The count is a hint for broadcasts, so `Relaxed` is enough. A concurrent broadcast may
        // miss the change.
        self.observer_count
            .store(observers.len(), Ordering::Relaxed);
        // This may drop the last reference to the socket, which must not happen under the lock.
        drop(observers);
        drop(before);
    }

    /// Returns whether a broadcast must collect its recipients.
    #[inline]
    pub(crate) fn has_observers(&self) -> bool {
        self.observer_count.load(Ordering::Relaxed) > 0
    }

    /// Returns the sockets among `ids` that have observers.
    pub(crate) fn observers_of(&self, ids: &[SocketId]) -> Vec<Socket> {
        let observers = self.observers.lock();
        ids.iter()
            .filter_map(|id| observers.get(id).cloned())
            .collect()
    }

    /// Returns the sockets whose observers a broadcast notifies, or `None` if there are none.
    #[inline]
    pub(crate) fn observed(&self) -> Option<Observed> {
        self.has_observers()
            .then(|| Observed::new(self.observers.lock().keys().cloned()))
    }

    #[inline]
    pub(crate) fn next_ack_id(&self) -> u64 {
        // The ids only need to be unique, so `Relaxed` is enough.
        self.ack_ids.fetch_add(1, Ordering::Relaxed)
    }

    pub(crate) fn len(&self) -> usize {
        self.members.lock().len()
    }

    pub(crate) fn socket(&self, id: &SocketId) -> Option<Socket> {
        self.sockets.read().get(id).cloned()
    }

    /// Returns the stamp of the next recoverable event, if recovery is enabled.
    #[inline]
    pub(crate) fn stamp(&self, position: Option<Position>) -> Option<(Stamp, EventOffset)> {
        self.channel.as_ref()?.next(position)
    }

    /// Returns the stamp of an event that a client has received.
    pub(crate) fn known(&self, last: LastOffset) -> Option<Stamp> {
        self.channel.as_ref()?.known(last)
    }

    /// Returns the disconnected but recoverable members of a target.
    pub(crate) fn recoverable(&self, to: &Audience<'_>, except: &Except) -> Vec<Socket> {
        let Some(channel) = &self.channel else {
            return Vec::new();
        };
        let mut ids = IdSet::default();
        let mut add = |name: &RoomName<'_>| self.collect_with_recoverable(name, &mut ids);
        match to {
            Audience::All => ids.extend(self.members.lock().recoverable_ids()),
            Audience::One(name) => add(name),
            Audience::Many(names) => names.iter().for_each(add),
        }
        ids.retain(|id| !except.has(id));
        channel.recoverable_among(&ids)
    }

    /// Returns whether one of these rooms, or the namespace if the list is empty, has members.
    /// Recoverable sockets count.
    #[cfg(feature = "redis")]
    pub(crate) fn has_any(&self, rooms: &[crate::names::Room]) -> bool {
        if rooms.is_empty() {
            let members = self.members.lock();
            return members.len() > 0 || members.recoverable_ids().next().is_some();
        }
        let mut names = rooms.iter().map(RoomName::from);
        names.any(|name| self.rooms.find(name.as_str()).is_some() || self.own_room(&name).is_some())
    }

    /// Pushes a frame to the members of a target. The requested recipients are added to
    /// `collected`.
    pub(crate) fn broadcast(
        &self,
        to: &Audience<'_>,
        frame: &Frame,
        mode: Mode,
        except: &Except,
        collected: Collected<'_>,
    ) -> Tally {
        let mut pushing = Pushing::new(frame, mode, except, collected);
        match to {
            Audience::All => pushing.room(&self.members),
            Audience::One(name) => match (self.rooms.find(name.as_str()), self.own_room(name)) {
                (Some(room), None) => pushing.room(&room),
                (None, Some((id, outbox))) => {
                    if !except.has(&id) {
                        pushing.one(&id, &outbox);
                    }
                }
                (None, None) => {}
                // A room may have the same name as a socket's id. Then both are targets.
                (Some(room), Some(single)) => pushing.union(vec![room], vec![single]),
            },
            Audience::Many(names) => {
                let rooms = names
                    .iter()
                    .filter_map(|name| self.rooms.find(name.as_str()));
                let singles = names.iter().filter_map(|name| self.own_room(name));
                pushing.union(rooms.collect(), singles.collect());
            }
        }
        pushing.finish()
    }

    /// Returns the ids of the members of a target.
    pub(crate) fn ids(&self, to: &Audience<'_>) -> IdSet {
        let mut ids = IdSet::default();
        match to {
            Audience::All => ids.extend(self.members.lock().ids()),
            Audience::One(name) => self.collect(name, &mut ids),
            Audience::Many(names) => names.iter().for_each(|name| self.collect(name, &mut ids)),
        }
        ids
    }

    /// Returns the number of members of a room.
    pub(crate) fn size(&self, name: &RoomName<'_>) -> usize {
        let room = self.rooms.find(name.as_str());
        room.map_or(0, |room| room.lock().len())
    }

    /// Adds the ids of the members of one room.
    pub(crate) fn collect(&self, name: &RoomName<'_>, ids: &mut IdSet) {
        if let Some(room) = self.rooms.find(name.as_str()) {
            ids.extend(room.lock().ids());
        }
        let own = name.id().filter(|id| self.sockets.read().contains_key(id));
        ids.extend(own);
    }

    /// Adds ids like [`collect`](Self::collect), including recoverable sockets.
    pub(crate) fn collect_with_recoverable(&self, name: &RoomName<'_>, ids: &mut IdSet) {
        self.collect(name, ids);
        if self.channel.is_some() {
            if let Some(room) = self.rooms.find(name.as_str()) {
                ids.extend(room.lock().recoverable_ids());
            }
            ids.extend(name.id());
        }
    }

    /// Pushes an event to a socket by its id, whether the client is disconnected or has recovered.
    pub(crate) fn push_to(&self, id: &SocketId, frame: &Frame, mode: Mode) -> Push {
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

    /// Returns the outbox of a room that is a socket's id. These rooms have no member list.
    fn own_room(&self, name: &RoomName<'_>) -> Option<(SocketId, Outbox)> {
        let id = name.id()?;
        Some((id.clone(), self.outbox_of(&id)?))
    }

    fn outbox_of(&self, id: &SocketId) -> Option<Outbox> {
        // Connected sockets are searched first. A socket that disconnects is added to the
        // recoverable sockets before it is removed from the connected sockets. So one of the
        // searches always finds it.
        if let Some(socket) = self.sockets.read().get(id) {
            return Some(socket.outbox().clone());
        }
        self.channel.as_ref()?;
        self.members.lock().recoverable(id)
    }
}

impl fmt::Debug for NamespaceInner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Namespace")
            .field("name", &self.name)
            .finish_non_exhaustive()
    }
}
