//! Several servers as one through Redis, on the wires of Node's adapters.
//!
//! Servers of this library and Node servers with `@socket.io/redis-adapter` 8 share rooms if their keys
//! are equal, and what `@socket.io/redis-emitter` 5 sends reaches the clients of both. So do servers that
//! `@socket.io/redis-streams-adapter` joins. What is promised is in `docs/cluster.md`.
//!
//! ```no_run
//! use roomcast::{Io, adapter::redis::Redis};
//!
//! let io = Io::builder().adapter(Redis::new("redis://localhost")?).build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod channels;
mod classic;
mod echoes;
mod joins;
mod line;
mod link;
mod outside;
mod sealing;
mod shared;
mod streams;
mod unnamed;
mod values;

use std::{
    fmt,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use roomcast_protocol::socket::Nsp;

pub use self::line::InvalidUrl;
use self::{
    channels::{How, Route, Scope, Target},
    echoes::Own,
    line::{RedisAddress, Sent},
    link::{Link, Listener},
    sealing::Sealers,
    shared::{RedisState, own_channel, room_channel},
    streams::{RedisJournal, Stream},
    values::RedisValues,
};
pub use super::common::{Emission, Emitter, Lost};
use super::{
    common::{Broker as _, Limits, unwritten},
    envelope::{Envelope, Message, NodeId},
    interface::journal::Journal,
    interface::{Adapter, AdapterError, Backlog, BoxFuture, Health, Inbox, Servers},
    message::FOREIGN,
    nodes::NAMESPACE,
    seal::{Protection, SealOptions, Secrets},
    values::ValueStore,
};
use crate::names::Room;

/// The adapter: given to [`Builder::adapter`](crate::Builder::adapter).
///
/// The adapter connects in the background, and again whenever the connection breaks. While there is none, events
/// reach the clients of this server; those of the last five seconds are sent when it is back and the other servers listen again, for which
/// they wait three and a half seconds at most. What was on its way when a connection broke, or has waited for longer, is lost and counted.
pub struct Redis {
    place: RedisAddress,
    key: String,
    wire: Wire,
    /// Unless it has the name of the key.
    stream: Option<String>,
    max_len: usize,
    read_count: usize,
    recovers: bool,
    session_prefix: String,
    timeout: Duration,
    specific: bool,
    limits: Limits,
    sealing: SealOptions,
    shared: Arc<OnceLock<Arc<RedisState>>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Classic,
    Sharded(Subscriptions),
    Streams {
        /// Whether its channels are.
        is_sharded: bool,
    },
}

/// Which channels a [sharded](Redis::sharded) adapter listens on. All servers must agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subscriptions {
    /// One for each namespace and one for each room that has members here, but for the rooms of the
    /// sockets' own ids. Node calls it `dynamic`.
    #[default]
    Rooms,
    /// One for each namespace. Node calls it `static`.
    Namespaces,
    /// One for each namespace, one for each room that has members here, and one for each socket, so that events for one
    /// socket reach its server alone. Node calls it `dynamic-private`.
    RoomsAndSockets,
}

impl Redis {
    /// An adapter of the classic form: `createAdapter` in Node. Events go through `PUBLISH`, and every
    /// server hears all of a namespace.
    ///
    /// | URL | what it names |
    /// |---|---|
    /// | `redis://user:password@host:6379/0` | one server |
    /// | `rediss://…` | the same with TLS |
    /// | `redis+sentinel://user:password@host:26379,host:26379/service/0` | what sentinels call so; user and password are those of Redis, and those of the sentinels, if they want any, parameters: `…/service?sentinel_user=…&sentinel_password=…` |
    /// | `redis+cluster://user:password@host:6379,host:6379` | a cluster |
    /// | `redis-streams://…`, `redis-streams+cluster://…` and so on | the same, with [streams](Self::streams) |
    ///
    /// # Errors
    ///
    /// When the URL is none of them.
    pub fn new(url: &str) -> Result<Self, InvalidUrl> {
        let (place, has_streams) = RedisAddress::parse(url)?;
        let wire = match has_streams {
            true => Wire::Streams { is_sharded: false },
            false => Wire::Classic,
        };
        Ok(Self {
            place,
            key: "socket.io".to_owned(),
            wire,
            stream: None,
            max_len: 10_000,
            read_count: 100,
            recovers: false,
            session_prefix: "sio:session:".to_owned(),
            timeout: Duration::from_secs(5),
            specific: false,
            limits: Limits {
                messages: 65_536,
                bytes: 64 << 20,
                // Half of what Redis lets wait for a server before it cuts the server off.
                message_bytes: 16 << 20,
            },
            sealing: SealOptions::default(),
            shared: Arc::default(),
        })
    }

    /// An adapter of the sharded form: `createShardedAdapter` in Node. It wants Redis 7, and in a
    /// cluster each message goes to one node instead of all.
    #[must_use]
    pub fn sharded(mut self, subscriptions: Subscriptions) -> Self {
        self.wire = Wire::Sharded(subscriptions);
        self
    }

    /// An adapter of the form with a stream: `createAdapter` of `@socket.io/redis-streams-adapter`. What is for
    /// others is kept in Redis for a while, so that servers that have lost it for a moment catch up. It wants Redis 6.2, and 7
    /// to count what was gone before it was read.
    #[must_use]
    pub fn streams(mut self) -> Self {
        self.wire = Wire::Streams { is_sharded: false };
        self
    }

    /// Whether answers on the wire of [streams](Self::streams) go over sharded channels, `useShardedPubSub` of Node's
    /// adapter. Default `false`.
    #[must_use]
    pub fn sharded_channels(mut self, is_sharded: bool) -> Self {
        if let Wire::Streams { .. } = self.wire {
            self.wire = Wire::Streams { is_sharded };
        }
        self
    }

    /// The name of the stream, `streamName` of Node's adapter. Default: the [key](Self::key).
    #[must_use]
    pub fn stream_name(mut self, name: &str) -> Self {
        self.stream = Some(name.to_owned());
        self
    }

    /// About how many entries the stream keeps, `maxLen` of Node's adapter: who is away for longer than they take to
    /// be written has lost what is older. Default 10,000, at least 1.
    #[must_use]
    pub fn max_len(mut self, entries: usize) -> Self {
        self.max_len = entries.max(1);
        self
    }

    /// How many entries are read at once at most, `readCount` of Node's adapter. Fewer are where they are large. Default
    /// 100, at least 1.
    #[must_use]
    pub fn read_count(mut self, entries: usize) -> Self {
        self.read_count = entries.max(1);
        self
    }

    /// Whether clients may come back to another server, on the wire of [streams](Self::streams) and with
    /// [recovery](crate::Builder::recovery). Every event then goes through Redis before it reaches a client, also one of the same
    /// server, as with Node's adapter: that is what gives it an offset that all servers know. Default `false`.
    #[must_use]
    pub fn recovery(mut self, recovers: bool) -> Self {
        self.recovers = recovers;
        self
    }

    /// What the keys of the kept states of clients begin with, `sessionKeyPrefix` of Node's adapter. Default `sio:session:`.
    #[must_use]
    pub fn session_key_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.session_prefix);
        self
    }

    fn journals(&self) -> bool {
        self.recovers && matches!(self.wire, Wire::Streams { .. })
    }

    /// What the names of channels begin with: `key` of Node's classic adapter, `channelPrefix` of its
    /// sharded one and of the one with streams, where it is the name of the stream as well. Default `socket.io`.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    /// How long other servers may take to answer what has no time limit of its own: `requestsTimeout`
    /// of Node's adapter. Default 5 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Whether Node servers are answered on a channel of their own, `publishOnSpecificResponseChannel`
    /// of Node's classic adapter. Servers of this library always are. Default `false`.
    #[must_use]
    pub fn publish_on_specific_response_channel(mut self, specific: bool) -> Self {
        self.specific = specific;
        self
    }

    /// What may wait to be sent: messages, default 65,536, and their bytes, default 64 MiB.
    #[must_use]
    pub fn queue(mut self, messages: usize, bytes: usize) -> Self {
        self.limits.messages = messages;
        self.limits.bytes = bytes;
        self
    }

    /// The largest message. Redis cuts off servers for which more than 32 MiB wait, unless its option
    /// `client-output-buffer-limit` says otherwise. Default 16 MiB.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.limits.message_bytes = bytes;
        self
    }

    /// Seals what is sent, and acts on nothing else than what another server has sealed with one of these secrets.
    /// Default: the wire of Node's adapters, which everybody with access to the broker reads and writes.
    ///
    /// All servers and emitters of the cluster need the same list. Values and locks are not sealed: the rights of
    /// the broker protect them. See `docs/cluster.md`.
    #[must_use]
    pub fn sealed(mut self, secrets: Secrets) -> Self {
        self.sealing.secrets = Some(secrets);
        self
    }

    /// Whether what is not sealed is accepted as well, and each message is sent in both forms, for one rolling upgrade of
    /// a cluster whose servers do not seal yet. Of a server that seals only the sealed form counts. Without effect
    /// unless [`sealed`](Self::sealed) is set. Default `false`: while it is `true`, nothing is protected.
    #[must_use]
    pub fn accept_plain(mut self, accepts: bool) -> Self {
        self.sealing.accepts_plain = accepts;
        self
    }

    fn stream(&self) -> Stream {
        Stream {
            name: self.stream.clone().unwrap_or_else(|| self.key.clone()),
            max_len: self.max_len,
            read_count: self.read_count,
        }
    }

    fn shared(&self) -> Result<&Arc<RedisState>, AdapterError> {
        self.shared.get().ok_or(AdapterError::Closed)
    }
}

impl Adapter for Redis {
    fn receive(&self, inbox: Inbox) {
        let shared = Arc::new_cyclic(|shared: &Weak<RedisState>| {
            let how = self.wire.how();
            let own = own_channel(&self.key, inbox.node());
            let journals = self.journals() && inbox.recovers();
            let listener: Weak<dyn Listener> = shared.clone();
            let link = Link::new(self.place.clone(), how, own, self.limits, listener);
            let sealers = Sealers::new(&self.sealing, &self.key).map(Arc::new);
            let own = Own::new(inbox.node().as_str(), sealers.clone());
            let link = link.knowing(own).sealing(sealers.is_some());
            let heartbeats = Nsp::from(NAMESPACE);
            let link = match self.wire {
                Wire::Streams { .. } => link.reading(self.stream()),
                // Of the channels of a namespace that are counted all servers of this library have that of heartbeats.
                Wire::Classic => link.counting(Scope::Requests.channel(&self.key, &heartbeats)),
                Wire::Sharded(_) => link.counting(Scope::Events.channel(&self.key, &heartbeats)),
            };
            RedisState {
                link: Arc::new(link),
                inbox,
                key: self.key.clone(),
                wire: self.wire,
                stream: Arc::new(self.stream()),
                specific: self.specific,
                asked: Default::default(),
                unnamed: Default::default(),
                heartbeats: Default::default(),
                joins: Default::default(),
                journals,
                open: Default::default(),
                replays: Default::default(),
                sealers,
                channels: Protection::new(&self.sealing, &sealing::channels(&self.key)),
                entries: Protection::new(&self.sealing, &sealing::entries(&self.key)),
            }
        });
        let (inbox, has_stream) = (
            shared.inbox.clone(),
            matches!(self.wire, Wire::Streams { .. }),
        );
        let did_begin = AtomicBool::new(false);
        shared.link.outbound().when_reached(move || {
            // From the first connection on a stream is read from where this server has stopped.
            if !did_begin.swap(true, Ordering::Relaxed) || !has_stream {
                inbox.may_have_missed();
            }
        });
        // `receive` is called once, so that the cell is empty.
        let _ = self.shared.set(shared);
    }

    fn task(&self) -> Option<BoxFuture<()>> {
        let link = Arc::clone(&self.shared.get()?.link);
        Some(Box::pin(link.run()))
    }

    fn publish(&self, envelope: Envelope) -> Result<(), AdapterError> {
        let shared = self.shared()?;
        match &envelope.message {
            Message::Publication(publication) => shared.publish(publication),
            Message::Reply(reply) => self.reply(&reply.to.clone(), envelope),
        }
    }

    fn reply(&self, to: &NodeId, envelope: Envelope) -> Result<(), AdapterError> {
        let shared = self.shared()?;
        match envelope.message {
            // A server of another kind is answered in its own form, and one of this library by an envelope.
            Message::Reply(reply) if reply.request & FOREIGN != 0 => {
                match shared.asked.answer(reply) {
                    Some((question, response)) => shared.respond(&question, &response),
                    None => Ok(()),
                }
            }
            Message::Reply(_) | Message::Publication(_) => {
                let bytes = envelope.to_bytes().map_err(unwritten)?;
                let channel = own_channel(&shared.key, to);
                shared.reply(to, Sent::Message(channel, bytes))
            }
        }
    }

    fn servers(&self, namespace: &str) -> BoxFuture<Result<Servers, AdapterError>> {
        let shared = self.shared().cloned();
        let nsp = Nsp::from(namespace);
        Box::pin(async move {
            let shared = shared?;
            let scope = match shared.wire {
                Wire::Classic => Scope::Requests,
                Wire::Sharded(_) | Wire::Streams { .. } => Scope::Events,
            };
            let channel = scope.channel(&shared.key, &nsp);
            let others = Arc::clone(&shared.link).others(channel).await?;
            // Servers of the streams adapter 0.2 subscribe to no channel, and are known by their heartbeats alone.
            let heard_of = shared.heartbeats.count(&nsp);
            Ok(Servers::Count(others + heard_of))
        })
    }

    /// A stream is read from where this server has stopped.
    fn catches_up(&self) -> bool {
        let shared = self.shared.get();
        shared.is_some_and(|shared| shared.link.position().is_some())
    }

    fn health(&self) -> Health {
        match self.shared.get() {
            Some(shared) => shared.link.health(),
            None => Health::Down("not connected yet".to_owned()),
        }
    }

    fn backlog(&self) -> Backlog {
        let shared = self.shared.get();
        shared.map_or_else(Backlog::default, |shared| shared.link.backlog())
    }

    fn close(&self) -> BoxFuture<()> {
        let shared = self.shared.get().cloned();
        Box::pin(async {
            if let Some(shared) = shared {
                // The farewells are queued before the link is closed, which then sends what waits.
                for nsp in shared.heartbeats.namespaces() {
                    shared.say_farewell(&nsp);
                }
                Arc::clone(&shared.link).close().await;
            }
        })
    }

    fn request_timeout(&self) -> Duration {
        self.timeout
    }

    fn namespace_opened(&self, namespace: &str) {
        self.turn_namespace(namespace, true);
    }

    fn namespace_closed(&self, namespace: &str) {
        self.turn_namespace(namespace, false);
    }

    fn values(&self) -> Option<Box<dyn ValueStore>> {
        let place = self.place.clone();
        Some(Box::new(RedisValues::new(place, &self.key)))
    }

    fn journal(&self) -> Option<Arc<dyn Journal>> {
        self.journals().then(|| -> Arc<dyn Journal> {
            let shared = Arc::clone(&self.shared);
            let prefix = self.session_prefix.clone();
            Arc::new(RedisJournal::new(shared, prefix, &self.sealing, &self.key))
        })
    }

    fn follows_rooms(&self) -> bool {
        use Subscriptions::{Rooms, RoomsAndSockets};
        matches!(self.wire, Wire::Sharded(Rooms | RoomsAndSockets))
    }

    fn follows_sockets(&self) -> bool {
        self.wire == Wire::Sharded(Subscriptions::RoomsAndSockets)
    }

    fn followed(&self) -> BoxFuture<()> {
        let link = self.shared.get().map(|shared| Arc::clone(&shared.link));
        Box::pin(async {
            if let Some(link) = link {
                link.followed().await;
            }
        })
    }

    fn room_opened(&self, namespace: &str, room: &Room) {
        self.turn_room(namespace, room, true);
    }

    fn room_closed(&self, namespace: &str, room: &Room) {
        self.turn_room(namespace, room, false);
    }
}

impl Redis {
    fn turn_namespace(&self, namespace: &str, on: bool) {
        if let Some(shared) = self.shared.get() {
            shared.turn_namespace(namespace, on);
        }
    }

    fn turn_room(&self, namespace: &str, room: &Room, on: bool) {
        let Some(shared) = self.shared.get() else {
            return;
        };
        let nsp = Nsp::from(namespace);
        if let Some(name) = room_channel(shared.wire, &shared.key, &nsp, room) {
            let route = Route {
                namespace: nsp,
                scope: Scope::Events,
            };
            let target = on.then_some(Target::Namespace(route));
            shared.link.listen((How::Sharded, name.into()), target);
        }
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.get() {
            // The link runs in a task of its own, which would go on without the adapter.
            shared.link.abandon();
        }
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL is left out, because it may have a password in it.
        f.debug_struct("Redis")
            .field("key", &self.key)
            .field("wire", &self.wire)
            .finish_non_exhaustive()
    }
}

/// For fuzz targets: reads what may come on the channels of all wires, and writes again what was read.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    shared::fuzz(data);
}
