//! The channels to which an adapter subscribes: tells its subscriber which namespaces and rooms
//! exist on this server.

use std::{
    collections::HashSet,
    sync::{Arc, OnceLock},
};

use parking_lot::Mutex;
use roomcast_protocol::socket::Nsp;

use crate::{
    adapter::interface::subscriber::{Subscriber, Subscriptions},
    names::Room,
};

/// The subscriber of an adapter, and the channels that it considers open.
#[derive(Default)]
pub(super) struct Followed {
    /// Empty before the server is started, and if the adapter has none.
    subscriber: OnceLock<(Arc<dyn Subscriber>, Subscriptions)>,
    /// Without a limit. The lock is held during calls of the subscriber, so that it receives the
    /// changes of a room in order.
    rooms: Mutex<HashSet<(Nsp, Room)>>,
    /// The lock is also held during calls of the subscriber.
    namespaces: Mutex<HashSet<Nsp>>,
}

impl Followed {
    /// Sets the subscriber. Called once, when the server starts.
    pub(super) fn start(&self, subscriber: Arc<dyn Subscriber>) {
        let subscriptions = subscriber.subscriptions();
        // The server is started once, so the cell is empty.
        let _ = self.subscriber.set((subscriber, subscriptions));
    }

    /// Returns the subscriber.
    pub(super) fn subscriber(&self) -> Option<&Arc<dyn Subscriber>> {
        self.subscriber.get().map(|(subscriber, _)| subscriber)
    }

    /// Returns the subscriber, if it follows these channels.
    #[inline]
    pub(super) fn subscriber_if(
        &self,
        follows: impl FnOnce(Subscriptions) -> bool,
    ) -> Option<&dyn Subscriber> {
        let (subscriber, subscriptions) = self.subscriber.get()?;
        follows(*subscriptions).then_some(&**subscriber)
    }

    /// Returns the number of open rooms.
    pub(super) fn rooms(&self) -> usize {
        self.rooms.lock().len()
    }

    pub(super) fn room_changed(
        &self,
        subscriber: &dyn Subscriber,
        nsp: &Nsp,
        room: &Room,
        exists: impl FnOnce() -> bool,
    ) {
        // `exists` runs under this lock. If two tasks change a room concurrently, the later call
        // observes the final state, so the adapter never keeps an outdated state.
        let mut rooms = self.rooms.lock();
        let key = (nsp.clone(), room.clone());
        if exists() {
            if rooms.insert(key) {
                subscriber.room_opened(nsp.as_str(), room);
            }
        } else if rooms.remove(&key) {
            subscriber.room_closed(nsp.as_str(), room);
        }
    }

    pub(super) fn namespace_changed(&self, nsp: &Nsp, exists: impl FnOnce() -> bool) {
        let Some(subscriber) = self.subscriber() else {
            return;
        };
        let mut namespaces = self.namespaces.lock();
        if exists() {
            if namespaces.insert(nsp.clone()) {
                subscriber.namespace_opened(nsp.as_str());
            }
        } else if namespaces.remove(nsp) {
            subscriber.namespace_closed(nsp.as_str());
        }
    }
}
