//! An adapter for servers of one process that loses, delays, duplicates and reorders messages on
//! demand.

use std::{
    collections::{BTreeMap, HashSet, VecDeque},
    sync::{
        Arc, Condvar, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    thread,
};

use roomcast::{
    Room,
    adapter::{
        Adapter, AdapterError, BoxFuture, Channel, Envelope, Health, Inbox, Message, NodeId,
        Servers, Subscriber, Subscriptions,
    },
    types::Bytes,
};

use crate::random::Random;

/// Connects the servers. Everything is transported as bytes, and each pair of servers has its own
/// queue.
#[derive(Clone, Default)]
pub(super) struct Hub(Arc<HubInner>);

#[derive(Default)]
struct HubInner {
    state: Mutex<HubState>,
    /// Signals that something may have become deliverable, or that nothing is in flight.
    changed: Condvar,
    /// If set, delivered envelopes count as not sealed.
    is_plain: AtomicBool,
    /// Held while a heartbeat is delivered, so that none arrives after the end of its server.
    heartbeat_lock: Mutex<()>,
}

#[derive(Default)]
struct HubState {
    nodes: BTreeMap<NodeId, Node>,
    /// Queues by sender and receiver.
    links: BTreeMap<(NodeId, NodeId), VecDeque<Bytes>>,
    /// Heartbeats, leave messages and requests for clients in flight. Faults that a test injects
    /// into envelopes do not affect them. Only those from and to isolated servers are lost.
    heartbeats: VecDeque<(NodeId, NodeId, Bytes)>,
    /// Number of deliveries in progress.
    busy: usize,
    /// Nothing is delivered while set.
    is_holding: bool,
    /// Everything is delivered twice while set.
    is_duplicating: bool,
    /// Queued envelopes are delivered in random order while set.
    is_shuffling: bool,
    /// Number of envelopes to lose from now on.
    losing: usize,
    follows_rooms: bool,
    random: Random,
    delivered: usize,
}

struct Node {
    inbox: Inbox,
    rooms: HashSet<(String, String)>,
    is_isolated: bool,
    /// Heartbeats and requests for clients wait until this is unset.
    is_late: bool,
}

impl Hub {
    pub(super) fn new() -> Self {
        let hub = Self::default();
        let shared = Arc::downgrade(&hub.0);
        thread::spawn(move || {
            while let Some(shared) = shared.upgrade() {
                Self(shared).work();
            }
        });
        hub
    }

    /// Creates a hub whose servers do not seal.
    pub(super) fn plain() -> Self {
        let hub = Self::new();
        hub.0.is_plain.store(true, Ordering::Relaxed);
        hub
    }

    /// Delivers an envelope. Only servers of the test are connected, so each envelope counts as
    /// sealed.
    fn deliver(&self, inbox: &Inbox, bytes: Bytes) {
        match Envelope::from_bytes(bytes.clone()) {
            Ok(mut envelope) => {
                envelope.was_sealed = !self.0.is_plain.load(Ordering::Relaxed);
                inbox.deliver(envelope);
            }
            Err(_) => inbox.deliver_bytes(bytes),
        }
    }

    /// Creates a hub that transports events of a room only to servers that have opened it.
    pub(super) fn following_rooms() -> Self {
        let hub = Self::new();
        hub.state().follows_rooms = true;
        hub
    }

    /// Returns the adapter of one server.
    pub(super) fn adapter(&self) -> HubAdapter {
        HubAdapter {
            hub: self.clone(),
            node: Arc::default(),
        }
    }

    fn state(&self) -> MutexGuard<'_, HubState> {
        self.0.state.lock().unwrap()
    }

    fn heartbeat_lock(&self) -> MutexGuard<'_, ()> {
        let heartbeat_lock = self.0.heartbeat_lock.lock();
        heartbeat_lock.unwrap_or_else(PoisonError::into_inner)
    }

    fn change(&self, change: impl FnOnce(&mut HubState)) {
        change(&mut self.state());
        self.0.changed.notify_all();
    }

    /// Delivers what may be delivered, and lets other threads run in between.
    fn work(&self) {
        let state = self.state();
        let interval = std::time::Duration::from_millis(20);
        let is_idle = |state: &mut HubState| {
            state.next_heartbeat().is_none() && (state.is_holding || state.is_empty())
        };
        let (state, _) = self
            .0
            .changed
            .wait_timeout_while(state, interval, is_idle)
            .unwrap();
        let is_held = state.is_holding;
        drop(state);
        let heartbeat_lock = self.heartbeat_lock();
        let heartbeat = self.state().take_heartbeat();
        if let Some((inbox, bytes)) = heartbeat {
            self.deliver(&inbox, bytes);
        }
        drop(heartbeat_lock);
        if !is_held {
            self.step(None);
        }
    }

    /// Delivers one envelope and returns whether there was one. It is the first of its pair of
    /// servers, unless the hub shuffles.
    pub(super) fn step(&self, random: Option<&mut Random>) -> bool {
        let mut state = self.state();
        let mut own = state.random;
        let random = random.unwrap_or(&mut own);
        let Some((inbox, bytes, times)) = state.take(random) else {
            return false;
        };
        state.random = own;
        state.busy += 1;
        drop(state);
        for _ in 0..times {
            self.deliver(&inbox, bytes.clone());
        }
        self.change(|state| state.busy -= 1);
        true
    }

    /// Waits until nothing is in flight. Call it when no server sends answers by itself.
    pub(super) fn settle(&self) {
        let state = self.state();
        assert!(
            !state.is_holding || state.is_empty(),
            "what is held never arrives"
        );
        let is_busy = |state: &mut HubState| state.busy > 0 || !state.is_empty();
        drop(self.0.changed.wait_while(state, is_busy).unwrap());
    }

    pub(super) fn hold(&self) {
        self.change(|state| state.is_holding = true);
    }

    pub(super) fn release(&self) {
        self.change(|state| state.is_holding = false);
    }

    pub(super) fn duplicate(&self) {
        self.change(|state| state.is_duplicating = true);
    }

    pub(super) fn shuffle(&self, seed: u64) {
        self.change(|state| (state.is_shuffling, state.random) = (true, Random::new(seed)));
    }

    pub(super) fn lose(&self, envelopes: usize) {
        self.change(|state| state.losing = envelopes);
    }

    /// Isolates a server: it is still listed, but no longer reached.
    pub(super) fn isolate(&self, node: &NodeId) {
        self.change(|state| state.nodes.get_mut(node).unwrap().is_isolated = true);
    }

    /// Ends the isolation of a server.
    pub(super) fn reconnect(&self, node: &NodeId) {
        // Reported before the server counts as reached, as real adapters do.
        let inbox = self.state().nodes[node].inbox.clone();
        inbox.report_gap();
        self.change(|state| state.nodes.get_mut(node).unwrap().is_isolated = false);
    }

    /// Sets whether heartbeats and requests for clients are delayed on their way to a server.
    pub(super) fn set_late(&self, node: &NodeId, is_late: bool) {
        self.change(|state| state.nodes.get_mut(node).unwrap().is_late = is_late);
    }

    /// Makes a server lose a message for other servers.
    pub(super) fn drop_one(&self, node: &NodeId) {
        let inbox = self.state().nodes[node].inbox.clone();
        inbox.lost(1);
    }

    /// Reports to all servers that a server has left.
    pub(super) fn send_leave(&self, node: &NodeId) {
        let mut inboxes = Vec::new();
        let _lock = self.heartbeat_lock();
        self.change(|state| {
            state.nodes.remove(node);
            inboxes.extend(state.nodes.values().map(|node| node.inbox.clone()));
        });
        for inbox in inboxes {
            inbox.left(node);
        }
    }

    /// Returns the number of envelopes transported, counted once per receiver.
    pub(super) fn delivered(&self) -> usize {
        self.state().delivered
    }
}

impl HubState {
    fn is_empty(&self) -> bool {
        self.links.values().all(VecDeque::is_empty)
    }

    fn next_heartbeat(&self) -> Option<usize> {
        let is_late = |node| self.nodes.get(node).is_some_and(|node| node.is_late);
        self.heartbeats.iter().position(|(_, to, _)| !is_late(to))
    }

    fn take_heartbeat(&mut self) -> Option<(Inbox, Bytes)> {
        let (from, to, bytes) = self.heartbeats.remove(self.next_heartbeat()?)?;
        let reached = |node| self.nodes.get(node).filter(|node| !node.is_isolated);
        let (Some(_), Some(to)) = (reached(&from), reached(&to)) else {
            return None;
        };
        Some((to.inbox.clone(), bytes))
    }

    fn take(&mut self, random: &mut Random) -> Option<(Inbox, Bytes, usize)> {
        let full = self.links.iter_mut().filter(|(_, queue)| !queue.is_empty());
        let mut full: Vec<_> = full.collect();
        if full.is_empty() {
            return None;
        }
        let chosen = random.below(full.len());
        let ((_, to), queue) = full.swap_remove(chosen);
        let place = if self.is_shuffling {
            random.below(queue.len())
        } else {
            0
        };
        let bytes = queue.remove(place).unwrap();
        let node = self.nodes.get(to);
        let times = match node {
            Some(node) if !node.is_isolated => 1 + usize::from(self.is_duplicating),
            _ => 0,
        };
        // A server that has left receives nothing, but its envelope is removed from the queue.
        let inbox = node.or_else(|| self.nodes.values().next())?.inbox.clone();
        Some((inbox, bytes, times))
    }

    fn send(&mut self, from: &NodeId, envelope: &Envelope) -> Result<(), AdapterError> {
        let bytes = envelope.to_bytes().map_err(|_| AdapterError::TooLarge)?;
        let receivers: Vec<NodeId> = match envelope.channel() {
            Channel::Node(node) => vec![node.clone()],
            Channel::Room(nsp, room) if self.follows_rooms => {
                let key = (nsp.to_owned(), room.as_str().to_owned());
                let nodes = self
                    .nodes
                    .iter()
                    .filter(|(_, node)| node.rooms.contains(&key));
                nodes.map(|(id, _)| id.clone()).collect()
            }
            _ => self.nodes.keys().cloned().collect(),
        };
        let is_heartbeat = matches!(&envelope.message, Message::Publication(publication)
            if publication.namespace.as_str() == "/.roomcast");
        for to in receivers.into_iter().filter(|to| to != from) {
            if is_heartbeat {
                self.heartbeats.push_back((from.clone(), to, bytes.clone()));
                continue;
            }
            if self.losing > 0 {
                self.losing -= 1;
                continue;
            }
            self.delivered += 1;
            let queue = self.links.entry((from.clone(), to)).or_default();
            queue.push_back(bytes.clone());
        }
        Ok(())
    }
}

/// The adapter of one server.
#[derive(Clone)]
pub(super) struct HubAdapter {
    hub: Hub,
    node: Arc<OnceLock<NodeId>>,
}

impl HubAdapter {
    fn node(&self) -> &NodeId {
        self.node.get().unwrap()
    }

    fn send(&self, envelope: &Envelope) -> Result<(), AdapterError> {
        let mut sent = Ok(());
        self.hub.change(|state| {
            sent = match state.nodes.contains_key(self.node()) {
                true => state.send(self.node(), envelope),
                false => Err(AdapterError::Closed),
            };
        });
        sent
    }
}

impl Adapter for HubAdapter {
    fn receive(&self, inbox: Inbox) {
        self.node.set(inbox.node().clone()).unwrap();
        let node = Node {
            inbox,
            rooms: HashSet::new(),
            is_isolated: false,
            is_late: false,
        };
        self.hub.change(|state| {
            state.nodes.insert(self.node().clone(), node);
        });
    }

    fn publish(&self, envelope: Envelope) -> Result<(), AdapterError> {
        self.send(&envelope)
    }

    fn reply(&self, to: &NodeId, envelope: Envelope) -> Result<(), AdapterError> {
        assert_eq!(envelope.channel(), Channel::Node(to));
        self.send(&envelope)
    }

    fn servers(&self, _namespace: &str) -> BoxFuture<Result<Servers, AdapterError>> {
        let nodes = self.hub.state().nodes.keys().cloned().collect();
        Box::pin(async { Ok(Servers::Known(nodes)) })
    }

    fn health(&self) -> Health {
        match self.hub.state().nodes.get(self.node()) {
            Some(node) if !node.is_isolated => Health::Ready,
            _ => Health::Down("cut off".to_owned()),
        }
    }

    fn close(&self) -> BoxFuture<()> {
        let (hub, node) = (self.hub.clone(), self.node().clone());
        Box::pin(async move { hub.send_leave(&node) })
    }

    fn subscriber(&self) -> Option<Arc<dyn Subscriber>> {
        let follows_rooms = self.hub.state().follows_rooms;
        follows_rooms.then(|| -> Arc<dyn Subscriber> { Arc::new(self.clone()) })
    }
}

impl Subscriber for HubAdapter {
    fn subscriptions(&self) -> Subscriptions {
        Subscriptions::Rooms
    }

    fn room_opened(&self, namespace: &str, room: &Room) {
        self.set_room_open(namespace, room, true);
    }

    fn room_closed(&self, namespace: &str, room: &Room) {
        self.set_room_open(namespace, room, false);
    }
}

impl HubAdapter {
    fn set_room_open(&self, namespace: &str, room: &Room, is_open: bool) {
        let key = (namespace.to_owned(), room.as_str().to_owned());
        self.hub.change(|state| {
            let Some(node) = state.nodes.get_mut(self.node()) else {
                return;
            };
            let has_changed = match is_open {
                true => node.rooms.insert(key),
                false => node.rooms.remove(&key),
            };
            assert!(has_changed, "{room} is told twice");
        });
    }
}
