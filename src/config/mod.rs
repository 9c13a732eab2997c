//! Options, as plain data. A leaf: every module may read it, it reads nothing.
//!
//! [`Config`] holds the options of one [`Io`](crate::Io), with the official server's names and defaults;
//! [`AddressLimits`] says who may connect, and how often. Structs can grow: they are made from their
//! default, by setters of the fields' names.

mod addresses;
mod check;
mod http;
mod options;
mod recovery;

use std::time::Duration;

use roomcast_protocol::{engine::Transport, socket::Parser};
use serde::{Deserialize, Serialize};

use self::options::groups;
pub use self::{
    addresses::AddressLimits,
    http::{Cookie, Cors, HttpCompression, Priority, SameSite},
    recovery::Recovery,
};

/// Options of an [`Io`](crate::Io): Engine.IO and Socket.IO.
///
/// Each has a setter of its name; those that belong together are fields of one group.
/// [`Io::builder`](crate::Io::builder) checks the values at `build`, never at use. In files there are no
/// groups: durations are written with their unit (`"25s"`, `"500ms"`), sizes in bytes, and what the
/// official server names otherwise may be written with its name (`pingInterval`).
///
/// ```
/// use std::time::Duration;
/// use roomcast::{Config, options::Cors};
///
/// let config = Config::default()
///     .ping_interval(Duration::from_secs(10))
///     .cors(Cors::default().origins(["https://app.example"]));
/// assert_eq!(config.session.ping_interval, Duration::from_secs(10));
/// ```
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Flat", into = "Flat")]
#[non_exhaustive]
pub struct Config {
    /// See [`Http`].
    pub http: Http,
    /// See [`Admission`].
    pub admission: Admission,
    /// See [`Session`].
    pub session: Session,
    /// See [`Outbox`].
    pub outbox: Outbox,
    /// See [`Sockets`].
    pub sockets: Sockets,
    /// Whether clients whose connection broke may go on as the same socket, and within which
    /// bounds. Default `None`: as in the official server they may not. Not part of the form in files.
    pub recovery: Option<Recovery>,
}

impl Config {
    /// Sets [`recovery`](field@Self::recovery).
    #[must_use]
    pub fn recovery(mut self, value: impl Into<Option<Recovery>>) -> Self {
        self.recovery = value.into();
        self
    }
}

groups! {
    /// Where and how HTTP requests are served.
    http: Http {
        /// Path of the Socket.IO endpoint. Default `/socket.io/`.
        path: String, as impl Into<String>, by Into::into = "/socket.io/".into();
        /// Whether the path ends with a slash, as clients send it by default. With `false`,
        /// requests are answered with and without the slash. Default `true`.
        #[serde(alias = "addTrailingSlash")]
        add_trailing_slash: bool = true;
        /// What pages of other sites may do. Default `None`: as in the official server no CORS
        /// headers and no look at the origin.
        cors: Option<Cors>, as impl Into<Option<Cors>>, by Into::into = None;
        /// The cookie with the session's id, if there is to be one. Default `None`.
        cookie: Option<Cookie>, as impl Into<Option<Cookie>>, by Into::into = None;
        /// Compression of polling answers with gzip or deflate, if the client takes it and the event's
        /// [`compress`](crate::Broadcast::compress) flag is not off. Default: from 1,024 bytes on.
        #[serde(alias = "httpCompression")]
        http_compression: Option<HttpCompression>, as impl Into<Option<HttpCompression>>, by Into::into = Some(HttpCompression::default());
        /// Whether the builds of the JavaScript client that were given to
        /// [`client_files`](crate::Builder::client_files) are served below the path
        /// (`/socket.io/socket.io.js` and its like). Default `true`.
        #[serde(alias = "serveClient")]
        serve_client: bool = true;
        /// Whether a request for a WebSocket (or anything else to upgrade to) outside of the path is
        /// refused if the router does not answer it in `destroy_upgrade_timeout`. Default `true`.
        #[serde(alias = "destroyUpgrade")]
        destroy_upgrade: bool = true;
        /// See `destroy_upgrade`. Default 1 s.
        #[serde(alias = "destroyUpgradeTimeout", with = "humantime_serde")]
        destroy_upgrade_timeout: Duration = Duration::from_secs(1);
        /// How long request headers may take to arrive; also how long a connection may
        /// stay open without a request. Default 10 s.
        #[serde(with = "humantime_serde")]
        header_timeout: Duration = Duration::from_secs(10);
        /// How long the body of a POST may take to arrive. Default 30 s.
        #[serde(with = "humantime_serde")]
        body_timeout: Duration = Duration::from_secs(30);
        /// How long a client may take to read an answer: that long without reading 16 KiB or all of
        /// it, and the connection is cut. WebSockets have `outbox_bytes` and pings instead. Default
        /// 30 s.
        #[serde(with = "humantime_serde")]
        write_timeout: Duration = Duration::from_secs(30);
    }

    /// How many sessions may be opened, and what happens before one is.
    admission: Admission {
        /// How long [`allow_request`](crate::Builder::allow_request) and
        /// [`generate_id`](crate::Builder::generate_id) may take together for one session; past that it
        /// is refused. Default 10 s.
        #[serde(with = "humantime_serde")]
        allow_request_timeout: Duration = Duration::from_secs(10);
        /// Sessions that may wait for these two at the same time; further ones are refused with 503.
        /// Default 1,024.
        max_pending_requests: usize = 1024;
        /// Sessions that may be opened in a second, twice as many at once. Further requests for one are
        /// answered with 503 and `Retry-After`, spread over 5 s, before anything is made for them. 0 for
        /// no limit. Default 0 (the binary: 2,000).
        handshakes_per_second: u32 = 0;
        /// Connections that may be open without having brought a whole request yet, the time of a TLS
        /// handshake included; each may cost about 12 KiB. Further ones are answered with 503 and closed
        /// unheard, over TLS just closed. Counted on the server's own listeners. Default 4,096.
        max_handshakes: usize = 4096;
    }

    /// A session of Engine.IO: transports, heartbeats, sizes and speed of what comes in.
    session: Session {
        /// Transports a client may open a session with. Default both.
        transports: Vec<Transport>, as impl Into<Vec<Transport>>, by Into::into = vec![Transport::Polling, Transport::WebSocket];
        /// Whether a polling session may go on over WebSocket. Default `true`.
        #[serde(alias = "allowUpgrades")]
        allow_upgrades: bool = true;
        /// How long an upgrade may take before its WebSocket is dropped; the polling
        /// session survives. Default 10 s.
        #[serde(alias = "upgradeTimeout", with = "humantime_serde")]
        upgrade_timeout: Duration = Duration::from_secs(10);
        /// Time between a pong and the next ping. On a WebSocket the ping may be later by a twentieth of the
        /// shorter of this and `ping_timeout`, at most by 100 ms, so that many leave together. Default 25 s.
        #[serde(alias = "pingInterval", with = "humantime_serde")]
        ping_interval: Duration = Duration::from_secs(25);
        /// How long the pong may take. Default 20 s (the binary: 60 s).
        #[serde(alias = "pingTimeout", with = "humantime_serde")]
        ping_timeout: Duration = Duration::from_secs(20);
        /// Largest Engine.IO packet in bytes on WebSocket, and largest body of a POST.
        /// Advertised as `maxPayload`, `maxHttpBufferSize` of the official server.
        /// Default 1,000,000. One connection may hold this much while a message arrives.
        #[serde(alias = "maxHttpBufferSize", alias = "max_http_buffer_size")]
        max_payload: usize = 1_000_000;
        /// WebSocket frames one message may be split into. Default 16,384.
        max_fragments: u32 = 16_384;
        /// How long a message may take from its first to its last byte: a WebSocket message,
        /// and the attachments of a binary packet. Default 30 s.
        #[serde(with = "humantime_serde")]
        message_timeout: Duration = Duration::from_secs(30);
        /// How long a closing session may take to flush what is queued. Default 30 s.
        #[serde(with = "humantime_serde")]
        close_timeout: Duration = Duration::from_secs(30);
        /// Packets a connection may send in a second, twice as many at once; WebSocket pings, pongs and
        /// what is invalid count. Over it reading is delayed. 0 for no limit. Default 0 (the binary:
        /// 1,000).
        packets_per_second: u32 = 0;
        /// Bytes a connection may send in a second, twice as many at once. Over it reading is delayed. 0
        /// for no limit. Default 0 (the binary: 1 MiB).
        bytes_per_second: u32 = 0;
        /// How long a connection may have more to say than these two allow before it is closed. Default
        /// 10 s.
        #[serde(with = "humantime_serde")]
        throttle_timeout: Duration = Duration::from_secs(10);
    }

    /// What may wait for clients that read slower than they are sent to.
    outbox: Outbox {
        /// Bytes that may wait for one client; above, the session is closed. A packet is
        /// always accepted when nothing else waits; each counts 256 bytes more than it has. What the
        /// kernel holds comes on top, see `unsent_bytes`. Default 1 MiB.
        outbox_bytes: usize = 1 << 20;
        /// Bytes that may wait for all slow clients together, a packet that waits for several counted
        /// once. From seven eighths on those for whom most waits are closed, above it all that are sent
        /// to while they are slow. Up to 16 KiB a client is not slow unless the kernel says so. Default
        /// 512 MiB.
        total_outbox_bytes: usize = 512 << 20;
        /// Bytes that the kernel takes for one client before the network does (`TCP_NOTSENT_LOWAT`),
        /// give or take a segment of 64 KiB. More than what a client reads in one round trip gains
        /// nothing; without it a slow client costs up to 4 MiB that nobody counts. Linux and Android only, on
        /// the server's own listeners. Default 128 KiB.
        unsent_bytes: Option<u32>, as impl Into<Option<u32>>, by Into::into = Some(128 << 10);
        /// Bytes of the kernel's send buffer for one client (`SO_SNDBUF`, which Linux doubles), also for
        /// what is on its way. It sets a limit to how fast distant clients can be served; without it
        /// the kernel decides. Default `None`.
        send_buffer_bytes: Option<u32>, as impl Into<Option<u32>>, by Into::into = None;
    }

    /// Sockets, namespaces and handlers of Socket.IO.
    sockets: Sockets {
        /// How packets are written, `json`, `messagepack`, or a
        /// [custom](roomcast_protocol::socket::Parser::custom) format of an application; every client
        /// must be set up for the same, and the page of the binary is not: it speaks `json`. Default
        /// `json`.
        parser: Parser = Parser::Json;
        /// How long a client may take to join a first namespace. Default 45 s.
        #[serde(alias = "connectTimeout", with = "humantime_serde")]
        connect_timeout: Duration = Duration::from_secs(45);
        /// Bytes of request headers kept for `Socket::handshake`. Default 2,048.
        handshake_header_bytes: usize = 2048;
        /// Binary attachments an incoming packet may have; packets of MessagePack have none. Default 10.
        max_attachments: usize = 10;
        /// Handlers of one connection that may wait at the same time; further events are
        /// parked. Default 64.
        max_in_flight: usize = 64;
        /// Events of one connection that may be parked, together no larger than
        /// `outbox_bytes`; past that the connection is closed. Default 4,096.
        max_parked_events: usize = 4096;
        /// Acknowledgements of one socket that may be outstanding, and broadcasts of one
        /// namespace that wait for theirs. Default 1,024.
        max_pending_acks: usize = 1024;
        /// How long an acknowledgement may take that was asked for without a time limit of
        /// its own. Default 60 s.
        #[serde(with = "humantime_serde")]
        ack_timeout: Duration = Duration::from_secs(60);
        /// Rooms one socket may be in. Default 1,000.
        max_rooms_per_socket: usize = 1000;
        /// Requests to join a namespace that one connection may make in a minute, and as many at once. A
        /// join pays for leaving, too. Above the limit the client gets a `connect_error` with the code
        /// `RATE_LIMITED` and `retryAfter`; after 100 of them in a row its connection is closed. 0 for no
        /// limit. Default 0 (the binary: 60).
        joins_per_minute: u32 = 0;
        /// Namespaces one connection may join. Default 32.
        max_namespaces_per_connection: usize = 32;
        /// Namespaces that may exist at the same time, of those made on demand and those added with
        /// [`Io::add_namespace`](crate::Io::add_namespace). Default 10,000.
        max_namespaces: usize = 10_000;
        /// Whether a namespace made on demand goes with its last client. Default `true`; the official
        /// server keeps them unless told otherwise, so that clients decide how many there are.
        cleanup_empty_child_namespaces: bool = true;
        /// Listeners that the application may register on one socket while it is connected. Default 256.
        max_listeners_per_socket: usize = 256;
    }
}
