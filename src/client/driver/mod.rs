//! The task that owns the connection of a client, and everything that belongs to it.
//!
//! [`ClientBuilder`] starts one task for each client. It holds the session, the state of every
//! namespace, the listeners, the handlers that are running, what waits to be sent, and all times. Handles
//! reach it through one queue of [commands](super::api::Command); it ends when the last of them has gone.
//! There are no locks, and no order of two tasks to think about.
//!
//! The task does one step after the other (`Driver::step`): a command, a packet of the server, a handler
//! that has finished, a time that is over. Each is handled without waiting:
//!
//! - `connecting`: sessions are opened, lost and opened anew (the official client's `Manager`);
//! - `packets`: what the server sends to a namespace;
//! - `sending`: events, acknowledgements, and what is sent again until it is acknowledged.
//!
//! What waits is bounded: by [`max_buffered`](ClientBuilder::max_buffered) what is to be sent, by the sizes
//! of streams and the number of handlers what was received. While there is no room for what was received,
//! nothing is read.

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
use phase::{Phase, Progress};
use roomcast_protocol::socket::Nsp;
use serde_json::Value;
use tokio::{
    sync::mpsc,
    time::{Instant, sleep_until},
};

use self::backoff::Backoff;
use super::{
    ClientError,
    api::{Change, Client, Command, Handle, Settings, SharedNamespace, Socket, Watcher},
};

struct Driver {
    settings: Arc<Settings>,
    /// Handlers are given handles, and those alone keep the task alive.
    handle: Weak<Handle>,
    commands: mpsc::UnboundedReceiver<Command>,
    phase: Phase,
    /// The number of the session, so that nothing of one gets into the next.
    epoch: u64,
    backoff: Backoff,
    /// Whether lost connections are made anew.
    may_reconnect: bool,
    /// Whether the attempt that is under way, or waited for, is one to reconnect.
    is_reconnecting: bool,
    namespaces: BTreeMap<Nsp, Namespace>,
    watchers: Vec<Watcher>,
    calls: Calls,
    /// What functions of the application make of `auth`.
    auths: FuturesUnordered<Pin<Box<dyn Future<Output = Authenticated> + Send>>>,
    /// Sessions that are being ended.
    farewells: FuturesUnordered<Pin<Box<dyn Future<Output = ()> + Send>>>,
}

/// What a socket is to send with its `CONNECT`.
struct Authenticated {
    nsp: Nsp,
    epoch: u64,
    auth: Result<Value, ClientError>,
}

enum Step {
    /// A command of a handle, or `None` if no handle is left.
    Command(Option<Command>),
    Progress(Progress),
    Handled(Finished),
    Authenticated(Authenticated),
    /// A stream has room, a session has ended, or nothing at all.
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
            farewells: FuturesUnordered::new(),
        }
    }

    async fn run(mut self) {
        loop {
            match self.step().await {
                Step::Command(Some(command)) => self.obey(command),
                Step::Command(None) => break,
                Step::Progress(progress) => self.progress(progress),
                Step::Handled(finished) => self.finish(finished),
                Step::Authenticated(made) => self.authenticated(made),
                Step::Again => {}
                Step::Deadline => self.expire(),
            }
        }
        self.leave();
        // Each farewell has a deadline, so this ends.
        while self.farewells.next().await.is_some() {}
    }

    /// The next thing that happens. Nothing is lost when the others are asked again.
    async fn step(&mut self) -> Step {
        let deadline = self.deadline();
        let wants_room = self.namespaces.values().any(Namespace::wants_room);
        let may_read = self.calls.may_read();
        let Self {
            commands,
            phase,
            calls,
            auths,
            farewells,
            ..
        } = self;
        let Calls { running, blocked } = calls;
        // Every branch is cancel safe: none takes anything before it is ready, and what is under
        // way stays in the fields.
        tokio::select! {
            command = commands.recv() => Step::Command(command),
            progress = phase.next(may_read, wants_room) => Step::Progress(progress),
            Some(finished) = running.next() => Step::Handled(finished),
            Some(made) = auths.next() => Step::Authenticated(made),
            Some(()) = farewells.next() => Step::Again,
            () = Calls::unblock(blocked), if !blocked.is_empty() => Step::Again,
            // `select!` makes each future before it looks at the condition, so this one needs some
            // time.
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

    fn progress(&mut self, progress: Progress) {
        match progress {
            Progress::Opened(Ok(link)) => self.opened(link),
            Progress::Opened(Err(error)) => self.unreachable(&error),
            Progress::Due => self.attempt(),
            Progress::Packet(Ok(packet)) => self.receive(packet),
            Progress::Packet(Err(error)) => self.lost(&error),
            Progress::Room => self.flush_all(),
        }
    }

    fn namespace(&mut self, shared: &Arc<SharedNamespace>) -> &mut Namespace {
        let make = || Namespace::new(Arc::clone(shared), self.settings.auth.clone());
        self.namespaces
            .entry(shared.nsp.clone())
            .or_insert_with(make)
    }

    /// The handle of a namespace's socket, as long as the application has any handle.
    fn socket(&self, shared: &Arc<SharedNamespace>) -> Option<Socket> {
        let client = Client::upgrade(&self.handle)?;
        Some(Socket::new(client, Arc::clone(shared)))
    }

    /// Tells who wants to know what happens to the connection.
    fn tell(&mut self, change: &Change) {
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
