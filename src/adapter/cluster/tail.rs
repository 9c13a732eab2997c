//! Journal events that are applied while a task reads earlier events from the journal.

use std::sync::{Arc, Weak};

use parking_lot::Mutex;
use roomcast_protocol::socket::Nsp;

use crate::adapter::{envelope::Publication, interface::journal::Position, operation::Kind};

/// The events that are applied in one namespace since the call of `follow`.
#[derive(Debug)]
pub(crate) struct Tail {
    nsp: Nsp,
    events: Mutex<Option<Vec<Publication>>>,
}

impl Tail {
    /// Returns these events, or `None` if there were too many.
    pub(crate) fn events(&self) -> Option<Vec<Publication>> {
        self.events.lock().clone()
    }
}

/// The tails of all tasks that follow a namespace.
#[derive(Debug, Default)]
pub(crate) struct Tails {
    feeds: Vec<Weak<Tail>>,
    /// The position of the last operation that was applied, or skipped because no client here
    /// would receive it.
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

    /// Returns whether a task follows a namespace.
    #[cfg(feature = "redis")]
    pub(crate) fn is_followed(&self, nsp: &Nsp) -> bool {
        let mut feeds = self.feeds.iter().filter_map(Weak::upgrade);
        feeds.any(|tail| tail.nsp == *nsp)
    }

    /// Stores the position of an operation that is about to be applied, and adds a
    /// [`Kind::Broadcast`] to the tails of its namespace.
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
                    // If there are too many events while a client is admitted, the client starts a
                    // new session. The memory is released immediately.
                    if known.len() > MAX_EVENTS {
                        *events = None;
                    }
                }
            }
            true
        });
    }
}

/// The maximum number of events in a tail, which exists until the client is admitted.
const MAX_EVENTS: usize = 10_000;
