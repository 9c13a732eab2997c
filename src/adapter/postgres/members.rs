//! Which servers there are, by what they say of themselves.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use parking_lot::Mutex;
use roomcast_protocol::socket::Nsp;
use tokio::time::Instant;

use crate::adapter::envelope::NodeId;

/// The other servers on each namespace of this one.
#[derive(Debug)]
pub(crate) struct Members {
    /// How long this server is silent in a namespace at most.
    interval: Duration,
    /// Who is silent for longer has left.
    patience: Duration,
    namespaces: Mutex<HashMap<Nsp, Namespace>>,
}

#[derive(Debug, Default)]
struct Namespace {
    /// Since when this server listens.
    since: Option<Instant>,
    /// When this server has said something last.
    said: Option<Instant>,
    /// When others have been heard last.
    heard: HashMap<NodeId, Instant>,
}

/// What a second has brought.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct News {
    /// Where this server has to say that it is there.
    pub(crate) silent: Vec<Nsp>,
    /// Who has left.
    pub(crate) left: Vec<NodeId>,
}

impl Members {
    pub(crate) fn new(interval: Duration, patience: Duration) -> Self {
        Self {
            interval,
            patience,
            namespaces: Mutex::default(),
        }
    }

    pub(crate) fn open(&self, nsp: &Nsp) {
        self.namespaces.lock().entry(nsp.clone()).or_default();
    }

    /// Returns those that are nowhere else.
    pub(crate) fn close(&self, nsp: &Nsp) -> Vec<NodeId> {
        let mut namespaces = self.namespaces.lock();
        let closed = namespaces.remove(nsp).unwrap_or_default();
        gone(&namespaces, closed.heard.into_keys())
    }

    pub(crate) fn namespaces(&self) -> Vec<Nsp> {
        self.namespaces.lock().keys().cloned().collect()
    }

    /// This server listens from now on, maybe again: who was there before has time to say so.
    pub(crate) fn listening(&self, nsp: &Nsp) {
        let now = Instant::now();
        if let Some(namespace) = self.namespaces.lock().get_mut(nsp) {
            namespace.since = Some(now);
            for heard in namespace.heard.values_mut() {
                *heard = now;
            }
        }
    }

    /// This server says something.
    pub(crate) fn said(&self, nsp: &Nsp) {
        if let Some(namespace) = self.namespaces.lock().get_mut(nsp) {
            namespace.said = Some(Instant::now());
        }
    }

    /// Another server says something.
    pub(crate) fn heard(&self, nsp: &Nsp, node: &NodeId) {
        if let Some(namespace) = self.namespaces.lock().get_mut(nsp) {
            let heard = &mut namespace.heard;
            if let Some(last) = heard.get_mut(node) {
                *last = Instant::now();
            } else if heard.len() < MAX_NODES {
                heard.insert(node.clone(), Instant::now());
            }
        }
    }

    /// Another server leaves a namespace; returns it if it is nowhere else.
    pub(crate) fn bye(&self, nsp: &Nsp, node: &NodeId) -> Vec<NodeId> {
        let mut namespaces = self.namespaces.lock();
        let namespace = namespaces.get_mut(nsp);
        let was_there = namespace.and_then(|namespace| namespace.heard.remove(node));
        gone(&namespaces, was_there.map(|_| node.clone()))
    }

    pub(crate) fn is_open(&self, nsp: &Nsp) -> bool {
        self.namespaces.lock().contains_key(nsp)
    }

    /// Since when this server listens.
    pub(crate) fn since(&self, nsp: &Nsp) -> Option<Instant> {
        self.namespaces.lock().get(nsp)?.since
    }

    /// The others.
    pub(crate) fn nodes(&self, nsp: &Nsp) -> Vec<NodeId> {
        let namespaces = self.namespaces.lock();
        let namespace = namespaces.get(nsp).into_iter();
        namespace
            .flat_map(|nsp| nsp.heard.keys().cloned())
            .collect()
    }

    /// To be asked every second while there is a connection.
    pub(crate) fn tick(&self) -> News {
        let now = Instant::now();
        let mut news = News::default();
        let mut lost = HashSet::new();
        let mut namespaces = self.namespaces.lock();
        for (nsp, namespace) in &mut *namespaces {
            namespace.heard.retain(|node, heard| {
                let is_there = now.duration_since(*heard) <= self.patience;
                if !is_there {
                    lost.insert(node.clone());
                }
                is_there
            });
            let is_silent = namespace
                .said
                .is_none_or(|said| now.duration_since(said) >= self.interval);
            if is_silent && namespace.since.is_some() {
                news.silent.push(nsp.clone());
            }
        }
        news.left = gone(&namespaces, lost);
        news
    }
}

/// Those that are in no namespace any more.
fn gone(
    namespaces: &HashMap<Nsp, Namespace>,
    nodes: impl IntoIterator<Item = NodeId>,
) -> Vec<NodeId> {
    let is_gone = |node: &NodeId| !namespaces.values().any(|nsp| nsp.heard.contains_key(node));
    nodes.into_iter().filter(is_gone).collect()
}

/// Servers that are known in one namespace.
const MAX_NODES: usize = 4096;

#[cfg(test)]
mod tests {
    use std::slice;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_for_long_has_left_unless_nobody_could_be_heard() {
        let second = Duration::from_secs(1);
        let members = Members::new(5 * second, 10 * second);
        let [a, b] = ["/a", "/b"].map(Nsp::from);
        let [x, y] = ["x", "y"].map(|name| NodeId::new(name).unwrap());
        members.open(&a);
        assert_eq!(members.since(&a), None);
        assert_eq!(members.tick(), News::default(), "it does not listen yet");
        members.listening(&a);
        assert_eq!(members.tick().silent, slice::from_ref(&a));
        members.said(&a);
        members.heard(&a, &x);
        members.heard(&a, &y);
        members.heard(&b, &y);
        assert_eq!(members.nodes(&b), [], "it is not open here");
        assert_eq!(members.tick(), News::default());
        tokio::time::advance(6 * second).await;
        members.heard(&a, &y);
        assert_eq!(members.tick().silent, slice::from_ref(&a));
        tokio::time::advance(6 * second).await;
        assert_eq!(members.tick().left, slice::from_ref(&x));
        assert_eq!(members.nodes(&a), slice::from_ref(&y));
        tokio::time::advance(60 * second).await;
        members.listening(&a);
        assert_eq!(members.tick().left, []);
        members.open(&b);
        members.heard(&b, &y);
        assert_eq!(members.bye(&a, &y), [], "it is elsewhere yet");
        assert_eq!(members.bye(&a, &x), [], "it has left before");
        assert_eq!(members.close(&b), [y]);
    }
}
