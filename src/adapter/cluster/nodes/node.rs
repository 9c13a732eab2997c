use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::adapter::envelope::NodeId;

/// A server of a cluster, as it announces itself; see [`Io::nodes`](crate::Io::nodes).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Node {
    /// The id: [`NodeOptions::id`], or the random name.
    pub id: Arc<str>,
    /// The name in envelopes and [`Unanswered`](crate::adapter::Unanswered). It is unique, even if
    /// a server restarts with the same id. It ends with the configured id.
    pub name: NodeId,
    /// The version of the program.
    pub version: Arc<str>,
    /// The address for other servers, if the server announces one.
    pub address: Option<Arc<str>>,
    /// When the server was built, by its own clock.
    pub started: SystemTime,
    /// The load of the server.
    pub load: Load,
    /// The time since its last heartbeat.
    pub heartbeat_age: Duration,
    /// Whether this is the server that returned the list.
    pub is_this: bool,
}

/// The load of a server.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Load {
    /// TCP connections that the listeners of the server have accepted.
    pub connections: u64,
    /// Clients: open Engine.IO sessions.
    pub sessions: u64,
    /// Sockets: clients in namespaces.
    pub sockets: u64,
    /// Rooms with members.
    pub rooms: u64,
    /// Bytes that are queued for clients.
    pub queued_bytes: u64,
    /// The delay of the last heartbeat, which is the scheduling delay of a task in the runtime.
    pub lag: Duration,
    /// How busy the worker threads of the runtime were, from 0 to 1, between the last two
    /// heartbeats.
    pub busy: f64,
    /// Messages to other servers that are queued in the adapter.
    pub adapter_queued: u64,
    /// The size of these messages in bytes.
    pub adapter_queued_bytes: u64,
    /// The round-trip time of messages to itself through the broker, or zero if unknown.
    pub adapter_lag: Duration,
    /// Envelopes to or from other servers that are known to be lost since the start.
    pub lost: u64,
    /// How often the server was isolated from its peers since the start, so that it may have missed
    /// messages.
    pub gaps: u64,
    /// The total duration of these gaps.
    pub gap_time: Duration,
}

/// What a server announces about itself, and how often; for
/// [`Builder::node`](crate::Builder::node).
#[derive(Clone, Debug)]
#[must_use]
pub struct NodeOptions {
    pub(super) id: Option<Arc<str>>,
    pub(super) version: Arc<str>,
    pub(super) address: Option<Arc<str>>,
    pub(super) heartbeat: Duration,
    pub(super) lease: Duration,
    pub(super) max_forwarded: Option<usize>,
    pub(super) max_tunnels: Option<usize>,
}

impl Default for NodeOptions {
    fn default() -> Self {
        Self {
            id: None,
            version: env!("CARGO_PKG_VERSION").into(),
            address: None,
            heartbeat: Duration::from_secs(1),
            lease: Duration::from_secs(10),
            max_forwarded: None,
            max_tunnels: None,
        }
    }
}

impl NodeOptions {
    /// The maximum length of an id in bytes.
    pub const MAX_ID: usize = 40;
    /// The maximum length of a version in bytes.
    pub const MAX_VERSION: usize = 64;
    /// The maximum length of an address in bytes.
    pub const MAX_ADDRESS: usize = 256;

    /// Sets the id of the server: 1 to 40 characters of `[A-Za-z0-9._-]`. It must be unique in the
    /// cluster. Default: random.
    pub fn id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// Sets the announced version. Default: the version of this library.
    pub fn version(mut self, version: impl Into<Arc<str>>) -> Self {
        self.version = version.into();
        self
    }

    /// Sets the address at which other servers reach this server. Default: none.
    ///
    /// With `http://HOST:PORT`, an adapter and the `forwarding` feature, clients that poll may send
    /// requests to any server. The ids of sessions end with eight characters that identify their
    /// server. Other servers forward requests for these sessions to it, at most once.
    ///
    /// The receiving server authenticates forwarded requests by a signature: HMAC with SHA-256, and
    /// a key that only servers of the cluster receive. Before the first request on a connection, it
    /// proves that it has the same key. See `docs/scaling.md`.
    pub fn address(mut self, address: impl Into<Arc<str>>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// Sets the heartbeat interval, at least 10 ms. Default 1 s.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every;
        self
    }

    /// Sets how long after its last heartbeat a peer expires; at least two heartbeat intervals. No
    /// peer expires while the adapter of this server is [`Down`](crate::adapter::Health::Down), nor
    /// for one lease after that. All servers should use the same value. Default 10 s.
    ///
    /// With PostgreSQL, a peer also expires after the timeout of `Postgres::heartbeat`. A longer
    /// lease has an effect only if that timeout is as long.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Sets how many requests for sessions of other servers this server may have in flight. Each
    /// client that polls through this server needs nearly one.
    ///
    /// Further requests wait for a slot, and in the meantime polls are answered sooner. A request
    /// that has waited for the ping timeout is answered with 503. Zero disables forwarding, and
    /// session ids are the same as without an address.
    ///
    /// Default: the limit of [connections](crate::options::AddressLimits::connections), which
    /// clients with HTTP/1.1 cannot exceed.
    pub fn max_forwarded(mut self, requests: usize) -> Self {
        self.max_forwarded = Some(requests);
        self
    }

    /// Sets how many WebSockets of other servers' sessions may pass through this server. Further
    /// WebSockets are refused with 503, and their clients continue to poll. Default: the limit of
    /// [connections](crate::options::AddressLimits::connections).
    pub fn max_tunnels(mut self, websockets: usize) -> Self {
        self.max_tunnels = Some(websockets);
        self
    }

    /// Returns the configured address.
    #[cfg(feature = "forwarding")]
    pub(crate) fn configured_address(&self) -> Option<Arc<str>> {
        self.address.clone()
    }

    /// Returns how many requests and WebSockets for sessions of other servers this server accepts,
    /// given its limit of connections. Returns `None` if forwarding is disabled.
    #[cfg(feature = "forwarding")]
    pub(crate) fn forwards(&self, connections: usize) -> Option<(usize, usize)> {
        let address = self.address.as_deref()?;
        let requests = self.max_forwarded.unwrap_or(connections);
        let is_reached = address.starts_with("http://") && requests > 0;
        is_reached.then_some((requests, self.max_tunnels.unwrap_or(connections)))
    }

    pub(crate) fn check(&self) -> Result<(), &'static str> {
        if self.id.as_deref().is_some_and(|id| !is_id(id)) {
            return Err("node.id is not 1 to 40 characters of [A-Za-z0-9._-]");
        }
        if !is_shown(&self.version, Self::MAX_VERSION) {
            return Err("node.version is not 1 to 64 visible ASCII characters");
        }
        let address = self.address.as_deref();
        if address.is_some_and(|address| !is_shown(address, Self::MAX_ADDRESS)) {
            return Err("node.address is not 1 to 256 visible ASCII characters");
        }
        if self.heartbeat < Duration::from_millis(10) {
            return Err("node.heartbeat is shorter than 10 ms");
        }
        // A server must not expire after a single lost heartbeat.
        if self.lease < self.heartbeat * 2 {
            return Err("node.lease is shorter than two heartbeats");
        }
        Ok(())
    }

    /// Returns the name of a server with these options. The random part comes first, because other
    /// names are derived from it.
    pub(crate) fn name(&self, random: &str) -> Option<NodeId> {
        match &self.id {
            Some(id) => NodeId::new(&format!("{random}~{id}")),
            None => NodeId::new(random),
        }
    }
}

/// Returns whether a text is a valid server id.
pub(super) fn is_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NodeOptions::MAX_ID).contains(&id.len()) && id.bytes().all(is_plain)
}

/// Returns whether a text is short and consists of visible ASCII characters.
pub(super) fn is_shown(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Another server has the configured id of this server, and has run for longer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeIdConflict {
    /// The id of both servers.
    pub id: Arc<str>,
    /// The address of the other server, if it announces one.
    pub address: Option<Arc<str>>,
}

impl fmt::Display for NodeIdConflict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "node id `{}` is in use by ", self.id)?;
        match &self.address {
            Some(address) => f.write_str(address)?,
            None => f.write_str("another server")?,
        }
        f.write_str(": give each server its own node.id")
    }
}

impl std::error::Error for NodeIdConflict {}
