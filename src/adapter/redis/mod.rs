//! Clustering through Redis, with the wire formats of Node's adapters.
//!
//! Servers of this library and Node servers with `@socket.io/redis-adapter` 8 share rooms if they
//! use the same key. Messages of `@socket.io/redis-emitter` 5 reach the clients of both. The same
//! holds for `@socket.io/redis-streams-adapter`. The guarantees are in `docs/cluster.md`.
//!
//! ```no_run
//! use roomcast::{Io, adapter::redis::Redis};
//!
//! let io = Io::builder().adapter(Redis::new("redis://localhost")?).build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod anonymous;
mod broker;
mod channels;
mod classic;
mod connection;
mod emitter;
mod own_messages;
mod recent_joins;
mod sealing;
mod shared;
mod streams;
mod values;

use std::{
    fmt,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use roomcast_protocol::socket::Nsp;

pub use self::connection::InvalidUrl;
use self::{
    broker::{BrokerLink, Listener},
    connection::RedisAddress,
    own_messages::OwnMessages,
    sealing::Sealers,
    shared::{RedisState, own_channel},
    streams::{RedisJournal, Stream},
    values::RedisValues,
};
pub use super::common::{Emission, Emitter, LostMessages};
use super::{
    common::{Broker as _, BrokerAdapter, BrokerState, Limits, SharedAddress, StateCell},
    envelope::{Envelope, NodeId},
    interface::{AdapterError, Inbox, Servers, journal::Journal},
    message::{publish_to_nodes, reply_to_node},
    nodes::NAMESPACE,
    seal::{Protection, SealOptions, Secrets},
    values::ValueStore,
};
use crate::names::Room;

/// The adapter for Redis; set with [`Builder::adapter`](crate::Builder::adapter).
///
/// The adapter connects in the background, and reconnects whenever the connection breaks. Without a
/// connection, events reach the clients of this server only. The events of the last five seconds
/// are queued. They are sent after the adapter has reconnected and the other servers listen again,
/// or three and a half seconds after it has reconnected.
///
/// Messages that were in flight when a connection broke, or that waited for longer, are lost and
/// counted.
pub struct Redis {
    place: SharedAddress<RedisAddress>,
    key: String,
    wire: Wire,
    /// The name of the stream, unless it equals the key.
    stream: Option<String>,
    max_len: usize,
    read_count: usize,
    recovers: bool,
    session_prefix: String,
    timeout: Duration,
    specific: bool,
    limits: Limits,
    sealing: SealOptions,
    shared: StateCell<RedisState>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Wire {
    Classic,
    Sharded(Subscriptions),
    Streams {
        /// Whether its channels are sharded.
        is_sharded: bool,
    },
}

/// The channels to which a [sharded](Redis::sharded) adapter subscribes. All servers must agree.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Subscriptions {
    /// One channel per namespace, and one per room with members on this server, except the rooms of
    /// the sockets' own ids. Node calls it `dynamic`.
    #[default]
    Rooms,
    /// One channel per namespace. Node calls it `static`.
    Namespaces,
    /// One channel per namespace, one per room with members on this server, and one per socket.
    /// Events for one socket then only reach its server. Node calls it `dynamic-private`.
    RoomsAndSockets,
}

impl Redis {
    /// Creates an adapter of the classic form: `createAdapter` in Node. Events use `PUBLISH`, and
    /// every server receives all events of a namespace.
    ///
    /// The URL has one of these forms:
    ///
    /// - `redis://user:password@host:6379/0`: one server.
    /// - `rediss://…`: one server, with TLS.
    /// - `redis+sentinel://user:password@host:26379,host:26379/service/0`: the server of this
    ///   service according to the sentinels. User and password are those of Redis. If the sentinels
    ///   have their own, these are parameters: `…/service?sentinel_user=…&sentinel_password=…`.
    /// - `redis+cluster://user:password@host:6379,host:6379`: a cluster.
    /// - `redis-streams://…`, `redis-streams+cluster://…` and so on: the same, with
    ///   [streams](Self::streams).
    ///
    /// # Errors
    ///
    /// If the URL has none of these forms.
    pub fn new(url: &str) -> Result<Self, InvalidUrl> {
        let (place, has_streams) = RedisAddress::parse(url)?;
        let wire = match has_streams {
            true => Wire::Streams { is_sharded: false },
            false => Wire::Classic,
        };
        Ok(Self {
            place: SharedAddress::new(place),
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
                // Half of what Redis queues for a server before it disconnects the server.
                message_bytes: 16 << 20,
            },
            sealing: SealOptions::default(),
            shared: StateCell::default(),
        })
    }

    /// Selects the sharded form: `createShardedAdapter` in Node. It requires Redis 7. In a cluster,
    /// each message goes to one node instead of all nodes.
    #[must_use]
    pub fn sharded(mut self, subscriptions: Subscriptions) -> Self {
        self.wire = Wire::Sharded(subscriptions);
        self
    }

    /// Selects the form with a stream: `createAdapter` of `@socket.io/redis-streams-adapter`. Redis
    /// stores messages to other servers for a while, so servers can catch up after a short
    /// disconnect. It requires Redis 6.2, and Redis 7 to count entries that were trimmed before
    /// they were read.
    #[must_use]
    pub fn streams(mut self) -> Self {
        self.wire = Wire::Streams { is_sharded: false };
        self
    }

    /// Uses sharded channels for answers in the [streams](Self::streams) form: `useShardedPubSub`
    /// of Node's adapter.
    #[must_use]
    pub fn sharded_channels(mut self) -> Self {
        if let Wire::Streams { is_sharded } = &mut self.wire {
            *is_sharded = true;
        }
        self
    }

    /// Sets the name of the stream: `streamName` of Node's adapter. Default: the [key](Self::key).
    #[must_use]
    pub fn stream_name(mut self, name: &str) -> Self {
        self.stream = Some(name.to_owned());
        self
    }

    /// Sets the approximate maximum length of the stream in entries: `maxLen` of Node's adapter. A
    /// server that is disconnected while more entries are added loses the oldest. Default 10,000,
    /// at least 1.
    #[must_use]
    pub fn max_len(mut self, entries: usize) -> Self {
        self.max_len = entries.max(1);
        self
    }

    /// Sets the maximum number of entries per read: `readCount` of Node's adapter. If entries are
    /// large, fewer are read at once. Default 100, at least 1.
    #[must_use]
    pub fn read_count(mut self, entries: usize) -> Self {
        self.read_count = entries.max(1);
        self
    }

    /// Lets clients recover their session on another server. It requires the
    /// [streams](Self::streams) form and [recovery](crate::Builder::recovery).
    ///
    /// Every event then passes through Redis before it reaches a client, even a client of the same
    /// server, as with Node's adapter. Redis gives the event an offset that all servers know.
    #[must_use]
    pub fn recovery(mut self) -> Self {
        self.recovers = true;
        self
    }

    /// Sets the key prefix of stored client states: `sessionKeyPrefix` of Node's adapter. Default
    /// `sio:session:`.
    #[must_use]
    pub fn session_key_prefix(mut self, prefix: &str) -> Self {
        prefix.clone_into(&mut self.session_prefix);
        self
    }

    fn journals(&self) -> bool {
        self.recovers && matches!(self.wire, Wire::Streams { .. })
    }

    /// Sets the prefix of the channel names: `key` of Node's classic adapter, and `channelPrefix`
    /// of its sharded and streams adapters. In the streams form, it is also the name of the stream.
    /// Default `socket.io`.
    #[must_use]
    pub fn key(mut self, key: &str) -> Self {
        key.clone_into(&mut self.key);
        self
    }

    /// Sets the time limit for requests to other servers that have no time limit of their own:
    /// `requestsTimeout` of Node's adapter. Default 5 s.
    #[must_use]
    pub fn request_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Uses a channel per server for answers to Node servers: `publishOnSpecificResponseChannel` of
    /// Node's classic adapter. Answers to servers of this library always do.
    #[must_use]
    pub fn publish_on_specific_response_channel(mut self) -> Self {
        self.specific = true;
        self
    }

    /// Sets the limits of the send queue: messages, default 65,536, and their bytes, default 64
    /// MiB.
    #[must_use]
    pub fn queue(mut self, messages: usize, bytes: usize) -> Self {
        self.limits.messages = messages;
        self.limits.bytes = bytes;
        self
    }

    /// Sets the maximum size of a message in bytes. By default, Redis disconnects servers for which
    /// more than 32 MiB are queued; see its option `client-output-buffer-limit`. Default 16 MiB.
    #[must_use]
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.limits.message_bytes = bytes;
        self
    }

    /// Seals outgoing messages, and ignores incoming messages that are not sealed with one of these
    /// secrets. Default: the wire format of Node's adapters, which every client of the broker can
    /// read and write.
    ///
    /// All servers and emitters of the cluster need the same list. Values and locks are not sealed;
    /// only the permissions of the broker protect them. See `docs/cluster.md`.
    #[must_use]
    pub fn sealed(mut self, secrets: Secrets) -> Self {
        self.sealing.secrets = Some(secrets);
        self
    }

    /// Accepts unsealed messages too, and sends each message in both forms. This serves one rolling
    /// upgrade of a cluster whose servers do not seal yet. The unsealed messages of a server that
    /// seals are ignored.
    ///
    /// It has no effect unless [`sealed`](Self::sealed) is set. With it, nothing is protected.
    #[must_use]
    pub fn accept_plain(mut self) -> Self {
        self.sealing.accepts_plain = true;
        self
    }

    /// Returns the URL, which can be replaced while the adapter is in use.
    #[must_use]
    pub fn live_url(&self) -> LiveUrl {
        LiveUrl(self.place.clone())
    }

    fn stream(&self) -> Stream {
        Stream {
            name: self.stream.clone().unwrap_or_else(|| self.key.clone()),
            max_len: self.max_len,
            read_count: self.read_count,
        }
    }
}

/// The URL of an adapter, which can be replaced while the adapter is in use, for example because
/// its password has changed. Clones share it.
///
/// ```
/// use roomcast::adapter::redis::{self, Redis};
///
/// let adapter = Redis::new("redis://:old@localhost")?;
/// let url = adapter.live_url();
/// // The adapter is in use now, and the password of the broker is replaced.
/// url.replace(&Redis::new("redis://:new@localhost")?);
/// # Ok::<(), redis::InvalidUrl>(())
/// ```
#[derive(Clone, Debug)]
pub struct LiveUrl(SharedAddress<RedisAddress>);

impl LiveUrl {
    /// Replaces the URL by that of another adapter, which needs no server. New connections use the
    /// new URL. Connections that exist stay until they break.
    ///
    /// Both URLs must name the same broker. Otherwise servers that are connected to different
    /// brokers do not reach each other.
    pub fn replace(&self, other: &Redis) {
        self.0.replace(&other.place);
    }
}

impl BrokerAdapter for Redis {
    type State = RedisState;

    fn cell(&self) -> &StateCell<RedisState> {
        &self.shared
    }

    fn attach(&self, inbox: Inbox) -> Arc<RedisState> {
        let shared = Arc::new_cyclic(|shared: &Weak<RedisState>| {
            let channel_kind = self.wire.channel_kind();
            let own = own_channel(&self.key, inbox.node());
            let journals = self.journals() && inbox.recovers();
            let listener: Weak<dyn Listener> = shared.clone();
            let link =
                BrokerLink::new(self.place.clone(), channel_kind, own, self.limits, listener);
            let sealers = Sealers::new(&self.sealing, &self.key).map(Arc::new);
            let own = OwnMessages::new(inbox.node().as_str(), sealers.clone());
            let link = link.ignore_own(own).sealing(sealers.is_some());
            let scope = self.wire.request_scope();
            let heartbeats = scope.channel(&self.key, &Nsp::from(NAMESPACE));
            let link = link.heartbeats_on(heartbeats.clone());
            let link = match self.wire {
                Wire::Streams { .. } => link.reading(self.stream()),
                // Every server of this library subscribes to the channel of the heartbeat
                // namespace, so its subscribers are counted.
                Wire::Classic | Wire::Sharded(_) => link.await_subscribers(heartbeats),
            };
            RedisState {
                link: Arc::new(link),
                inbox,
                key: self.key.clone(),
                wire: self.wire,
                stream: Arc::new(self.stream()),
                specific: self.specific,
                foreign_requests: Default::default(),
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
            // After the first connection, the stream is read from the last position of this server.
            if !did_begin.swap(true, Ordering::Relaxed) || !has_stream {
                inbox.report_gap();
            }
        });
        shared
    }

    fn timeout(&self) -> Duration {
        self.timeout
    }

    fn value_store(&self) -> Option<Box<dyn ValueStore>> {
        Some(Box::new(RedisValues::new(self.place.clone(), &self.key)))
    }

    fn session_journal(&self) -> Option<Arc<dyn Journal>> {
        self.journals().then(|| -> Arc<dyn Journal> {
            let prefix = self.session_prefix.clone();
            let shared = self.shared.shared();
            Arc::new(RedisJournal::new(shared, prefix, &self.sealing, &self.key))
        })
    }

    fn has_room_channels(&self) -> bool {
        use Subscriptions::{Rooms, RoomsAndSockets};
        matches!(self.wire, Wire::Sharded(Rooms | RoomsAndSockets))
    }

    fn has_socket_channels(&self) -> bool {
        self.wire == Wire::Sharded(Subscriptions::RoomsAndSockets)
    }
}

impl BrokerState for RedisState {
    type Link = BrokerLink;

    fn link(&self) -> &Arc<BrokerLink> {
        &self.link
    }

    fn publish(&self, envelope: Envelope) -> Result<(), AdapterError> {
        publish_to_nodes(self, envelope)
    }

    fn reply(&self, to: &NodeId, envelope: Envelope) -> Result<(), AdapterError> {
        reply_to_node(self, to, envelope)
    }

    async fn servers(self: Arc<Self>, nsp: Nsp) -> Result<Servers, AdapterError> {
        let channel = self.wire.request_scope().channel(&self.key, &nsp);
        let subscribed = self.link.count_peers(channel).await?;
        // Servers with version 0.2 of the streams adapter subscribe to no channel, and are only
        // known by their heartbeats.
        Ok(Servers::Count(subscribed + self.heartbeats.count(&nsp)))
    }

    async fn followed(self: Arc<Self>) {
        self.link.subscriptions.followed().await;
    }

    fn leave(&self) {
        for nsp in self.heartbeats.namespaces() {
            self.send_leave(&nsp);
        }
    }

    /// Returns `true` once a stream is read, because reading resumes at the last position.
    fn replays_missed(&self) -> bool {
        self.link.position().is_some()
    }

    fn namespace_opened(&self, nsp: Nsp) {
        self.open_namespace(nsp);
    }

    fn namespace_closed(&self, nsp: Nsp) {
        self.close_namespace(&nsp);
    }

    fn room_opened(&self, namespace: &str, room: &Room) {
        self.open_room(namespace, room);
    }

    fn room_closed(&self, namespace: &str, room: &Room) {
        self.close_room(namespace, room);
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL is omitted because it may contain a password.
        f.debug_struct("Redis")
            .field("key", &self.key)
            .field("wire", &self.wire)
            .finish_non_exhaustive()
    }
}

/// For fuzz targets: decodes messages of all wire formats, and encodes the result again.
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub fn fuzz(data: &[u8]) {
    shared::fuzz(data);
}
