//! Options, as plain data. A leaf module: it contains no behaviour, and every module may depend on
//! it.
//!
//! [`Config`] holds the options of one [`Io`](crate::Io), with the official server's names and
//! defaults. [`AddressLimits`] holds the limits per client address. The structs are non-exhaustive:
//! start from the default and call the setters, which are named like the fields. The setter of a
//! `bool` takes no argument, and its name says how it differs from the default.

mod addresses;
mod check;
mod deflate;
mod http;
mod options;
mod recovery;

use std::time::Duration;

use roomcast_protocol::{engine::Transport, socket::Parser};
use serde::{Deserialize, Serialize};

use self::options::{groups, some_text};
pub use self::{
    addresses::AddressLimits,
    deflate::PerMessageDeflate,
    http::{Cookie, Cors, HttpCompression, Priority, SameSite},
    recovery::Recovery,
};

/// Options of an [`Io`](crate::Io): Engine.IO and Socket.IO.
///
/// Each option has a setter; related options form a group.
/// [`Io::builder`](crate::Io::builder) checks the values in `build`. In files there are no groups.
/// There, durations have a unit (`"25s"`, `"500ms"`) and sizes are in bytes. Names of the official
/// server are also accepted (`pingInterval`).
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
    /// Whether clients whose connection broke may resume the same socket, and the bounds for that.
    /// Not part of the form in files. Default `None`, as in the official server: no recovery.
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
        /// Whether the path ends with a slash, as clients send it by default. If `false`, requests
        /// are accepted with and without the slash. Default `true`.
        #[serde(alias = "addTrailingSlash")]
        add_trailing_slash: bool = true, optional_trailing_slash: false;
        /// What pages of other sites may do. Default `None`, as in the official server: no CORS
        /// headers and no origin checks.
        cors: Option<Cors>, as impl Into<Option<Cors>>, by Into::into = None;
        /// The cookie with the session id, if any. Default `None`.
        cookie: Option<Cookie>, as impl Into<Option<Cookie>>, by Into::into = None;
        /// Compression of polling responses with gzip or deflate. The client chooses with
        /// `Accept-Encoding`. Events that are sent
        /// [without compression](crate::Broadcast::without_compression) are not compressed.
        /// Default: from 1,024 bytes on.
        #[serde(alias = "httpCompression")]
        http_compression: Option<HttpCompression>, as impl Into<Option<HttpCompression>>, by Into::into = Some(HttpCompression::default());
        /// Whether the JavaScript client builds passed to
        /// [`client_files`](crate::Builder::client_files) are served below the path (for example
        /// `/socket.io/socket.io.js`). Default `true`.
        #[serde(alias = "serveClient")]
        serve_client: bool = true, without_client_files: false;
        /// Whether upgrade requests (WebSocket or other) outside of the path are refused if the
        /// router does not answer within `destroy_upgrade_timeout`. Default `true`.
        #[serde(alias = "destroyUpgrade")]
        destroy_upgrade: bool = true, keep_unanswered_upgrades: false;
        /// The timeout of `destroy_upgrade`. Default 1 s.
        #[serde(alias = "destroyUpgradeTimeout", with = "humantime_serde")]
        destroy_upgrade_timeout: Duration = Duration::from_secs(1);
        /// Maximum time for request headers to arrive. Also the maximum time that a connection
        /// stays open without a request. Default 10 s.
        #[serde(with = "humantime_serde")]
        header_timeout: Duration = Duration::from_secs(10);
        /// Maximum time for the body of a POST to arrive. Default 30 s.
        #[serde(with = "humantime_serde")]
        body_timeout: Duration = Duration::from_secs(30);
        /// Timeout for clients that read responses slowly. If a client reads neither 16 KiB nor the
        /// rest of a response in this time, it is disconnected. WebSockets use `outbox_bytes` and
        /// pings instead. Default 30 s.
        #[serde(with = "humantime_serde")]
        write_timeout: Duration = Duration::from_secs(30);
    }

    /// Limits on opening sessions, and on the checks before one is opened.
    admission: Admission {
        /// Maximum time for [`allow_request`](crate::Builder::allow_request) and
        /// [`generate_id`](crate::Builder::generate_id) together for one session; after that the
        /// session is refused. Default 10 s.
        #[serde(with = "humantime_serde")]
        allow_request_timeout: Duration = Duration::from_secs(10);
        /// Maximum number of sessions that wait for these two functions; further sessions are
        /// refused with 503. Default 1,024.
        max_pending_requests: usize = 1024;
        /// Sessions that may be opened per second; the burst is twice that number. Further
        /// handshakes are answered with 503 and a `Retry-After` at which the rate admits the
        /// client, before anything is allocated for them. 0 for no limit. Default 0 (the binary:
        /// 5,000).
        handshakes_per_second: u32 = 0;
        /// Connections that have not yet sent a complete request, including those in a TLS
        /// handshake; each may cost about 12 KiB. Further connections are answered with 503 before
        /// their request is read, and closed; TLS connections are closed without an answer. Only
        /// connections of the server's own listeners count. Default 4,096.
        max_handshakes: usize = 4096;
    }

    /// An Engine.IO session: transports, heartbeats, and limits on the size and rate of incoming
    /// data.
    session: Session {
        /// Transports with which a client may open a session. Default both.
        transports: Vec<Transport>, as impl Into<Vec<Transport>>, by Into::into = vec![Transport::Polling, Transport::WebSocket];
        /// Whether a polling session may be upgraded to WebSocket. Default `true`.
        #[serde(alias = "allowUpgrades")]
        allow_upgrades: bool = true, without_upgrades: false;
        /// Whether clients of Engine.IO v3 may connect, that is of Socket.IO 1 and 2, next to those
        /// of Engine.IO v4. Clients that poll with scripts (JSONP) are refused. The ids of their
        /// sockets contain the secret session id, as these clients expect. Default `false`.
        #[serde(alias = "allowEIO3")]
        allow_eio3: bool = false, allow_eio3: true;
        /// A text message that every client receives directly after the open packet, for clients
        /// of an application's own protocol. Socket.IO clients decode it as a packet. Default
        /// `None`.
        #[serde(alias = "initialPacket")]
        initial_packet: Option<String>, as impl Into<String>, by some_text = None;
        /// Maximum time of an upgrade before its WebSocket is closed; the polling session
        /// continues. Default 10 s.
        #[serde(alias = "upgradeTimeout", with = "humantime_serde")]
        upgrade_timeout: Duration = Duration::from_secs(10);
        /// Time between a pong and the next ping. On a WebSocket, a ping may be delayed so that
        /// many are sent together: by a twentieth of the shorter of this and `ping_timeout`, at
        /// most 100 ms. Default 25 s.
        #[serde(alias = "pingInterval", with = "humantime_serde")]
        ping_interval: Duration = Duration::from_secs(25);
        /// Maximum time until a pong arrives. Default 20 s (the binary: 60 s).
        #[serde(alias = "pingTimeout", with = "humantime_serde")]
        ping_timeout: Duration = Duration::from_secs(20);
        /// Maximum size of an Engine.IO packet on WebSocket and of the body of a POST, in bytes.
        /// Sent to clients as `maxPayload`; `maxHttpBufferSize` of the official server. One
        /// connection may hold this much memory while a message arrives. Default 1,000,000.
        #[serde(alias = "maxHttpBufferSize", alias = "max_http_buffer_size")]
        max_payload: usize = 1_000_000;
        /// Compression of WebSocket messages (permessage-deflate) for clients that offer it, unless
        /// an event was sent [without compression](crate::Broadcast::without_compression). An event
        /// for many clients is compressed once. Do not compress secrets together with text that an
        /// attacker chooses. Default `None`, as in the official server: no compression.
        #[serde(alias = "perMessageDeflate")]
        per_message_deflate: Option<PerMessageDeflate>, as impl Into<Option<PerMessageDeflate>>, by Into::into = None;
        /// Maximum number of WebSocket frames in one message. Default 16,384.
        max_fragments: u32 = 16_384;
        /// Maximum time of a message from its first to its last byte. Applies to WebSocket
        /// messages and to the attachments of a binary packet. Default 30 s.
        #[serde(with = "humantime_serde")]
        message_timeout: Duration = Duration::from_secs(30);
        /// Maximum time for a closing session to flush its queue. Default 30 s.
        #[serde(with = "humantime_serde")]
        close_timeout: Duration = Duration::from_secs(30);
        /// Packets that a connection may send per second; the burst is twice that number. WebSocket
        /// pings, pongs and invalid packets count too. Above the limit, reading is delayed. 0 for
        /// no limit. Default 0 (the binary: 1,000).
        packets_per_second: u32 = 0;
        /// Bytes that a connection may send per second; the burst is twice that number. Above the
        /// limit, reading is delayed. 0 for no limit. Default 0 (the binary: 1 MiB).
        bytes_per_second: u32 = 0;
        /// Maximum time that a connection may exceed these two limits. Default 10 s.
        #[serde(with = "humantime_serde")]
        throttle_timeout: Duration = Duration::from_secs(10);
    }

    /// Limits on data queued for clients that read too slowly.
    outbox: Outbox {
        /// Maximum number of bytes queued for one client; above it the session is closed. A packet
        /// is always accepted when the queue is empty; each packet counts 256 bytes more than its
        /// size. Data in kernel buffers is not included, see `unsent_bytes`. Default 1 MiB.
        outbox_bytes: usize = 1 << 20;
        /// Maximum number of bytes queued for all slow clients together; a packet for several
        /// clients counts once. From seven eighths on, the clients with the most queued bytes are
        /// disconnected. Above the limit, every slow client that is sent a packet is disconnected.
        /// A client with up to 16 KiB queued is not slow unless the kernel reports it. Default 512
        /// MiB.
        total_outbox_bytes: usize = 512 << 20;
        /// Maximum number of unsent bytes in the kernel for one client (`TCP_NOTSENT_LOWAT`), give
        /// or take a segment of 64 KiB. Values above what a client reads in one round trip gain
        /// nothing. Without it, a slow client occupies up to 4 MiB that no limit counts. Linux and
        /// Android only, on the server's own listeners. Default 128 KiB.
        unsent_bytes: Option<u32>, as impl Into<Option<u32>>, by Into::into = Some(128 << 10);
        /// The kernel's send buffer for one client in bytes (`SO_SNDBUF`, which Linux doubles),
        /// including data in flight. It limits the throughput to distant clients. Default `None`:
        /// the kernel decides.
        send_buffer_bytes: Option<u32>, as impl Into<Option<u32>>, by Into::into = None;
    }

    /// Sockets, namespaces and handlers of Socket.IO.
    sockets: Sockets {
        /// The packet format: `json`, `messagepack`, or a
        /// [custom](roomcast_protocol::socket::Parser::custom) format of an application. Every
        /// client must use the same format; the web client of the binary supports only `json`.
        /// Default `json`.
        parser: Parser = Parser::Json;
        /// Maximum time for a client to join its first namespace, and for the decision about one
        /// `CONNECT`. If a decision is pending at the end of the first, and refuses the client, the
        /// client has the whole time once more. Default 45 s.
        #[serde(alias = "connectTimeout", with = "humantime_serde")]
        connect_timeout: Duration = Duration::from_secs(45);
        /// Bytes of request headers stored for `Socket::handshake`. Default 2,048.
        handshake_header_bytes: usize = 2048;
        /// Maximum number of binary attachments of an incoming packet; MessagePack packets have
        /// none. Default 10.
        max_attachments: usize = 10;
        /// Handlers of one connection that may be pending at the same time; further events are
        /// parked. Default 64.
        max_in_flight: usize = 64;
        /// Maximum number of parked events of one connection; together they must not exceed
        /// `outbox_bytes`. Above either limit the connection is closed. Default 4,096.
        max_parked_events: usize = 4096;
        /// Maximum number of pending acknowledgements of one socket, and of broadcasts of one
        /// namespace that wait for acknowledgements. Default 1,024.
        max_pending_acks: usize = 1024;
        /// Timeout of acknowledgements that were requested without a timeout of their own. Default
        /// 60 s.
        #[serde(with = "humantime_serde")]
        ack_timeout: Duration = Duration::from_secs(60);
        /// Maximum number of rooms of one socket. Default 1,000.
        max_rooms_per_socket: usize = 1000;
        /// Requests to join a namespace that one connection may send per minute; the burst is the
        /// same number. Leaving is not counted. Above the limit the client receives a
        /// `connect_error` with the code `RATE_LIMITED` and `retryAfter`. After 100 of these in a
        /// row its connection is closed. 0 for no limit. Default 0 (the binary: 60).
        joins_per_minute: u32 = 0;
        /// Maximum number of namespaces that one connection may join. Default 32.
        max_namespaces_per_connection: usize = 32;
        /// Maximum number of dynamic namespaces: those created on demand and those added with
        /// [`Io::add_namespace`](crate::Io::add_namespace). Default 10,000.
        max_namespaces: usize = 10_000;
        /// Whether a namespace created on demand is removed when its last client leaves. Default
        /// `true`. The official server keeps such namespaces by default, so that clients decide how
        /// many exist.
        cleanup_empty_child_namespaces: bool = true, keep_empty_child_namespaces: false;
        /// Maximum number of listeners that the application may register on one connected socket.
        /// Default 256.
        max_listeners_per_socket: usize = 256;
    }
}
