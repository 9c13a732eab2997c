use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use roomcast_protocol::{
    Stamp,
    socket::{Arguments, EncodeError, Encoder},
};

use super::{
    offer::{EventOffset, LastOffset, Offset, Tag},
    recoverable::limits,
};
use crate::{
    adapter::Position,
    config::Recovery,
    engine::Limits,
    socket::types::{IdMap, IdSet, SocketId, shrink_map},
};

/// The numbered, recoverable events of a namespace.
#[derive(Debug)]
pub(crate) struct Channel<S> {
    id: u64,
    next: AtomicU64,
    /// Events of other servers may be missing before this number.
    gap: AtomicU64,
    limits: Limits,
    /// Set only in a cluster.
    tag: Option<Tag>,
    /// Whether a journal shared by all servers numbers the events.
    journals: bool,
    /// Disconnected but recoverable sockets.
    recoverable: Mutex<IdMap<S>>,
}

impl<S: Clone> Channel<S> {
    pub(crate) fn new(recovery: &Recovery, tag: Option<Tag>, journals: bool) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // The clock prevents a restarted server from reusing numbers: each second of the clock
        // provides 65,536 numbers.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let start = now.map_or(1, |now| now.as_secs().max(1));
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            next: AtomicU64::new(start << 16),
            gap: AtomicU64::new(0),
            limits: limits(recovery),
            tag,
            journals,
            recoverable: Mutex::default(),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn add_recoverable(&self, id: SocketId, socket: S) {
        self.recoverable.lock().insert(id, socket);
    }

    pub(crate) fn remove_recoverable(&self, id: &SocketId) {
        let mut recoverable = self.recoverable.lock();
        let removed = recoverable.remove(id);
        shrink_map(&mut recoverable);
        drop(recoverable);
        // The socket is dropped without the lock.
        drop(removed);
    }

    pub(crate) fn recoverable_among(&self, ids: &IdSet) -> Vec<S> {
        let recoverable = self.recoverable.lock();
        ids.iter()
            .filter_map(|id| recoverable.get(id).cloned())
            .collect()
    }

    /// Records that events of other servers may have been missed until now.
    pub(crate) fn mark_gap(&self) {
        self.gap
            .store(self.next.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Returns whether events of other servers may be missing after this event, which is the
    /// client's newest.
    pub(crate) fn has_gap_after(&self, known: Stamp) -> bool {
        !self.journals && known.number < self.gap.load(Ordering::Acquire)
    }

    /// Returns the stamp and offset of a new event. With a journal, only events from the journal
    /// have one.
    pub(crate) fn next(&self, position: Option<Position>) -> Option<(Stamp, EventOffset)> {
        let channel = self.id;
        if self.journals {
            let number = position?.packed()?;
            return Some((Stamp { channel, number }, EventOffset::Journal(position?)));
        }
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let tag = self.tag;
        let place = EventOffset::Own(Offset { number, tag });
        Some((Stamp { channel, number }, place))
    }

    /// Returns a number below those of all later events, and of no event.
    pub(crate) fn floor(&self) -> u64 {
        // Events of a journal are numbered by their positions, which are greater than 0.
        match self.journals {
            true => 0,
            false => self.next.fetch_add(1, Ordering::Relaxed),
        }
    }

    /// Returns the stamp of an event that a client has received, or `None` if another server sent
    /// it.
    pub(crate) fn known(&self, last: LastOffset) -> Option<Stamp> {
        let channel = self.id;
        if self.journals {
            let number = last.position?.packed()?;
            return Some(Stamp { channel, number });
        }
        let own = last.own.filter(|own| own.tag == self.tag)?;
        let number = own.number;
        Some(Stamp { channel, number })
    }
}

/// An event's arguments, followed by its offset.
pub(crate) struct Numbered<'a> {
    args: &'a dyn Arguments,
    number: EventOffset,
}

impl<'a> Numbered<'a> {
    pub(crate) fn new(args: &'a dyn Arguments, number: EventOffset) -> Self {
        Self { args, number }
    }
}

impl Arguments for Numbered<'_> {
    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        self.args.encode(encoder)?;
        encoder.value(&self.number)
    }
}
