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
use super::{
    common::{Broker as _, BrokerAdapter, BrokerState, Options, option_methods},
    envelope::{Envelope, NodeId},
    interface::{AdapterError, Inbox, Servers, journal::Journal, subscriber::Subscriptions},
    node_js::{publish_to_nodes, reply_to_node},
    operation::NAMESPACE,
    seal::Protection,
    values::ValueStore,
};

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
    options: Options<RedisState>,
    wire: Wire,
    /// The name of the stream, unless it equals the key.
    stream: Option<String>,
    max_len: usize,
    read_count: usize,
    recovers: bool,
    session_prefix: String,
    specific: bool,
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
            // The size is half of what Redis queues for a server before it disconnects the server.
            options: Options::new(place, 16 << 20),
            wire,
            stream: None,
            max_len: 10_000,
            read_count: 100,
            recovers: false,
            session_prefix: "sio:session:".to_owned(),
            specific: false,
        })
    }

    /// Selects the sharded form: `createShardedAdapter` in Node. It requires Redis 7. In a cluster,
    /// each message goes to one node instead of all nodes. Node calls the subscriptions `dynamic`,
    /// `static` and `dynamic-private`, in the order of [`Subscriptions`].
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

    /// Uses a channel per server for answers to Node servers: `publishOnSpecificResponseChannel` of
    /// Node's classic adapter. Answers to servers of this library always do.
    #[must_use]
    pub fn publish_on_specific_response_channel(mut self) -> Self {
        self.specific = true;
        self
    }

    fn stream(&self) -> Stream {
        Stream {
            name: self
                .stream
                .clone()
                .unwrap_or_else(|| self.options.key.clone()),
            max_len: self.max_len,
            read_count: self.read_count,
        }
    }
}

option_methods! {
    Redis {
        /// It is the prefix of the channel names: `key` of Node's classic adapter, and
        /// `channelPrefix` of its sharded and streams adapters. In the streams form, it is also the
        /// name of the stream.
        key;
        /// It is `requestsTimeout` of Node's adapter.
        request_timeout;
        queue;
        /// By default, Redis disconnects servers for which more than 32 MiB are queued; see its
        /// option `client-output-buffer-limit`. Default 16 MiB.
        max_message;
        /// Default: the wire format of Node's adapters, which every client of the broker can read
        /// and write. Values and locks are never sealed; only the permissions of the broker protect
        /// them.
        sealed;
    }
}

impl BrokerAdapter for Redis {
    type State = RedisState;

    fn options(&self) -> &Options<RedisState> {
        &self.options
    }

    fn attach(&self, inbox: Inbox) -> Arc<RedisState> {
        let Options {
            address,
            key,
            limits,
            sealing: seal_options,
            ..
        } = &self.options;
        let shared = Arc::new_cyclic(|shared: &Weak<RedisState>| {
            let channel_kind = self.wire.channel_kind();
            let own = own_channel(key, inbox.node());
            let journals = self.journals() && inbox.recovers();
            let listener: Weak<dyn Listener> = shared.clone();
            let link = BrokerLink::new(address.clone(), channel_kind, own, *limits, listener);
            let sealers = Sealers::new(seal_options, key).map(Arc::new);
            let own = OwnMessages::new(inbox.node().as_str(), sealers.clone());
            let link = link.ignore_own(own).sealing(sealers.is_some());
            let scope = self.wire.request_scope();
            let heartbeats = scope.channel(key, &Nsp::from(NAMESPACE));
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
                key: key.clone(),
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
                channels: Protection::new(seal_options, &sealing::channels(key)),
                entries: Protection::new(seal_options, &sealing::entries(key)),
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

    fn value_store(&self) -> Option<Box<dyn ValueStore>> {
        let Options { address, key, .. } = &self.options;
        Some(Box::new(RedisValues::new(address.clone(), key)))
    }

    fn session_journal(&self) -> Option<Arc<dyn Journal>> {
        self.journals().then(|| -> Arc<dyn Journal> {
            let prefix = self.session_prefix.clone();
            let Options {
                key,
                sealing,
                state,
                ..
            } = &self.options;
            Arc::new(RedisJournal::new(state.shared(), prefix, sealing, key))
        })
    }
}

impl BrokerState for RedisState {
    type Address = RedisAddress;
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

    fn leave(&self) {
        for nsp in self.heartbeats.namespaces() {
            self.send_leave(&nsp);
        }
    }

    /// Returns `true` once a stream is read, because reading resumes at the last position.
    fn replays_missed(&self) -> bool {
        self.link.position().is_some()
    }
}

impl fmt::Debug for Redis {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL is omitted because it may contain a password.
        f.debug_struct("Redis")
            .field("key", &self.options.key)
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
