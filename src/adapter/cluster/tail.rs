//! What of a journal is applied while somebody reads what came before.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use roomcast_protocol::socket::Nsp;

use crate::adapter::{envelope::Publication, interface::journal::Position, operation::Kind};

/// Events of one namespace, from when they are followed on.
#[derive(Debug)]
pub(crate) struct Tail {
    nsp: Nsp,
    events: Mutex<Option<Vec<Publication>>>,
}

impl Tail {
    /// All of them; `None` if there were too many.
    pub(crate) fn events(&self) -> Option<Vec<Publication>> {
        self.events.lock().clone()
    }
}

/// The feeds of those who want to know what is applied from now on.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    feeds: Vec<Weak<Tail>>,
    /// The last thing that was applied.
    pub(crate) last: Option<Position>,
}

impl Tails {
    pub(crate) fn follow(&mut self, nsp: &Nsp) -> Arc<Tail> {
        let tail = Arc::new(Tail {
            nsp: nsp.clone(),
            events: Mutex::new(Some(Vec::new())),
        });
        self.feeds.retain(|tail| tail.strong_count() > 0);
        self.feeds.push(Arc::downgrade(&tail));
        tail
    }

    /// Whether somebody wants to know what is applied in a namespace.
    #[cfg(feature = "redis")]
    pub(crate) fn is_followed(&self, nsp: &Nsp) -> bool {
        let mut feeds = self.feeds.iter().filter_map(Weak::upgrade);
        feeds.any(|tail| tail.nsp == *nsp)
    }

    /// Something is applied.
    pub(crate) fn pass(&mut self, publication: &Publication) {
        self.last = self.last.max(publication.position);
        if self.feeds.is_empty() || !matches!(publication.kind, Kind::Broadcast { .. }) {
            return;
        }
        self.feeds.retain(|tail| {
            let Some(tail) = tail.upgrade() else {
                return false;
            };
            if tail.nsp == publication.namespace {
                let mut events = tail.events.lock();
                if let Some(known) = &mut *events {
                    known.push(publication.clone());
                    // A client for which so much comes while it is let in starts afresh, and the memory is free at once.
                    if known.len() > MAX_EVENTS {
                        *events = None;
                    }
                }
            }
            true
        });
    }
}

/// Events that are kept for one who follows, for as long as it takes to let a client in.
const MAX_EVENTS: usize = 10_000;
