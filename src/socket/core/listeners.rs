//! Listeners of one connected socket, as in the official server.
//!
//! Most sockets have none, because the handlers of their namespace suffice. So the table is
//! allocated with the first listener, and cleared when the socket ends.

use parking_lot::Mutex;

use crate::socket::types::{ListenError, ListenerId};

/// The numbers of a socket's observers of events.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct WatcherCounts {
    /// Observers of incoming events.
    pub incoming: usize,
    /// Observers of outgoing events.
    pub outgoing: usize,
}

/// The registrations of one socket: handlers `H`, packet middleware `C`, and observers `W` of
/// outgoing events.
pub(crate) struct Listeners<H, C, W>(Mutex<Table<H, C, W>>);

struct Table<H, C, W> {
    last: u64,
    /// Listeners of named events, in the order of registration.
    events: Vec<Listener<H>>,
    any: Vec<(ListenerId, H)>,
    packet_middleware: Vec<(ListenerId, C)>,
    outgoing: Vec<(ListenerId, W)>,
    /// Whether the socket has ended.
    closed: bool,
}

struct Listener<H> {
    id: ListenerId,
    event: Box<str>,
    is_once: bool,
    handler: H,
}
/// The place of an insertion into a list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Position {
    First,
    Last,
}

impl Position {
    fn insert<T>(self, list: &mut Vec<T>, item: T) {
        match self {
            Self::First => list.insert(0, item),
            Self::Last => list.push(item),
        }
    }
}

impl<H, C, W> Default for Listeners<H, C, W> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<H, C, W> Default for Table<H, C, W> {
    fn default() -> Self {
        Self {
            last: 0,
            events: Vec::new(),
            any: Vec::new(),
            packet_middleware: Vec::new(),
            outgoing: Vec::new(),
            closed: false,
        }
    }
}

impl<H: Clone, C: Clone, W: Clone> Listeners<H, C, W> {
    /// Adds a registration, unless the limit is reached.
    fn add(
        &self,
        limit: usize,
        insert: impl FnOnce(&mut Table<H, C, W>, ListenerId),
    ) -> Result<ListenerId, ListenError> {
        let mut table = self.0.lock();
        if table.closed {
            return Err(ListenError::Disconnected);
        }
        if table.len() >= limit {
            return Err(ListenError::TooMany);
        }
        table.last += 1;
        let id = ListenerId::new(table.last);
        insert(&mut table, id);
        Ok(id)
    }

    /// Listens to one event.
    pub(crate) fn on(
        &self,
        limit: usize,
        event: &str,
        handler: H,
        is_once: bool,
    ) -> Result<ListenerId, ListenError> {
        let event = event.into();
        self.add(limit, |table, id| {
            table.events.push(Listener {
                id,
                event,
                is_once,
                handler,
            });
        })
    }

    /// Observes all incoming events.
    pub(crate) fn on_any(
        &self,
        limit: usize,
        handler: H,
        position: Position,
    ) -> Result<ListenerId, ListenError> {
        self.add(limit, |table, id| {
            position.insert(&mut table.any, (id, handler));
        })
    }

    /// Adds packet middleware.
    pub(crate) fn on_packet(&self, limit: usize, check: C) -> Result<ListenerId, ListenError> {
        self.add(limit, |table, id| table.packet_middleware.push((id, check)))
    }

    /// Observes all outgoing events.
    pub(crate) fn on_any_outgoing(
        &self,
        limit: usize,
        hook: W,
        position: Position,
    ) -> Result<ListenerId, ListenError> {
        self.add(limit, |table, id| {
            position.insert(&mut table.outgoing, (id, hook));
        })
    }

    /// Removes a registration. Returns `false` if it does not exist.
    pub(crate) fn off(&self, id: ListenerId) -> bool {
        let mut table = self.0.lock();
        let before = table.len();
        let mut removed = Table::default();
        removed
            .events
            .extend(table.events.extract_if(.., |listener| listener.id == id));
        removed
            .any
            .extend(table.any.extract_if(.., |(known, _)| *known == id));
        removed.packet_middleware.extend(
            table
                .packet_middleware
                .extract_if(.., |(known, _)| *known == id),
        );
        removed
            .outgoing
            .extend(table.outgoing.extract_if(.., |(known, _)| *known == id));
        let was_removed = table.len() < before;
        // Listeners may own any value, so they are dropped without the lock.
        drop(table);
        drop(removed);
        was_removed
    }

    /// Removes all listeners of one event. Returns their number.
    pub(crate) fn off_event(&self, event: &str) -> usize {
        let mut table = self.0.lock();
        let removed: Vec<_> = table
            .events
            .extract_if(.., |listener| *listener.event == *event)
            .collect();
        drop(table);
        removed.len()
    }

    /// Removes all registrations. Returns their number.
    pub(crate) fn off_all(&self) -> usize {
        let mut table = self.0.lock();
        let count = table.len();
        // The last id and the end of the socket are retained, so that ids are never reused.
        let rest = Table {
            last: table.last,
            closed: table.closed,
            ..Table::default()
        };
        let removed = std::mem::replace(&mut *table, rest);
        // Listeners may own any value, so they are dropped without the lock.
        drop(table);
        drop(removed);
        count
    }

    /// Returns the names of the events with listeners, each once, in the order of registration.
    pub(crate) fn event_names(&self) -> Vec<String> {
        let table = self.0.lock();
        let mut names: Vec<String> = Vec::new();
        for listener in &table.events {
            if !names.iter().any(|name| **name == *listener.event) {
                names.push(listener.event.as_ref().to_owned());
            }
        }
        names
    }

    pub(crate) fn has_outgoing(&self) -> bool {
        !self.0.lock().outgoing.is_empty()
    }

    pub(crate) fn has_packet_middleware(&self) -> bool {
        !self.0.lock().packet_middleware.is_empty()
    }

    pub(crate) fn packet_middleware(&self) -> Vec<C> {
        values(&self.0.lock().packet_middleware)
    }

    pub(crate) fn any(&self) -> Vec<H> {
        values(&self.0.lock().any)
    }

    /// Returns the listeners of one event, and removes those that are called only once.
    pub(crate) fn take(&self, event: &str) -> Vec<H> {
        let mut table = self.0.lock();
        // The handlers are cloned and called without the lock, because they may register listeners.
        let mut found = Vec::new();
        table.events.retain(|listener| {
            if *listener.event != *event {
                return true;
            }
            found.push(listener.handler.clone());
            !listener.is_once
        });
        found
    }

    /// Returns the number of listeners of one event.
    pub(crate) fn count(&self, event: &str) -> usize {
        let table = self.0.lock();
        table
            .events
            .iter()
            .filter(|listener| *listener.event == *event)
            .count()
    }

    /// Returns the numbers of observers of incoming and of outgoing events.
    pub(crate) fn watcher_counts(&self) -> WatcherCounts {
        let table = self.0.lock();
        WatcherCounts {
            incoming: table.any.len(),
            outgoing: table.outgoing.len(),
        }
    }

    /// Returns the observers of outgoing events.
    pub(crate) fn outgoing(&self) -> Vec<W> {
        values(&self.0.lock().outgoing)
    }

    /// Removes all registrations, because they may hold the socket itself.
    pub(crate) fn close(&self) {
        let mut table = self.0.lock();
        let removed = std::mem::take(&mut *table);
        table.closed = true;
        drop(table);
        drop(removed);
    }
}

impl<H, C, W> Table<H, C, W> {
    fn len(&self) -> usize {
        self.events.len() + self.any.len() + self.packet_middleware.len() + self.outgoing.len()
    }
}

fn values<T: Clone>(list: &[(ListenerId, T)]) -> Vec<T> {
    list.iter().map(|(_, value)| value.clone()).collect()
}
