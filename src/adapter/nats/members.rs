//! Which servers there are, by what they say of themselves.

use std::{
    collections::{HashMap, HashSet},
    time::Duration,
};

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::adapter::{common::Alone, envelope::NodeId};

/// The other servers.
#[derive(Debug)]
pub(super) struct Members {
    table: Mutex<Table>,
    /// Whether there is nobody else, and nothing is kept for anybody.
    pub(super) alone: Alone,
}

#[derive(Debug, Default)]
struct Table {
    /// Since when this server listens.
    since: Option<Instant>,
    /// When others have been heard last.
    heard: HashMap<NodeId, Instant>,
    /// Those of whom nothing was heard since this server was cut off.
    missed: HashSet<NodeId>,
}

impl Default for Members {
    fn default() -> Self {
        Self {
            table: Mutex::default(),
            alone: Alone::new(SETTLING, PATIENCE * 30),
        }
    }
}

impl Members {
    /// Notes that this server listens from now on, maybe again: who was there before has time to say so. What a stream
    /// `keeps` is for those who are away as well, so that nobody is alone with one.
    pub(super) fn listening(&self, keeps: bool) {
        if keeps {
            self.alone.cut_off();
        } else {
            self.alone.listens();
        }
        let now = Instant::now();
        let mut table = self.table.lock();
        table.since = Some(now);
        for heard in table.heard.values_mut() {
            *heard = now;
        }
    }

    /// Notes that this server hears nobody any more.
    pub(super) fn cut_off(&self) {
        self.alone.cut_off();
        let mut table = self.table.lock();
        table.missed = table.heard.keys().cloned().collect();
    }

    /// Whether all others were heard again that were there before this server was cut off, or have left.
    pub(super) fn are_back(&self) -> bool {
        self.table.lock().missed.is_empty()
    }

    /// Since when this server listens.
    pub(super) fn since(&self) -> Option<Instant> {
        self.table.lock().since
    }

    /// Another server says something.
    pub(super) fn heard(&self, node: NodeId) {
        self.alone.hears_another();
        let mut table = self.table.lock();
        table.missed.remove(&node);
        if table.heard.len() < MAX_NODES || table.heard.contains_key(&node) {
            table.heard.insert(node, Instant::now());
        }
    }

    /// Another server leaves. Returns whether it was there.
    pub(super) fn bye(&self, node: &NodeId) -> bool {
        self.alone.hears_another();
        let mut table = self.table.lock();
        table.missed.remove(node);
        table.heard.remove(node).is_some()
    }

    /// The others.
    pub(super) fn nodes(&self) -> Vec<NodeId> {
        self.table.lock().heard.keys().cloned().collect()
    }

    /// Removes and returns the servers that have been silent for too long.
    pub(super) fn gone(&self) -> Vec<NodeId> {
        let now = Instant::now();
        let is_gone = |_: &NodeId, heard: &mut Instant| now.duration_since(*heard) > PATIENCE;
        let mut table = self.table.lock();
        table
            .heard
            .extract_if(is_gone)
            .map(|(node, _)| node)
            .collect()
    }
}

/// The most servers that are known.
const MAX_NODES: usize = 4096;
/// How long a server may be silent. It speaks every second.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long this server must have listened to know that there is nobody else.
const SETTLING: Duration = Duration::from_secs(15);

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_is_silent_for_long_is_gone_unless_nobody_could_be_heard() {
        let [x, y] = ["x", "y"].map(|name| NodeId::new(name).unwrap());
        let members = Members::default();
        members.heard(x.clone());
        members.heard(y.clone());
        tokio::time::advance(Duration::from_secs(8)).await;
        members.heard(y.clone());
        tokio::time::advance(Duration::from_secs(3)).await;
        assert_eq!(members.gone(), std::slice::from_ref(&x));
        assert_eq!(members.nodes(), std::slice::from_ref(&y));
        tokio::time::advance(Duration::from_secs(60)).await;
        members.cut_off();
        members.listening(true);
        assert_eq!(members.gone(), []);
        assert!(!members.are_back());
        assert!(members.bye(&y));
        assert!(members.are_back());
        assert!(!members.bye(&x), "it is gone already");
    }
}
