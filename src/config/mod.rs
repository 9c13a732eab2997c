//! Options, as plain data. A leaf: every module may read it, it reads nothing.
//!
//! [`Config`] holds the options of one [`Io`](crate::Io), with the official server's names and defaults;
//! [`AddressLimits`] says who may connect, and how often.

mod addresses;
mod check;
mod http;
mod recovery;

use std::time::Duration;

use roomcast_protocol::{engine::Transport, socket::Parser};
use serde::{Deserialize, Serialize};

pub use self::{
    addresses::AddressLimits,
    http::{Cookie, Cors, HttpCompression, Priority, SameSite},
    recovery::Recovery,
};

/// Options of an [`Io`](crate::Io): Engine.IO and Socket.IO in one flat struct.
///
/// Durations are written with their unit in files (`"25s"`, `"500ms"`), sizes in bytes.
/// [`Io::builder`](crate::Io::builder) checks the values at `build`, never at use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Config {
    /// Path of the Socket.IO endpoint. Default `/socket.io/`.
    pub path: String,
    /// Whether the path ends with a slash, as clients send it by default. `false`: it is answered
    /// with and without. Default `true`.
    #[serde(alias = "addTrailingSlash")]
    pub add_trailing_slash: bool,
    /// Transports a client may open a session with. Default both.
    pub transports: Vec<Transport>,
    /// Whether a polling session may go on over WebSocket. Default `true`.
    #[serde(alias = "allowUpgrades")]
    pub allow_upgrades: bool,
    /// How packets are written, `json` or `messagepack`; every client must be set up for the same,
    /// and the page of the binary is not: it speaks `json`. Default `json`.
    pub parser: Parser,
    /// Time between a pong and the next ping. On a WebSocket the ping may be later by a twentieth of the
    /// shorter of this and `ping_timeout`, at most by 100 ms, so that many leave together. Default 25 s.
    #[serde(alias = "pingInterval", with = "humantime_serde")]
    pub ping_interval: Duration,
    /// How long the pong may take. Default 20 s (the binary: 60 s).
    #[serde(alias = "pingTimeout", with = "humantime_serde")]
    pub ping_timeout: Duration,
    /// How long an upgrade may take before its WebSocket is dropped; the polling
    /// session survives. Default 10 s.
    #[serde(alias = "upgradeTimeout", with = "humantime_serde")]
    pub upgrade_timeout: Duration,
    /// Largest Engine.IO packet in bytes on WebSocket, and largest body of a POST.
    /// Advertised as `maxPayload`, `maxHttpBufferSize` of the official server.
    /// Default 1,000,000. One connection may hold this much while a message arrives.
    #[serde(alias = "maxHttpBufferSize", alias = "max_http_buffer_size")]
    pub max_payload: usize,
    /// What pages of other sites may do. Default `None`: as in the official server no CORS
    /// headers and no look at the origin.
    pub cors: Option<Cors>,
    /// A cookie with the session's id. Default `None`.
    pub cookie: Option<Cookie>,
    /// Compression of polling answers with gzip or deflate, if the client takes it and the event's
    /// [`compress`](crate::Broadcast::compress) flag is not off. Default: from 1,024 bytes on.
    #[serde(alias = "httpCompression")]
    pub http_compression: Option<HttpCompression>,
    /// Whether the JavaScript client is served below the path (`/socket.io/socket.io.js` and its
    /// like). It takes the feature `ui`. Default `true`.
    #[serde(alias = "serveClient")]
    pub serve_client: bool,
    /// Whether a request for a WebSocket (or anything else to upgrade to) outside of the path is
    /// refused if the router does not answer it in `destroy_upgrade_timeout`. Default `true`.
    #[serde(alias = "destroyUpgrade")]
    pub destroy_upgrade: bool,
    /// See `destroy_upgrade`. Default 1 s.
    #[serde(alias = "destroyUpgradeTimeout", with = "humantime_serde")]
    pub destroy_upgrade_timeout: Duration,
    /// How long [`allow_request`](crate::Builder::allow_request) and
    /// [`generate_id`](crate::Builder::generate_id) may take together for one session; past that it
    /// is refused. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub allow_request_timeout: Duration,
    /// Sessions that may wait for these two at the same time; further ones are refused with 503.
    /// Default 1,024.
    pub max_pending_requests: usize,
    /// Sessions that may be opened in a second, twice as many at once. Further requests for one are
    /// answered with 503 and `Retry-After`, spread over 5 s, before anything is made for them. 0 for
    /// no limit. Default 0 (the binary: 2,000).
    pub handshakes_per_second: u32,
    /// Connections that may be open without having brought a whole request yet, the time of a TLS
    /// handshake included; each may cost about 12 KiB. Further ones are answered with 503 and closed
    /// unheard, over TLS just closed. Counted on the server's own listeners. Default 4,096.
    pub max_handshakes: usize,
    /// How long a client may take to join a first namespace. Default 45 s.
    #[serde(alias = "connectTimeout", with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long request headers may take to arrive; also how long a connection may
    /// stay open without a request. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub header_timeout: Duration,
    /// How long the body of a POST may take to arrive. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub body_timeout: Duration,
    /// How long a client may take to read an answer: that long without reading 16 KiB or all of
    /// it, and the connection is cut. WebSockets have `outbox_bytes` and pings instead. Default
    /// 30 s.
    #[serde(with = "humantime_serde")]
    pub write_timeout: Duration,
    /// How long a message may take from its first to its last byte: a WebSocket message,
    /// and the attachments of a binary packet. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub message_timeout: Duration,
    /// How long a closing session may take to flush what is queued. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub close_timeout: Duration,
    /// Bytes that may wait for one client; above, the session is closed. A packet is
    /// always accepted when nothing else waits; each counts 256 bytes more than it has. What the
    /// kernel holds comes on top, see `unsent_bytes`. Default 1 MiB.
    pub outbox_bytes: usize,
    /// Bytes that may wait for all slow clients together, a packet that waits for several counted
    /// once. From seven eighths on those for whom most waits are closed, above it all that are sent
    /// to while they are slow. Up to 16 KiB a client is not slow unless the kernel says so. Default
    /// 512 MiB.
    pub total_outbox_bytes: usize,
    /// Bytes that the kernel takes for one client before the network does (`TCP_NOTSENT_LOWAT`),
    /// give or take a segment of 64 KiB. More than what a client reads in one round trip gains
    /// nothing; without it a slow client costs up to 4 MiB that nobody counts. Linux and Android only, on
    /// the server's own listeners. Default 128 KiB.
    pub unsent_bytes: Option<u32>,
    /// Bytes of the kernel's send buffer for one client (`SO_SNDBUF`, which Linux doubles), also for
    /// what is on its way. It sets a limit to how fast distant clients can be served; without it
    /// the kernel decides. Default `None`.
    pub send_buffer_bytes: Option<u32>,
    /// Bytes of request headers kept for `Socket::handshake`. Default 2,048.
    pub handshake_header_bytes: usize,
    /// Binary attachments an incoming packet may have; packets of MessagePack have none. Default 10.
    pub max_attachments: usize,
    /// Handlers of one connection that may wait at the same time; further events are
    /// parked. Default 64.
    pub max_in_flight: usize,
    /// Events of one connection that may be parked, together no larger than
    /// `outbox_bytes`; past that the connection is closed. Default 4,096.
    pub max_parked_events: usize,
    /// Acknowledgements of one socket that may be outstanding, and broadcasts of one
    /// namespace that wait for theirs. Default 1,024.
    pub max_pending_acks: usize,
    /// How long an acknowledgement may take that was asked for without a time limit of
    /// its own. Default 60 s.
    #[serde(with = "humantime_serde")]
    pub ack_timeout: Duration,
    /// Rooms one socket may be in. Default 1,000.
    pub max_rooms_per_socket: usize,
    /// Namespaces one connection may join. Default 32.
    pub max_namespaces_per_connection: usize,
    /// Namespaces made on demand that may exist at the same time. Default 10,000.
    pub max_namespaces: usize,
    /// Whether a namespace made on demand goes with its last client. Default `true`; the official
    /// server keeps them unless told otherwise, so that clients decide how many there are.
    pub cleanup_empty_child_namespaces: bool,
    /// Listeners that the application may register on one socket while it is connected. Default 256.
    pub max_listeners_per_socket: usize,
    /// WebSocket frames one message may be split into. Default 16,384.
    pub max_fragments: u32,
    /// Packets a connection may send in a second, twice as many at once; WebSocket pings, pongs and
    /// what is invalid count. Over it reading is delayed. 0 for no limit. Default 0 (the binary:
    /// 1,000).
    pub packets_per_second: u32,
    /// Bytes a connection may send in a second, twice as many at once. Over it reading is delayed. 0
    /// for no limit. Default 0 (the binary: 1 MiB).
    pub bytes_per_second: u32,
    /// How long a connection may have more to say than these two allow before it is closed. Default
    /// 10 s.
    #[serde(with = "humantime_serde")]
    pub throttle_timeout: Duration,
    /// Whether clients whose connection broke may go on as the same socket, and within which
    /// bounds. Default `None`: as in the official server they may not. In the binary's file this
    /// is the section `[recovery]`.
    #[serde(skip)]
    pub recovery: Option<Recovery>,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            path: "/socket.io/".into(),
            add_trailing_slash: true,
            transports: vec![Transport::Polling, Transport::WebSocket],
            allow_upgrades: true,
            parser: Parser::Json,
            ping_interval: Duration::from_secs(25),
            ping_timeout: Duration::from_secs(20),
            upgrade_timeout: Duration::from_secs(10),
            max_payload: 1_000_000,
            cors: None,
            cookie: None,
            http_compression: Some(HttpCompression::default()),
            serve_client: true,
            destroy_upgrade: true,
            destroy_upgrade_timeout: Duration::from_secs(1),
            allow_request_timeout: Duration::from_secs(10),
            max_pending_requests: 1024,
            handshakes_per_second: 0,
            max_handshakes: 4096,
            connect_timeout: Duration::from_secs(45),
            header_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            write_timeout: Duration::from_secs(30),
            message_timeout: Duration::from_secs(30),
            close_timeout: Duration::from_secs(30),
            outbox_bytes: 1 << 20,
            total_outbox_bytes: 512 << 20,
            unsent_bytes: Some(128 << 10),
            send_buffer_bytes: None,
            handshake_header_bytes: 2048,
            max_attachments: 10,
            max_in_flight: 64,
            max_parked_events: 4096,
            max_pending_acks: 1024,
            ack_timeout: Duration::from_secs(60),
            max_rooms_per_socket: 1000,
            max_namespaces_per_connection: 32,
            max_namespaces: 10_000,
            cleanup_empty_child_namespaces: true,
            max_listeners_per_socket: 256,
            max_fragments: 16_384,
            packets_per_second: 0,
            bytes_per_second: 0,
            throttle_timeout: Duration::from_secs(10),
            recovery: None,
        }
    }
}
