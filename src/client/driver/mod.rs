//! The task that owns a client's connection and all its state.
//!
//! [`ClientBuilder`] starts one task per client. It holds the session, namespaces, listeners,
//! running handlers, queued events, and timers. Handles reach it through one queue of
//! [commands](super::api::Command). The task ends when the last handle is dropped. It needs no
//! locks.
//!
//! The task runs one step at a time (`Driver::step`): a command, a packet of the server, a finished
//! handler, or an expired timer. Each step is handled without waiting:
//!
//! - `connecting`: opens and reopens sessions (the official client's `Manager`);
//! - `packets`: handles packets of the server for a namespace;
//! - `sending`: sends events and acknowledgements, and retries unacknowledged events.
//!
//! All queues are bounded. [`max_buffered`](ClientBuilder::max_buffered) limits unsent data. The
//! capacity of streams and the number of handlers limit received events. While one of these is
//! full, the client does not read.

mod acks;
mod backoff;
mod builder;
mod calls;
mod connecting;
mod namespace;
mod packets;
mod phase;
mod sending;

use std::{
    collections::BTreeMap,
    pin::Pin,
    sync::{Arc, Weak},
};

pub use builder::ClientBuilder;
use calls::{Calls, Finished};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use namespace::Namespace;
use phase::Phase;
use roomcast_protocol::socket::{Nsp, Packet};
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use self::backoff::Backoff;
use super::{
    ClientError,
    api::{Change, Client, Command, Handle, Settings, SharedNamespace, Watcher},
    link::Link,
};

struct Driver {
    settings: Arc<Settings>,
    /// Creates handles for handlers. Weak, because only handles keep the task alive.
    handle: Weak<Handle>,
    commands: mpsc::UnboundedReceiver<Command>,
    phase: Phase,
    /// The number of the session. It separates the data of one session from the next.
    epoch: u64,
    backoff: Backoff,
    /// Whether the client reconnects after it loses the connection.
    may_reconnect: bool,
    /// Whether the current or scheduled attempt is a reconnect attempt.
    is_reconnecting: bool,
    namespaces: BTreeMap<Nsp, Namespace>,
    watchers: Vec<Watcher>,
    calls: Calls,
    /// Pending auth functions of the application.
    auths: FuturesUnordered<Pin<Box<dyn Future<Output = Authenticated> + Send>>>,
    /// Sessions that are closing.
    closings: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// The payload of a socket's `CONNECT`.
struct Authenticated {
    nsp: Nsp,
    epoch: u64,
    auth: Result<Value, ClientError>,
}

enum Step {
    /// A command of a handle, or `None` if all handles are dropped.
    Command(Option<Command>),
    /// The delay before the next attempt to connect is over.
    Due,
    Opened(Result<Link, ClientError>),
    Packet(Result<Packet, ClientError>),
    /// The connection can accept more data.
    Room,
    Handled(Finished),
    Authenticated(Authenticated),
    /// A stream has room, a session has ended, or nothing happened.
    Again,
    Deadline,
}

impl Driver {
    fn new(
        settings: Arc<Settings>,
        handle: Weak<Handle>,
        commands: mpsc::UnboundedReceiver<Command>,
    ) -> Self {
        Self {
            may_reconnect: settings.reconnection,
            settings,
            handle,
            commands,
            phase: Phase::Closed,
            epoch: 0,
            backoff: Backoff::default(),
            is_reconnecting: false,
            namespaces: BTreeMap::new(),
            watchers: Vec::new(),
            calls: Calls::default(),
            auths: FuturesUnordered::new(),
            closings: FuturesUnordered::new(),
        }
    }

    async fn run(mut self) {
        loop {
            match self.step().await {
                Step::Command(Some(command)) => self.obey(command),
                Step::Command(None) => break,
                Step::Opened(Ok(link)) => self.opened(link),
                Step::Opened(Err(error)) => self.unreachable(&error),
                Step::Due => self.attempt(),
                Step::Packet(Ok(packet)) => self.receive(packet),
                Step::Packet(Err(error)) => self.lost(&error),
                Step::Room => self.flush_all(),
                Step::Handled(finished) => self.finish(finished),
                Step::Authenticated(made) => self.authenticated(made),
                Step::Again => {}
                Step::Deadline => self.expire(),
            }
        }
        self.leave();
        // Each close has a timeout, so this loop ends.
        while self.closings.next().await.is_some() {}
    }

    /// Waits for the next step. No event is lost when the other branches are polled again.
    async fn step(&mut self) -> Step {
        let deadline = self.deadline();
        let has_unsent = self.namespaces.values().any(Namespace::has_unsent);
        let may_read = self.calls.may_read();
        let Self {
            commands,
            phase,
            calls,
            auths,
            closings,
            ..
        } = self;
        let Calls { running, blocked } = calls;
        // Every branch is cancel safe: none takes anything before it is ready, and unfinished work
        // stays in the fields.
        tokio::select! {
            command = commands.recv() => Step::Command(command),
            step = phase.next(may_read, has_unsent) => step,
            Some(finished) = running.next() => Step::Handled(finished),
            Some(made) = auths.next() => Step::Authenticated(made),
            Some(()) = closings.next() => Step::Again,
            () = Calls::unblock(blocked), if !blocked.is_empty() => Step::Again,
            // `select!` evaluates each future before its condition, so this future needs a value
            // even if there is no deadline.
            () = sleep_until(deadline.unwrap_or_else(Instant::now)), if deadline.is_some() => {
                Step::Deadline
            }
        }
    }

    fn obey(&mut self, command: Command) {
        match command {
            Command::Open(shared, waiter) => self.open(&shared, waiter),
            Command::Disconnect(shared, done) => self.disconnect(&shared, done),
            Command::Close(done) => self.close(done),
            Command::Emit(shared, outgoing) => self.emit(&shared, outgoing),
            Command::Answer {
                epoch,
                frame,
                charge,
            } => {
                self.answer(epoch, &frame);
                drop(charge);
            }
            Command::Listen(shared, listener) => self.namespace(&shared).listeners.add(listener),
            Command::Unlisten(shared, id) => self.namespace(&shared).listeners.remove(id),
            Command::SetAuth(shared, auth) => self.namespace(&shared).auth = auth,
            Command::Watch(watcher) => self.watchers.push(watcher),
            Command::Unwatch(id) => self.watchers.retain(|watcher| watcher.id != id),
            Command::SetReconnection(is_on) => self.set_reconnection(is_on),
        }
    }

    fn namespace(&mut self, shared: &Arc<SharedNamespace>) -> &mut Namespace {
        let make = || Namespace::new(Arc::clone(shared), self.settings.auth.clone());
        self.namespaces
            .entry(shared.nsp.clone())
            .or_insert_with(make)
    }

    /// Notifies all watchers of a change of the connection.
    fn notify(&mut self, change: &Change) {
        let server = &*self.settings.target.authority;
        tracing::debug!(?change, server, "client");
        let Some(client) = Client::upgrade(&self.handle) else {
            return;
        };
        for watcher in &self.watchers {
            self.calls.watch(watcher, client.clone(), change.clone());
        }
    }

    fn deadline(&self) -> Option<Instant> {
        let deadlines = self.namespaces.values().filter_map(Namespace::deadline);
        deadlines.min()
    }
}
