//! Sorts the events of a socket by their channels.

use std::{
    collections::{HashMap, hash_map::Entry},
    sync::{Arc, OnceLock},
    task::Waker,
};

use futures_util::task::AtomicWaker;
use parking_lot::Mutex;
use serde::Deserialize;

use super::{ChannelEvent, event::EventMeta, sequence::Sequence};
use crate::client::{Incoming, Socket};

/// The subscriptions of a socket.
#[derive(Debug, Default)]
pub(super) struct Hub {
    inboxes: Mutex<HashMap<String, Arc<Inbox>>>,
    /// Set when the listeners are registered.
    is_listening: OnceLock<()>,
}

/// The events of a subscription, and the task that waits for them.
#[derive(Debug)]
pub(super) struct Inbox {
    sequence: Mutex<Sequence>,
    waker: AtomicWaker,
}

/// Closes all subscriptions when the socket drops its listeners, because the client has ended.
struct Closer(Arc<Hub>);

/// The payload of `channel:ended`.
#[derive(Deserialize)]
struct Ended {
    channel: String,
    reason: String,
}

impl Hub {
    pub(super) fn of(socket: &Socket) -> Arc<Self> {
        socket.attachment()
    }

    /// Returns the inbox of a new subscription, or `None` if the socket has one to this channel.
    ///
    /// The inbox has all events that the server sends for requests after this call.
    pub(super) fn open(self: &Arc<Self>, socket: &Socket, channel: &str) -> Option<Arc<Inbox>> {
        self.is_listening.get_or_init(|| self.listen(socket));
        match self.inboxes.lock().entry(channel.to_owned()) {
            Entry::Occupied(_) => None,
            Entry::Vacant(entry) => Some(Arc::clone(entry.insert(Arc::new(Inbox {
                sequence: Mutex::new(Sequence::new()),
                waker: AtomicWaker::new(),
            })))),
        }
    }

    pub(super) fn close(&self, channel: &str) {
        self.inboxes.lock().remove(channel);
    }

    /// Registers listeners for as long as the client lives. They run in the connection's task, so
    /// they see events and connections in their order.
    fn listen(self: &Arc<Self>, socket: &Socket) {
        let closer = Closer(Arc::clone(self));
        socket.on_any(move |event: Incoming| {
            closer.0.receive(&event);
            async {}
        });
        let hub = Arc::clone(self);
        socket.on("connect", move |socket: Socket| {
            hub.change_all(|sequence| sequence.connected(socket.recovered()));
            async {}
        });
    }

    fn receive(&self, incoming: &Incoming) {
        if incoming.name == "channel:ended" {
            if let Ok(Ended { channel, reason }) = incoming.args.get(0)
                && let Some(inbox) = self.find(&channel)
            {
                inbox.change(|sequence| sequence.ended(reason));
            }
            return;
        }
        // Other events have no second argument, or one of another form.
        let Ok(meta) = incoming.args.get::<EventMeta>(1) else {
            return;
        };
        if let Some(inbox) = self.find(&meta.channel)
            && let Ok(data) = incoming.args.get(0)
        {
            let event = ChannelEvent {
                event: incoming.name.clone(),
                position: meta.position,
                id: meta.id,
                timestamp: meta.timestamp,
                data,
            };
            inbox.change(|sequence| sequence.receive(event));
        }
    }

    fn find(&self, channel: &str) -> Option<Arc<Inbox>> {
        self.inboxes.lock().get(channel).map(Arc::clone)
    }

    fn change_all(&self, change: impl Fn(&mut Sequence)) {
        let inboxes: Vec<_> = self.inboxes.lock().values().map(Arc::clone).collect();
        for inbox in inboxes {
            inbox.change(&change);
        }
    }
}

impl Drop for Closer {
    fn drop(&mut self) {
        self.0.change_all(Sequence::close);
    }
}

impl Inbox {
    /// Reads or changes the sequence without waking the task that waits for it.
    pub(super) fn with<T>(&self, act: impl FnOnce(&mut Sequence) -> T) -> T {
        act(&mut self.sequence.lock())
    }

    /// Lets this task be woken after the next change.
    pub(super) fn register(&self, waker: &Waker) {
        self.waker.register(waker);
    }

    fn change(&self, change: impl FnOnce(&mut Sequence)) {
        self.with(change);
        self.waker.wake();
    }
}
