//! What an application registers on one socket while it is connected, as in the official server.
//!
//! Most sockets have none of it: the handlers of their namespace are enough. So it is made when the
//! first is registered, and forgotten when the socket ends.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use parking_lot::Mutex;
use roomcast_protocol::socket::Args;

use super::{
    errors::{ListenError, ListenerId},
    handler::{Erased, Handler, erase},
    handlers::RESERVED,
    incoming::{self, Check, Verdict},
    socket::Socket,
    state::States,
};
use crate::{Incoming, metrics::Counter};

/// An event on its way to a client, as
/// [`Socket::on_any_outgoing`](crate::Socket::on_any_outgoing) sees it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Outgoing<'a> {
    /// The socket it is sent to.
    pub socket: &'a Socket,
    /// The name of the event.
    pub event: &'a str,
    /// Its arguments.
    pub args: &'a Args,
}

/// All that is registered on one socket.
#[derive(Default)]
pub(crate) struct Listeners(Mutex<Table>);

#[derive(Default)]
struct Table {
    last: u64,
    /// For one event each, in the order of registration.
    events: Vec<Listener>,
    any: Vec<(ListenerId, SharedHandler)>,
    checks: Vec<(ListenerId, Check)>,
    outgoing: Vec<(ListenerId, OutgoingHook)>,
    /// The socket has ended.
    closed: bool,
}

struct Listener {
    id: ListenerId,
    event: Box<str>,
    is_once: bool,
    handler: SharedHandler,
}

pub(crate) type SharedHandler = Arc<dyn Erased>;
pub(crate) type OutgoingHook = Arc<dyn Fn(&Outgoing<'_>) + Send + Sync>;

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

impl Listeners {
    /// Registers something, unless there is too much already.
    fn add(
        &self,
        limit: usize,
        insert: impl FnOnce(&mut Table, ListenerId),
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

    pub(crate) fn on<M: 'static, H: Handler<M>>(
        &self,
        limit: usize,
        states: &States,
        event: &str,
        handler: H,
        is_once: bool,
    ) -> Result<ListenerId, ListenError> {
        if RESERVED.contains(&event) {
            return Err(ListenError::Reserved);
        }
        let handler = shared(handler, states)?;
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

    pub(crate) fn on_any<M: 'static, H: Handler<M>>(
        &self,
        limit: usize,
        states: &States,
        handler: H,
        position: Position,
    ) -> Result<ListenerId, ListenError> {
        let handler = shared(handler, states)?;
        self.add(limit, |table, id| {
            position.insert(&mut table.any, (id, handler));
        })
    }

    pub(crate) fn on_packet<F, R>(&self, limit: usize, check: F) -> Result<ListenerId, ListenError>
    where
        F: Fn(Incoming) -> R + Send + Sync + 'static,
        R: Future<Output: Verdict> + Send + 'static,
    {
        let check = incoming::erase(check);
        self.add(limit, |table, id| table.checks.push((id, check)))
    }

    pub(crate) fn on_any_outgoing(
        &self,
        limit: usize,
        hook: OutgoingHook,
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
        let mut gone = Gone::default();
        gone.events
            .extend(table.events.extract_if(.., |listener| listener.id == id));
        gone.any
            .extend(table.any.extract_if(.., |(known, _)| *known == id));
        gone.checks
            .extend(table.checks.extract_if(.., |(known, _)| *known == id));
        gone.outgoing
            .extend(table.outgoing.extract_if(.., |(known, _)| *known == id));
        let is_gone = table.len() < before;
        // What they own is dropped without the lock.
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

    pub(crate) fn has_outgoing(&self) -> bool {
        !self.0.lock().outgoing.is_empty()
    }

    pub(crate) fn has_checks(&self) -> bool {
        !self.0.lock().checks.is_empty()
    }

    pub(crate) fn checks(&self) -> Vec<Check> {
        let table = self.0.lock();
        table
            .checks
            .iter()
            .map(|(_, check)| Arc::clone(check))
            .collect()
    }

    pub(crate) fn any(&self) -> Vec<SharedHandler> {
        let table = self.0.lock();
        table
            .any
            .iter()
            .map(|(_, handler)| Arc::clone(handler))
            .collect()
    }

    /// Those for one event. The ones that are called only once are taken away.
    pub(crate) fn take(&self, event: &str) -> Vec<SharedHandler> {
        let mut table = self.0.lock();
        let mut found = Vec::new();
        table.events.retain(|listener| {
            if *listener.event != *event {
                return true;
            }
            found.push(Arc::clone(&listener.handler));
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

    /// Tells of an event that is on its way to the client.
    pub(crate) fn outgoing(&self, outgoing: &Outgoing<'_>) {
        let hooks: Vec<_> = {
            let table = self.0.lock();
            table
                .outgoing
                .iter()
                .map(|(_, hook)| Arc::clone(hook))
                .collect()
        };
        for hook in hooks {
            if catch_unwind(AssertUnwindSafe(|| hook(outgoing))).is_err() {
                outgoing.socket.metrics().count(Counter::HandlerPanics);
                tracing::error!(event = outgoing.event, "a watcher of events has panicked");
            }
        }
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

impl Table {
    fn len(&self) -> usize {
        self.events.len() + self.any.len() + self.checks.len() + self.outgoing.len()
    }
}

fn shared<M: 'static, H: Handler<M>>(
    handler: H,
    states: &States,
) -> Result<SharedHandler, ListenError> {
    match H::states().into_iter().find(|kind| !states.has(*kind)) {
        Some(missing) => Err(ListenError::MissingState(missing.name)),
        None => Ok(erase(handler).into()),
    }
}

type Gone = Table;
