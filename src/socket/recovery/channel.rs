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
    offer::{EventOffset, Last, Offset, Tag},
    recoverable::limits,
};
use crate::{
    adapter::Position,
    config::Recovery,
    engine::Limits,
    socket::types::{IdMap, IdSet, SocketId, give_back},
};

/// The numbered events of a namespace that clients may ask for again.
#[derive(Debug)]
pub(crate) struct Channel<S> {
    id: u64,
    next: AtomicU64,
    /// Behind the event before this number something of other servers may be missing.
    gap: AtomicU64,
    limits: Limits,
    /// Set only in a cluster.
    tag: Option<Tag>,
    /// Events are numbered by a journal that all servers share.
    journals: bool,
    /// Sockets whose clients are away.
    away: Mutex<IdMap<S>>,
}

impl<S: Clone> Channel<S> {
    pub(crate) fn new(recovery: &Recovery, tag: Option<Tag>, journals: bool) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        // The clock keeps a server that starts anew from repeating the numbers of the one before: each second of the clock
        // makes room for 65,536 numbers.
        let now = SystemTime::now().duration_since(UNIX_EPOCH);
        let start = now.map_or(1, |now| now.as_secs().max(1));
        Self {
            id: NEXT.fetch_add(1, Ordering::Relaxed),
            next: AtomicU64::new(start << 16),
            gap: AtomicU64::new(0),
            limits: limits(recovery),
            tag,
            journals,
            away: Mutex::default(),
        }
    }

    pub(crate) fn id(&self) -> u64 {
        self.id
    }

    pub(crate) fn limits(&self) -> Limits {
        self.limits
    }

    pub(crate) fn add_away(&self, id: SocketId, socket: S) {
        self.away.lock().insert(id, socket);
    }

    pub(crate) fn forget_away(&self, id: SocketId) {
        let mut away = self.away.lock();
        let gone = away.remove(&id);
        give_back(&mut away);
        drop(away);
        // The socket is dropped without the lock.
        drop(gone);
    }

    pub(crate) fn away_of(&self, ids: &IdSet) -> Vec<S> {
        let away = self.away.lock();
        ids.iter().filter_map(|id| away.get(id).cloned()).collect()
    }

    /// Notes that something of other servers may be missing up to now.
    #[cfg(feature = "cluster")]
    pub(crate) fn mark_gap(&self) {
        self.gap
            .store(self.next.load(Ordering::Relaxed), Ordering::Release);
    }

    /// Whether a client that has this event, and none that is newer, may lack something of other servers that is not
    /// among what is kept for it.
    pub(crate) fn has_gap_after(&self, known: Stamp) -> bool {
        !self.journals && known.number < self.gap.load(Ordering::Acquire)
    }

    /// The stamp of a new event and what clients are told of it; with a journal only what has come from there has
    /// one.
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

    /// The stamp of an event that a client has; `None` if it has it from another server.
    pub(crate) fn known(&self, last: Last) -> Option<Stamp> {
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

/// Arguments of an event with its number behind them.
#[derive(Debug)]
pub(crate) struct Numbered<'a, A> {
    args: &'a A,
    number: EventOffset,
}

impl<'a, A: Arguments> Numbered<'a, A> {
    pub(crate) fn new(args: &'a A, number: EventOffset) -> Self {
        Self { args, number }
    }
}

impl<A: Arguments> Arguments for Numbered<'_, A> {
    fn encode(&self, encoder: &mut Encoder) -> Result<(), EncodeError> {
        self.args.encode(encoder)?;
        encoder.value(&self.number)
    }
}
