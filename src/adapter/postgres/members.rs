//! Tracks the servers in each namespace by their heartbeats.

use std::{
    collections::{HashMap, HashSet},
    pin::pin,
    time::Duration,
};

use parking_lot::Mutex;
use roomcast_protocol::socket::Nsp;
use tokio::{sync::Notify, time::Instant};

use crate::adapter::{
    cluster::nodes::excuse_stall, common::SoleServer, envelope::NodeId, node_js::Pulse,
};

/// The other servers in each namespace of this server.
#[derive(Debug)]
pub(crate) struct Members {
    /// The maximum time without a message of this server in a namespace.
    interval: Duration,
    /// The maximum silence of a peer, after which it has left.
    peer_timeout: Duration,
    table: Mutex<Inner>,
    /// Whether there are no peers in any namespace.
    pub(crate) alone: SoleServer,
    /// Notified when this server has greeted its peers in a namespace, or has closed the namespace.
    greeted: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    namespaces: HashMap<Nsp, Namespace>,
    /// The namespaces in which this server must send a greeting.
    unmet: HashSet<Nsp>,
    /// The namespaces in which this server must send a heartbeat.
    due: HashSet<Nsp>,
}

#[derive(Debug, Default)]
struct Namespace {
    /// When this server greeted its peers, after it last subscribed.
    since: Option<Instant>,
    /// When this server last sent a message.
    last_sent: Option<Instant>,
    /// When the last message of each peer arrived.
    last_message: HashMap<NodeId, Instant>,
    /// The peers without a message since this server was disconnected.
    missed: HashSet<NodeId>,
    /// Servers that have published and not announced that they listen.
    strangers: HashMap<NodeId, Instant>,
}

impl Members {
    pub(crate) fn new(interval: Duration, peer_timeout: Duration) -> Self {
        Self {
            interval,
            peer_timeout,
            table: Mutex::default(),
            // A server sends a heartbeat in each interval, and expires after `peer_timeout`. Both
            // are multiplied for safety.
            alone: SoleServer::new(interval * 3, peer_timeout * 30),
            greeted: Notify::new(),
        }
    }

    pub(crate) fn open(&self, nsp: &Nsp) {
        // Peers may have used this namespace for a long time, and this server has received none of
        // their messages.
        self.alone.listens();
        let mut table = self.table.lock();
        table.namespaces.entry(nsp.clone()).or_default();
    }

    /// Closes a namespace. Returns the servers that are in no other namespace.
    pub(crate) fn close(&self, nsp: &Nsp) -> Vec<NodeId> {
        let mut table = self.table.lock();
        table.unmet.remove(nsp);
        table.due.remove(nsp);
        let closed = table.namespaces.remove(nsp).unwrap_or_default();
        // Tasks that wait for the greeting check again, and find that the namespace is closed.
        self.greeted.notify_waiters();
        table.departed(closed.last_message.into_keys())
    }

    pub(crate) fn namespaces(&self) -> Vec<Nsp> {
        self.table.lock().namespaces.keys().cloned().collect()
    }

    /// Records that this server is subscribed from now on, maybe again. Peers must be greeted, and
    /// existing peers have time to answer.
    pub(crate) fn listening(&self, nsp: &Nsp) {
        self.alone.listens();
        let now = Instant::now();
        let mut table = self.table.lock();
        let table = &mut *table;
        if let Some(namespace) = table.namespaces.get_mut(nsp) {
            namespace.since = None;
            for last_message in namespace.last_message.values_mut() {
                *last_message = now;
            }
            table.unmet.insert(nsp.clone());
        }
    }

    /// Records that this server no longer receives messages.
    pub(crate) fn disconnected(&self) {
        self.alone.disconnected();
        for namespace in self.table.lock().namespaces.values_mut() {
            namespace.missed = namespace.last_message.keys().cloned().collect();
        }
    }

    /// Returns whether all peers from before the disconnect have sent a message in each of their
    /// namespaces, or have left.
    pub(crate) fn are_back(&self) -> bool {
        let table = self.table.lock();
        let mut namespaces = table.namespaces.values();
        namespaces.all(|namespace| namespace.missed.is_empty())
    }

    /// Records that this server has sent a message.
    pub(crate) fn record_sent(&self, nsp: &Nsp) {
        if let Some(namespace) = self.table.lock().namespaces.get_mut(nsp) {
            namespace.last_sent = Some(Instant::now());
        }
    }

    /// Records that a peer listens: it has sent a greeting or a heartbeat, or an answer.
    pub(crate) fn record_message(&self, nsp: &Nsp, node: &NodeId) {
        if let Some(namespace) = self.table.lock().namespaces.get_mut(nsp) {
            namespace.strangers.remove(node);
            namespace.missed.remove(node);
            note(&mut namespace.last_message, node);
        }
    }

    /// Records that a peer has greeted this server, and expects a heartbeat.
    pub(crate) fn greeted(&self, nsp: &Nsp, node: &NodeId) {
        self.record_message(nsp, node);
        let mut table = self.table.lock();
        if table.namespaces.contains_key(nsp) {
            table.due.insert(nsp.clone());
        }
    }

    /// Records a message of a server that perhaps does not listen in the namespace. An unknown
    /// server is greeted, and answers if it listens. Returns whether the message caused a greeting.
    pub(crate) fn published(&self, nsp: &Nsp, node: &NodeId) -> bool {
        let mut table = self.table.lock();
        let table = &mut *table;
        let Some(namespace) = table.namespaces.get_mut(nsp) else {
            return false;
        };
        if let Some(last) = namespace.last_message.get_mut(node) {
            *last = Instant::now();
            return false;
        }
        note(&mut namespace.strangers, node) && table.unmet.insert(nsp.clone())
    }

    /// Returns the greetings and heartbeats to send now, for at most `most` namespaces. One message
    /// per namespace serves all servers that wait for it. The flag is true if more are pending.
    pub(crate) fn pulses(&self, most: usize) -> (Vec<(Nsp, Pulse)>, bool) {
        let mut table = self.table.lock();
        let mut pulses = Vec::new();
        let unmet: Vec<_> = table.unmet.iter().take(most).cloned().collect();
        for nsp in unmet {
            table.unmet.remove(&nsp);
            // A greeting also serves as a heartbeat.
            table.due.remove(&nsp);
            if let Some(namespace) = table.namespaces.get_mut(&nsp) {
                namespace.since.get_or_insert_with(Instant::now);
                pulses.push((nsp, Pulse::Hello));
            }
        }
        let due: Vec<_> = table
            .due
            .iter()
            .take(most - pulses.len())
            .cloned()
            .collect();
        for nsp in due {
            table.due.remove(&nsp);
            pulses.push((nsp, Pulse::Alive));
        }
        // Tasks that wait for the greeting check again, and find its time.
        self.greeted.notify_waiters();
        (pulses, !table.unmet.is_empty() || !table.due.is_empty())
    }

    /// Removes a peer that leaves a namespace. Returns it if it is in no other namespace.
    pub(crate) fn bye(&self, nsp: &Nsp, node: &NodeId) -> Vec<NodeId> {
        let mut table = self.table.lock();
        let namespace = table.namespaces.get_mut(nsp);
        let was_member = namespace.and_then(|namespace| {
            namespace.missed.remove(node);
            namespace.last_message.remove(node)
        });
        table.departed(was_member.map(|_| node.clone()))
    }

    pub(crate) fn is_open(&self, nsp: &Nsp) -> bool {
        self.table.lock().namespaces.contains_key(nsp)
    }

    /// Waits until the peers are greeted. Returns the time of that, or `None` if the namespace is
    /// closed.
    pub(crate) async fn since(&self, nsp: &Nsp) -> Option<Instant> {
        loop {
            let mut greeted = pin!(self.greeted.notified());
            // The waiter is registered before the table is read, because `notify_waiters` only
            // wakes tasks that already wait.
            greeted.as_mut().enable();
            let since = self.table.lock().namespaces.get(nsp)?.since;
            if since.is_some() {
                return since;
            }
            greeted.await;
        }
    }

    /// Returns the peers in a namespace.
    pub(crate) fn nodes(&self, nsp: &Nsp) -> Vec<NodeId> {
        let table = self.table.lock();
        let namespace = table.namespaces.get(nsp).into_iter();
        namespace
            .flat_map(|nsp| nsp.last_message.keys().cloned())
            .collect()
    }

    /// Called every second while connected. Removes the peers that have expired, and returns
    /// those that are in no namespace any more. Marks namespaces in which a heartbeat is due. While
    /// this server stalled, it read no messages, so that time does not count as silence.
    pub(crate) fn tick(&self, stall: Duration) -> Vec<NodeId> {
        let now = Instant::now();
        let mut lost = HashSet::new();
        let mut table = self.table.lock();
        let table = &mut *table;
        let is_present =
            |last_message: &Instant| now.duration_since(*last_message) <= self.peer_timeout;
        for (nsp, namespace) in &mut table.namespaces {
            let strangers = namespace.strangers.values_mut();
            excuse_stall(stall, strangers.chain(namespace.last_message.values_mut()));
            namespace
                .strangers
                .retain(|_, last_message| is_present(last_message));
            namespace.last_message.retain(|node, last_message| {
                let is_present = is_present(last_message);
                if !is_present {
                    lost.insert(node.clone());
                }
                is_present
            });
            let is_silent = namespace
                .last_sent
                .is_none_or(|last_sent| now.duration_since(last_sent) >= self.interval);
            if is_silent && namespace.since.is_some() {
                table.due.insert(nsp.clone());
            }
        }
        table.departed(lost)
    }
}

impl Inner {
    /// Returns the servers among these that are in no namespace.
    fn departed(&self, nodes: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
        let is_present = |node: &NodeId| {
            let mut namespaces = self.namespaces.values();
            namespaces.any(|nsp| nsp.last_message.contains_key(node))
        };
        let is_departed = |node: &NodeId| !is_present(node);
        nodes.into_iter().filter(is_departed).collect()
    }
}

/// Records a message of a server. Returns whether the server was unknown and there was room for it.
fn note(nodes: &mut HashMap<NodeId, Instant>, node: &NodeId) -> bool {
    if let Some(last) = nodes.get_mut(node) {
        *last = Instant::now();
        return false;
    }
    let has_room = nodes.len() < MAX_NODES;
    if has_room {
        nodes.insert(node.clone(), Instant::now());
    }
    has_room
}

/// The maximum number of servers per namespace.
const MAX_NODES: usize = 4096;

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn members<const N: usize>(open: [&str; N]) -> (Members, [Nsp; N]) {
        let members = Members::new(5 * SECOND, 10 * SECOND);
        let open = open.map(Nsp::from);
        for nsp in &open {
            members.open(nsp);
        }
        (members, open)
    }

    fn nodes() -> [NodeId; 2] {
        ["x", "y"].map(|name| NodeId::new(name).unwrap())
    }

    fn pulses(members: &Members) -> Vec<(Nsp, Pulse)> {
        let (pulses, has_more) = members.pulses(99);
        assert!(!has_more);
        for (nsp, _) in &pulses {
            members.record_sent(nsp);
        }
        pulses
    }

    #[tokio::test(start_paused = true)]
    async fn silent_peer_expires_unless_this_server_was_disconnected() {
        let (members, [a]) = members(["/a"]);
        let (b, [x, y]) = (Nsp::from("/b"), nodes());
        assert_eq!(members.tick(Duration::ZERO), []);
        assert_eq!(pulses(&members), [], "this server does not listen yet");
        members.listening(&a);
        assert_eq!(pulses(&members), [(a.clone(), Pulse::Hello)]);
        members.record_message(&a, &x);
        members.record_message(&a, &y);
        members.record_message(&b, &y);
        assert_eq!(members.nodes(&b), [], "the namespace is not open here");
        assert_eq!(members.tick(Duration::ZERO), []);
        assert_eq!(pulses(&members), []);
        tokio::time::advance(6 * SECOND).await;
        members.record_message(&a, &y);
        assert_eq!(members.tick(Duration::ZERO), []);
        assert_eq!(pulses(&members), [(a.clone(), Pulse::Alive)]);
        tokio::time::advance(6 * SECOND).await;
        assert_eq!(members.tick(Duration::ZERO), slice::from_ref(&x));
        assert_eq!(members.nodes(&a), slice::from_ref(&y));
        tokio::time::advance(60 * SECOND).await;
        members.disconnected();
        members.listening(&a);
        assert_eq!(members.tick(Duration::ZERO), []);
        assert!(!members.are_back());
        members.open(&b);
        members.record_message(&b, &y);
        assert!(!members.are_back(), "y has not sent in each namespace yet");
        members.record_message(&a, &y);
        assert!(members.are_back());
        assert_eq!(members.bye(&a, &y), [], "y is still in the other namespace");
        assert_eq!(members.bye(&a, &x), [], "x has expired");
        assert_eq!(members.close(&b), [y]);
    }

    #[tokio::test(start_paused = true)]
    async fn stall_of_this_server_does_not_count_as_silence_of_peers() {
        let (members, [a]) = members(["/a"]);
        let [x, y] = nodes();
        members.listening(&a);
        pulses(&members);
        members.record_message(&a, &x);
        assert!(members.published(&a, &y));
        for _ in 0..3 {
            tokio::time::advance(61 * SECOND).await;
            assert_eq!(members.tick(60 * SECOND), []);
        }
        assert!(
            !members.published(&a, &y),
            "it was greeted before the stall"
        );
        tokio::time::advance(8 * SECOND).await;
        assert_eq!(members.tick(Duration::ZERO), [x], "11 s without a stall");
    }

    #[tokio::test(start_paused = true)]
    async fn publisher_is_greeted_once_and_becomes_a_member_when_it_answers() {
        let (members, [a]) = members(["/a"]);
        let [x, y] = nodes();
        members.listening(&a);
        pulses(&members);
        assert!(members.published(&a, &x));
        assert_eq!(pulses(&members), [(a.clone(), Pulse::Hello)]);
        for _ in 0..20 {
            assert!(!members.published(&a, &x));
            tokio::time::advance(SECOND).await;
            assert_eq!(members.tick(Duration::ZERO), []);
        }
        assert_eq!(members.nodes(&a), []);
        members.record_message(&a, &x);
        members.record_message(&a, &y);
        for _ in 0..20 {
            assert!(!members.published(&a, &x), "a member is not greeted again");
            tokio::time::advance(SECOND).await;
            members.tick(Duration::ZERO);
        }
        assert_eq!(members.nodes(&a), [x]);
    }

    #[tokio::test(start_paused = true)]
    async fn many_greetings_get_one_answer_and_namespaces_are_batched() {
        let (members, [a, b, c]) = members(["/a", "/b", "/c"]);
        let [x, y] = nodes();
        for nsp in [&a, &b, &c] {
            members.listening(nsp);
        }
        members.greeted(&a, &x);
        let (first, has_more) = members.pulses(2);
        assert!(first.len() == 2 && has_more, "{first:?}");
        let (rest, has_more) = members.pulses(2);
        assert!(rest.len() == 1 && !has_more, "{rest:?}");
        let all = [first, rest].concat();
        assert!(
            all.iter().all(|(_, pulse)| *pulse == Pulse::Hello),
            "{all:?}"
        );
        members.greeted(&b, &x);
        members.greeted(&b, &y);
        assert_eq!(pulses(&members), [(b, Pulse::Alive)]);
    }

    #[tokio::test(start_paused = true)]
    async fn request_waits_until_peers_are_greeted_or_namespace_closes() {
        let (members, [a]) = members(["/a"]);
        let (greeted, ()) = tokio::join!(members.since(&a), async {
            members.listening(&a);
            pulses(&members);
        });
        assert!(greeted.is_some());
        members.listening(&a);
        let (closed, _) = tokio::join!(members.since(&a), async { members.close(&a) });
        assert_eq!(closed, None);
    }
}
