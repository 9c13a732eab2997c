use std::{
    fmt,
    sync::Arc,
    time::{Duration, SystemTime},
};

use crate::adapter::envelope::NodeId;

/// A server of a cluster, as it has told of itself; see [`Io::nodes`](crate::Io::nodes).
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Node {
    /// What it is called: [`NodeOptions::id`], or its random name.
    pub id: Arc<str>,
    /// What envelopes and [`Missing`](super::super::Missing) call it: a name that no other server ever
    /// has, also if one is started again with the same id. It ends with the id that was given.
    pub name: NodeId,
    /// The version of what runs there.
    pub version: Arc<str>,
    /// Where others reach it, if it says so.
    pub address: Option<Arc<str>>,
    /// When it was built, by its own clock.
    pub started: SystemTime,
    /// How much it has to do.
    pub load: Load,
    /// How long ago that was heard.
    pub heard: Duration,
    /// Whether this is the server that was asked.
    pub is_this: bool,
}

/// How much a server has to do.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Load {
    /// TCP connections that its own listeners have accepted.
    pub connections: u64,
    /// Clients: open Engine.IO sessions.
    pub sessions: u64,
    /// Sockets: clients in namespaces.
    pub sockets: u64,
    /// Rooms with members.
    pub rooms: u64,
    /// Bytes that wait for clients.
    pub queued_bytes: u64,
    /// How late its last heartbeat was: how long a task that is due waits for its turn.
    pub lag: Duration,
    /// The part of the time in which the worker threads of its runtime were busy, from 0 to 1, between
    /// its last two heartbeats.
    pub busy: f64,
    /// Messages that wait in its adapter to be sent to other servers.
    pub adapter_queued: u64,
    /// Bytes of these messages.
    pub adapter_queued_bytes: u64,
    /// How long messages to itself take through the broker; zero while nothing is known.
    pub adapter_lag: Duration,
    /// Envelopes for other servers or from them that it knows to be lost since it started.
    pub lost: u64,
    /// How often it was cut off from the others since it started, so that what they sent may be missing there.
    pub gaps: u64,
    /// For how long it was cut off, all these times together.
    pub cut_off: Duration,
}

/// What a server tells the others of itself, and how often; for [`Builder::node`](crate::Builder::node).
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
    /// The most bytes of an id.
    pub const MAX_ID: usize = 40;
    /// The most bytes of a version.
    pub const MAX_VERSION: usize = 64;
    /// The most bytes of an address.
    pub const MAX_ADDRESS: usize = 256;

    /// What the server is called: 1 to 40 characters of `[A-Za-z0-9._-]`, which no other server of the
    /// cluster may have. Default: a random one.
    pub fn id(mut self, id: impl Into<Arc<str>>) -> Self {
        self.id = Some(id.into());
        self
    }

    /// The version that it tells. Default: that of this library.
    pub fn version(mut self, version: impl Into<Arc<str>>) -> Self {
        self.version = version.into();
        self
    }

    /// Where the other servers reach this one. Default: nowhere.
    ///
    /// With `http://HOST:PORT`, an adapter and the feature `forwarding`, clients that poll may come to any
    /// server: the ids of sessions end with eight characters that say which server has them, and requests
    /// that come to another one are handed on there, once and no further. It knows by a signature (HMAC with
    /// SHA-256, with a key that only servers of the cluster are told) that they come from one. Before it gets
    /// any, it proves on each connection that it has that key. See `docs/scaling.md`.
    pub fn address(mut self, address: impl Into<Arc<str>>) -> Self {
        self.address = Some(address.into());
        self
    }

    /// How often it tells that it is there, from 10 ms on. Default 1 s.
    pub fn heartbeat(mut self, every: Duration) -> Self {
        self.heartbeat = every;
        self
    }

    /// For how long others may be silent until they count as gone; at least two heartbeats. Silence while this server
    /// itself hears nobody does not count, as long as its adapter is [`Down`](crate::adapter::Health::Down) and for one
    /// lease behind that. All servers should agree. Default 10 s.
    pub fn lease(mut self, lease: Duration) -> Self {
        self.lease = lease;
        self
    }

    /// Requests of other servers' sessions that this server may have under way at the same time: nearly one for each client
    /// that polls through it. Further ones wait for their turn, and polls are answered sooner meanwhile; who has waited for
    /// the ping timeout is answered 503. Zero: none, and the ids of sessions are as without an address. Default: as many as
    /// [connections](crate::options::AddressLimits::connections), which no client gets beyond that uses HTTP/1.1.
    pub fn max_forwarded(mut self, requests: usize) -> Self {
        self.max_forwarded = Some(requests);
        self
    }

    /// WebSockets of other servers' sessions that may go through this server at the same time. Further ones are refused with
    /// 503, and their clients go on polling. Default: as many as [connections](crate::options::AddressLimits::connections).
    pub fn max_tunnels(mut self, websockets: usize) -> Self {
        self.max_tunnels = Some(websockets);
        self
    }

    /// The address that the server announces.
    #[cfg(feature = "forwarding")]
    pub(crate) fn given_address(&self) -> Option<Arc<str>> {
        self.address.clone()
    }

    /// How many requests and how many WebSockets of other servers' sessions a server takes that has so many connections, if
    /// it takes any.
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
        // One heartbeat that is lost must not be the end of a server.
        if self.lease < self.heartbeat * 2 {
            return Err("node.lease is shorter than two heartbeats");
        }
        Ok(())
    }

    /// The name of a server with these options. The random part comes first: of it other names are made.
    pub(crate) fn name(&self, random: &str) -> Option<NodeId> {
        match &self.id {
            Some(id) => NodeId::new(&format!("{random}~{id}")),
            None => NodeId::new(random),
        }
    }
}

/// Whether a text can be the id of a server.
pub(super) fn is_id(id: &str) -> bool {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=NodeOptions::MAX_ID).contains(&id.len()) && id.bytes().all(is_plain)
}

/// Whether a text is short and has visible characters alone, so that nothing is hidden in it.
pub(super) fn is_shown(text: &str, most: usize) -> bool {
    (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

/// Another server has the id that was given to this one, and has run for longer.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct NodeTaken {
    /// The id that both have.
    pub id: Arc<str>,
    /// Where the other one is, if it says so.
    pub address: Option<Arc<str>>,
}

impl fmt::Display for NodeTaken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "another server of the cluster is called `{}`", self.id)?;
        match &self.address {
            Some(address) => write!(f, "; it is at {address}"),
            None => Ok(()),
        }
    }
}

impl std::error::Error for NodeTaken {}
