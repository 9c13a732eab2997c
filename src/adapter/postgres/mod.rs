//! Clustering through PostgreSQL, with the wire format of Node's adapter.
//!
//! Servers of this library and Node servers with `@socket.io/postgres-adapter` share rooms if they
//! use the same key. Messages of `@socket.io/postgres-emitter` reach the clients of the former. The
//! guarantees are in `docs/cluster/postgres.md`.
//!
//! ```no_run
//! use roomcast::{Io, adapter::postgres::Postgres};
//!
//! let io = Io::builder().adapter(Postgres::new("postgres://app@localhost/app")?).build()?;
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```

mod address;
mod broker;
mod connection;
mod emitter;
mod inbound;
mod listener;
mod members;
mod receiving;
mod sealing;
mod sending;
mod tls;
mod values;
mod wire;

use std::{
    collections::HashSet,
    fmt,
    sync::{Arc, Weak},
    time::Duration,
};

use bytes::Bytes;
use roomcast_protocol::socket::Nsp;
use tokio::time::sleep_until;

#[doc(hidden)]
pub use self::{
    address::{Address, Fault},
    tls::{Connect, MakeTls, Stream},
};
use self::{
    broker::{BrokerLink, Listener, Target},
    connection::Table,
    members::Members,
    sealing::{Lane, Openers},
    sending::Sender,
    values::PostgresValues,
    wire::{channel, envelope, own_channel},
};
#[doc(hidden)]
pub use super::common::chain;
use super::{
    WireError,
    common::{
        Broker as _, BrokerAdapter, BrokerState, GREETING, Options, is_emitter, option_methods,
        unwritten,
    },
    envelope::{Envelope, Message, NodeId, Publication},
    interface::{AdapterError, BoxFuture, Health, Inbox, Servers, subscriber::Subscriber},
    node_js::{
        ForeignRequests, NodeCompatible, ParsedMessage, Pulse, RequestOrigin, Response,
        publish_to_nodes, read_message, reply_to_node, write_message, write_pulse, write_response,
    },
    operation::NAMESPACE,
    seal::Opened,
    values::ValueStore,
};

/// The adapter for PostgreSQL; set with [`Builder::adapter`](crate::Builder::adapter).
///
/// The adapter connects in the background, and reconnects whenever the connection breaks. Without a
/// connection, events reach the clients of this server only. The events of the last five seconds
/// are queued. They are sent after the adapter has reconnected and the other servers listen again,
/// or three and a half seconds after it has reconnected.
///
/// Messages that were in flight when a connection broke, or that waited for longer, are lost and
/// counted.
///
/// The adapter has three connections: one to notify, one to notify in [separate
/// namespaces](Self::apart), and one to listen. `LISTEN` requires a direct connection to the
/// server, or a pooler in session mode. The role must be able to read, write and delete rows of the
/// [table](Self::table), and to create the table unless it exists.
///
/// [Values and locks](crate::Io::values) are in two tables and a sequence: `roomcast_values`,
/// `roomcast_locks` and `roomcast_numbers`. They are created on first use. Operations on them use
/// up to four additional connections.
pub struct Postgres {
    options: Options<PostgresState>,
    table: Table,
    age: Duration,
    apart: HashSet<Nsp>,
    heartbeat: (Duration, Duration),
}

/// The reason why a URL is not valid for PostgreSQL. Its text does not repeat the URL, which may
/// contain a password.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InvalidUrl(String);

impl fmt::Display for InvalidUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "not a PostgreSQL URL: {}", self.0)
    }
}

impl std::error::Error for InvalidUrl {}

impl Postgres {
    /// Creates an adapter for `postgres://user:password@host:port/database`, with the `libpq`
    /// options that `tokio-postgres` supports.
    ///
    /// TLS is used unless the server is on this machine or the URL contains `sslmode=disable`.
    /// Certificates are always verified against the certificates of the system, or of the file
    /// `sslrootcert`.
    ///
    /// # Errors
    ///
    /// If the URL is invalid, or if the file of certificates cannot be read.
    pub fn new(url: &str) -> Result<Self, InvalidUrl> {
        let address = Address::parse(url).map_err(|fault| InvalidUrl(fault.to_string()))?;
        Ok(Self {
            options: Options::new(address, 16 << 20),
            table: Table::new("socket_io_attachments"),
            age: Duration::from_secs(30),
            apart: HashSet::from([Nsp::from(NAMESPACE)]),
            heartbeat: (Duration::from_secs(5), Duration::from_secs(10)),
        })
    }

    /// Sets the table for messages that are binary or longer than 7,999 bytes: `tableName` of
    /// Node's adapter. The name may contain a schema, separated by a point. The table is created if
    /// it does not exist. Default `socket_io_attachments`.
    #[must_use]
    pub fn table(mut self, name: &str) -> Self {
        self.table = Table::new(name);
        self
    }

    /// Sets how long rows of that table are stored: `cleanupInterval` of Node's adapter. Default 30
    /// s, at least 1 s.
    #[must_use]
    pub fn keep_attachments(mut self, age: Duration) -> Self {
        self.age = age.max(Duration::from_secs(1));
        self
    }

    /// Sets how long a server may be silent before it sends a heartbeat, and after which silence it
    /// expires: `heartbeatInterval` and `heartbeatTimeout` of Node's adapter. Default 5 s and 10 s.
    /// Both are checked every second.
    #[must_use]
    pub fn heartbeat(mut self, interval: Duration, timeout: Duration) -> Self {
        self.heartbeat = (interval, timeout);
        self
    }

    /// Adds namespaces whose messages use a separate queue and connection. They do not wait for
    /// large or frequent events of other namespaces. Each call adds namespaces. The messages of one
    /// server in a namespace stay in order; between namespaces there is no order. Default: only the
    /// namespace of heartbeats.
    #[must_use]
    pub fn apart<'a>(mut self, namespaces: impl IntoIterator<Item = &'a str>) -> Self {
        self.apart.extend(namespaces.into_iter().map(Nsp::from));
        self
    }

    fn link(&self, own: Option<(String, Arc<str>)>, listener: Weak<dyn Listener>) -> BrokerLink {
        let Options {
            address,
            key,
            limits,
            sealing,
            ..
        } = &self.options;
        BrokerLink::new(
            address.clone(),
            self.table.clone(),
            self.age,
            self.apart.clone(),
            own,
            *limits,
            Arc::new(Openers::new(sealing, key)),
            listener,
        )
    }
}

option_methods! {
    Postgres {
        /// It is the prefix of the channel names: `channelPrefix` of Node's adapter.
        key;
        /// It is the same in Node's adapter.
        request_timeout;
        /// The same limits apply to the receive queue. They apply to each of the two pairs of
        /// queues; see [`apart`](Self::apart).
        queue;
        /// Default 16 MiB.
        max_message;
        /// Default: the wire format of Node's adapters, which every client of the broker can read
        /// and write. Values and locks are never sealed; only the permissions of the broker protect
        /// them.
        sealed;
    }
}

/// The state of an adapter that was attached to a server.
pub(super) struct PostgresState {
    link: Arc<BrokerLink>,
    inbox: Inbox,
    key: String,
    members: Members,
    sender: Sender,
    foreign_requests: ForeignRequests,
}

impl BrokerAdapter for Postgres {
    type State = PostgresState;

    fn options(&self) -> &Options<PostgresState> {
        &self.options
    }

    fn attach(&self, inbox: Inbox) -> Arc<PostgresState> {
        let Options { key, sealing, .. } = &self.options;
        let state = Arc::new_cyclic(|state: &Weak<PostgresState>| {
            let own = own_channel(key, inbox.node());
            let own = (inbox.node().to_string(), own);
            let (interval, peer_timeout) = self.heartbeat;
            PostgresState {
                link: Arc::new(self.link(Some(own), state.clone())),
                inbox: inbox.clone(),
                key: key.clone(),
                members: Members::new(interval, peer_timeout),
                sender: Sender::new(inbox.node().as_str(), key, sealing),
                foreign_requests: ForeignRequests::default(),
            }
        });
        let link = state.link.outbound();
        link.when_reached(move || inbox.report_gap());
        state
    }

    fn value_store(&self) -> Option<Box<dyn ValueStore>> {
        let Options { address, key, .. } = &self.options;
        let (address, table) = (address.clone(), self.table.clone());
        Some(Box::new(PostgresValues::new(address, table, key)))
    }
}

impl BrokerState for PostgresState {
    type Address = Address;
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
        if self.link.health() != Health::Ready {
            return Err(AdapterError::Timeout);
        }
        // A server greets its peers in a namespace once it listens there. If the namespace is not
        // open, there is nothing to wait for.
        if self.members.is_open(&nsp) {
            self.link.subscriptions.followed().await;
        }
        // Existing servers must answer the greeting first. Otherwise the list would not contain
        // them.
        if let Some(since) = self.members.since(&nsp).await {
            sleep_until(since + GREETING).await;
        }
        Ok(Servers::Known(self.members.nodes(&nsp)))
    }

    fn leave(&self) {
        // Without a connection, the leave messages would stay in the queue, and closing would wait
        // for them.
        if self.link.health() == Health::Ready {
            for nsp in self.members.namespaces() {
                self.send_pulse(&nsp, Pulse::Bye);
            }
        }
    }

    fn has_no_peers(&self) -> bool {
        self.members.alone.is_certain()
    }
}

impl Subscriber for PostgresState {
    fn namespace_opened(&self, namespace: &str) {
        let nsp = Nsp::from(namespace);
        self.members.open(&nsp);
        let channel = channel(&self.key, &nsp);
        let target = Some(Target::Namespace(nsp));
        self.link.subscriptions.listen(channel, target);
    }

    fn namespace_closed(&self, namespace: &str) {
        let nsp = Nsp::from(namespace);
        self.send_pulse(&nsp, Pulse::Bye);
        for node in self.members.close(&nsp) {
            self.inbox.left(&node);
        }
        self.link
            .subscriptions
            .listen(channel(&self.key, &nsp), None);
    }

    fn followed(self: Arc<Self>) -> BoxFuture<()> {
        Box::pin(async move {
            self.link.subscriptions.followed().await;
            self.members.alone.until_known().await;
        })
    }
}

impl NodeCompatible for PostgresState {
    fn foreign_requests(&self) -> &ForeignRequests {
        &self.foreign_requests
    }

    fn publish(&self, publication: &Publication) -> Result<(), AdapterError> {
        let written = write_message(&self.sender.name, publication).map_err(unwritten)?;
        self.write(&publication.namespace, written, false)
    }

    fn respond(&self, origin: &RequestOrigin, response: &Response) -> Result<(), AdapterError> {
        let RequestOrigin { namespace, request } = origin;
        let written = write_response(self.inbox.node(), namespace, request, response);
        self.write(namespace, written.map_err(unwritten)?, false)
    }

    fn reply(&self, to: &NodeId, bytes: Bytes) -> Result<(), AdapterError> {
        let channel = own_channel(&self.key, to);
        if let Some(sealers) = &self.sender.sealers {
            let body = sealers.body(Lane::Together, &channel, &bytes);
            self.link.publish(None, Arc::clone(&channel), body, false)?;
            if self.link.openers.notifications.seals(to) {
                return Ok(());
            }
            // Until the server is known to seal, it receives both forms and ignores one.
        }
        let body = envelope(bytes);
        self.link.publish(None, channel, body, false)
    }
}

impl PostgresState {
    fn write(&self, nsp: &Nsp, written: Bytes, is_pulse: bool) -> Result<(), AdapterError> {
        self.sender.send(&self.link, nsp, written, is_pulse)?;
        self.members.record_sent(nsp);
        Ok(())
    }

    /// Releases held messages once all peers are connected again.
    fn release_if_back(&self) {
        let outbound = self.link.outbound();
        if outbound.is_held() && self.members.are_back() {
            outbound.release();
        }
    }

    /// Sends a heartbeat, greeting or leave message. If it is lost, peers treat this server as
    /// silent.
    fn send_pulse(&self, nsp: &Nsp, pulse: Pulse) {
        let _ = self.write(nsp, write_pulse(&self.sender.name, nsp, pulse), true);
    }

    fn process(&self, nsp: &Nsp, payload: Bytes, was_sealed: bool) -> Result<(), WireError> {
        let own = self.inbox.node();
        let parsed = read_message(own, nsp, payload)?;
        let protection = &self.link.openers.notifications;
        if let ParsedMessage::Publication(node, ..)
        | ParsedMessage::Answer(_, Some(node), _)
        | ParsedMessage::Pulse(node, _) = &parsed
            && !protection.admits(node, was_sealed)
        {
            return Ok(());
        }
        let envelope = |node, message| Envelope {
            was_sealed,
            ..Envelope::new(node, None, message)
        };
        match parsed {
            // Only the classic wire format of Redis contains requests for rooms.
            ParsedMessage::Nothing | ParsedMessage::Rooms(_) => {}
            ParsedMessage::Publication(node, mut publication, request) => {
                // Emitters share one name and never listen, so they are not greeted.
                if !is_emitter(&node) {
                    self.members.alone.peer_message_received();
                    if self.members.published(nsp, &node) {
                        self.link.request_pulses();
                    }
                }
                if let Some(request) = request {
                    publication.request = Some(self.foreign_requests.open(request, &publication));
                }
                let message = Message::Publication(*publication);
                self.inbox.deliver(envelope(node, message));
            }
            ParsedMessage::Answer(number, node, reply) => {
                let node = node.ok_or(WireError::Malformed("answer"))?;
                self.members.alone.peer_message_received();
                self.members.record_message(nsp, &node);
                self.inbox.deliver(envelope(node, reply.reply(own, number)));
            }
            ParsedMessage::Pulse(node, pulse) => self.handle_pulse(nsp, &node, pulse),
        }
        Ok(())
    }

    fn deliver(&self, message: Bytes, was_sealed: bool) {
        let opened = Opened {
            message,
            was_sealed,
        };
        let protection = &self.link.openers.notifications;
        protection.deliver(&self.inbox, opened);
    }

    fn handle_pulse(&self, nsp: &Nsp, node: &NodeId, pulse: Pulse) {
        self.members.alone.peer_message_received();
        match pulse {
            Pulse::Hello => {
                self.members.greeted(nsp, node);
                self.link.request_pulses();
            }
            Pulse::Alive => self.members.record_message(nsp, node),
            Pulse::Bye => {
                for node in self.members.bye(nsp, node) {
                    self.inbox.left(&node);
                }
            }
        }
        self.release_if_back();
    }
}

impl fmt::Debug for Postgres {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The URL is omitted because it may contain a password.
        f.debug_struct("Postgres")
            .field("database", &self.options.address.now().name())
            .field("key", &self.options.key)
            .finish_non_exhaustive()
    }
}

/// For fuzz targets: opens a notification that is not sealed, which must fail.
#[cfg(feature = "fuzzing")]
pub(super) fn fuzz(secrets: &super::Secrets, text: &str) {
    let options = super::seal::SealOptions {
        secrets: Some(secrets.clone()),
        accepts_plain: false,
    };
    assert!(Openers::new(&options, "key").open("/", text).is_err());
}
