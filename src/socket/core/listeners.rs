//! What an application registers on one socket while it is connected, as in the official server.
//!
//! Most sockets have none of it: the handlers of their namespace are enough. So it is made when the
//! first is registered, and forgotten when the socket ends.

use parking_lot::Mutex;

use crate::socket::types::{ListenError, ListenerId};

/// All that is registered on one socket: handlers `H`, packet middleware `C`, and watchers `W`
/// of what goes out.
pub(crate) struct Listeners<H, C, W>(Mutex<Table<H, C, W>>);

struct Table<H, C, W> {
    last: u64,
    /// For one event each, in the order of registration.
    events: Vec<Listener<H>>,
    any: Vec<(ListenerId, H)>,
    packet_middleware: Vec<(ListenerId, C)>,
    outgoing: Vec<(ListenerId, W)>,
    /// The socket has ended.
    closed: bool,
}

struct Listener<H> {
    id: ListenerId,
    event: Box<str>,
    is_once: bool,
    handler: H,
}
/// Where in a list something is registered.
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
    /// Registers something, unless there is too much already.
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

    /// Watches all events that come in.
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

    /// Checks all events that come in.
    pub(crate) fn on_packet(&self, limit: usize, check: C) -> Result<ListenerId, ListenError> {
        self.add(limit, |table, id| table.packet_middleware.push((id, check)))
    }

    /// Watches all events that go out.
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

    /// Takes one away; `false` if it is not there.
    pub(crate) fn off(&self, id: ListenerId) -> bool {
        let mut table = self.0.lock();
        let before = table.len();
        let mut gone = Table::default();
        gone.events
            .extend(table.events.extract_if(.., |listener| listener.id == id));
        gone.any
            .extend(table.any.extract_if(.., |(known, _)| *known == id));
        gone.packet_middleware.extend(
            table
                .packet_middleware
                .extract_if(.., |(known, _)| *known == id),
        );
        gone.outgoing
            .extend(table.outgoing.extract_if(.., |(known, _)| *known == id));
        let is_gone = table.len() < before;
        // Listeners may own anything, so they are dropped without the lock.
        drop(table);
        drop(gone);
        is_gone
    }

    /// Takes all away that are for one event; how many there were.
    pub(crate) fn off_event(&self, event: &str) -> usize {
        let mut table = self.0.lock();
        let gone: Vec<_> = table
            .events
            .extract_if(.., |listener| *listener.event == *event)
            .collect();
        drop(table);
        gone.len()
    }

    /// Removes everything. Returns how many listeners there were.
    pub(crate) fn off_all(&self) -> usize {
        let mut table = self.0.lock();
        let count = table.len();
        // Numbers and the end of the socket stay, so that ids are never used twice.
        let rest = Table {
            last: table.last,
            closed: table.closed,
            ..Table::default()
        };
        let gone = std::mem::replace(&mut *table, rest);
        // Listeners may own anything, so they are dropped without the lock.
        drop(table);
        drop(gone);
        count
    }

    /// The names of the events for which there are listeners, each once, in the order of
    /// registration.
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
        let table = self.0.lock();
        table
            .packet_middleware
            .iter()
            .map(|(_, check)| check.clone())
            .collect()
    }

    pub(crate) fn any(&self) -> Vec<H> {
        let table = self.0.lock();
        table
            .any
            .iter()
            .map(|(_, handler)| handler.clone())
            .collect()
    }

    /// The listeners for one event. Those that are called only once are removed.
    pub(crate) fn take(&self, event: &str) -> Vec<H> {
        let mut table = self.0.lock();
        // The handlers are cloned out and called without the lock, since they may register others.
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

    /// How many there are for one event.
    pub(crate) fn count(&self, event: &str) -> usize {
        let table = self.0.lock();
        table
            .events
            .iter()
            .filter(|listener| *listener.event == *event)
            .count()
    }

    /// How many watch all that comes in, and all that goes out.
    pub(crate) fn watcher_counts(&self) -> (usize, usize) {
        let table = self.0.lock();
        (table.any.len(), table.outgoing.len())
    }

    /// The watchers of outgoing events.
    pub(crate) fn outgoing(&self) -> Vec<W> {
        let table = self.0.lock();
        table
            .outgoing
            .iter()
            .map(|(_, hook)| hook.clone())
            .collect()
    }

    /// Forgets all: what is registered may hold the socket itself.
    pub(crate) fn close(&self) {
        let mut table = self.0.lock();
        let gone = std::mem::take(&mut *table);
        table.closed = true;
        drop(table);
        drop(gone);
    }
}

impl<H, C, W> Table<H, C, W> {
    fn len(&self) -> usize {
        self.events.len() + self.any.len() + self.packet_middleware.len() + self.outgoing.len()
    }
}
