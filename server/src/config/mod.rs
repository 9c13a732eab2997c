//! The configuration of the server as plain data. Every module may read it; it imports no other
//! module.
//!
//! [`Settings`] is the whole tree. Its sections `[engine]` and `[recovery]` are options of the
//! library.

mod admin;
mod auth;
mod chat;
mod check;
mod days;
mod events;
mod files;
mod limits;
mod market;
mod network;
mod outgoing;
mod page;
mod store;

use std::{collections::BTreeMap, net::SocketAddr, path::PathBuf, time::Duration};

use roomcast::{Config, network::Network, options::Recovery};
use serde::{Deserialize, Serialize};

pub use admin::{AdminListen, AdminUi, AdminUiMode};
pub use auth::{Auth, Backend, Jwt, Role, Secret};
pub use chat::{Chat, Content, Presence, Streams};
pub use events::{ChannelHistory, ChannelHook, ChannelKind, Publications};
pub(crate) use files::{FileAccess, FileState, NamedFile, WatchedFile, named_files, private_files};
pub use limits::{Limits, Preset};
pub(crate) use market::exact_number;
pub use market::{Executor, Market, Notifications, SignalChannel, Webhook};
pub use network::{Acme, Adapter, Node, Subscriptions, Tls, Trust};
pub use outgoing::{Ask, Otlp, Webhooks};
pub use page::Page;
pub(crate) use store::differ_in_credentials;
pub use store::{Audit, Durability, Store};

/// The whole configuration of the `roomcast` binary: a TOML file whose keys can also be set as
/// environment variables.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// Address, profile, shutdown.
    pub server: Server,
    /// Options of the Socket.IO server.
    pub engine: Config,
    /// Authentication and roles.
    pub auth: Auth,
    /// Limits of connections and of user activity.
    pub limits: Limits,
    /// Whether clients can continue their session after a lost connection.
    pub recovery: Recovery,
    /// Limits of the chat.
    pub chat: Chat,
    /// Presence of users in conversations.
    pub presence: Presence,
    /// Trades, signals and portfolios.
    pub market: Market,
    /// Notifications of users.
    pub notifications: Notifications,
    /// Kinds of channels with events of an application, by name.
    pub channels: BTreeMap<String, ChannelKind>,
    /// The backend that decides who may follow channels.
    pub ask: Ask,
    /// Additional permissions of the chat page.
    pub page: Page,
    /// Events that services publish in their own database transactions.
    pub publications: Publications,
    /// Notifications of events to a service.
    pub webhooks: Webhooks,
    /// Storage of messages.
    pub store: Store,
    /// The records of administrative acts.
    pub audit: Audit,
    /// The admin UI of the authors of Socket.IO.
    pub admin_ui: AdminUi,
    /// The cluster.
    pub adapter: Adapter,
    /// The identity of this server in the cluster.
    pub node: Node,
    /// Log output.
    pub log: Log,
    /// Export of spans.
    pub otlp: Otlp,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            server: Server::default(),
            engine: Config::default()
                .ping_timeout(Duration::from_secs(60))
                .handshakes_per_second(5000)
                .packets_per_second(1000)
                .bytes_per_second(1 << 20)
                .joins_per_minute(60),
            auth: Auth::default(),
            limits: Limits::default(),
            recovery: Recovery::default().disabled(),
            chat: Chat::default(),
            presence: Presence::default(),
            market: Market::default(),
            notifications: Notifications::default(),
            channels: BTreeMap::new(),
            ask: Ask::default(),
            page: Page::default(),
            publications: Publications::default(),
            webhooks: Webhooks::default(),
            store: Store::default(),
            audit: Audit::default(),
            admin_ui: AdminUi::default(),
            adapter: Adapter::default(),
            node: Node::default(),
            log: Log::default(),
            otlp: Otlp::default(),
        }
    }
}

impl Settings {
    /// Returns the profile in force: the configured one, otherwise development on a loopback
    /// address and production on any other.
    #[must_use]
    pub fn profile(&self) -> Profile {
        self.server.profile.unwrap_or_else(|| {
            if self.server.listen.ip().is_loopback() {
                Profile::Development
            } else {
                Profile::Production
            }
        })
    }

    /// Checks all values.
    ///
    /// # Errors
    ///
    /// Returns the first invalid value with the reason.
    pub fn check(&self) -> Result<(), &'static str> {
        let sizes = [
            (self.store.queue, "store.queue is zero"),
            (self.store.max_batch, "store.max_batch is zero"),
            (self.store.readers, "store.readers is zero"),
            (
                self.store.max_pending_reads,
                "store.max_pending_reads is zero",
            ),
            (self.store.writers, "store.writers is zero"),
            (self.store.retention_batch, "store.retention_batch is zero"),
            (self.chat.content_chars, "chat.content_chars is zero"),
            (self.chat.page, "chat.page is zero"),
            (self.chat.page_default, "chat.page_default is zero"),
            (
                self.chat.streams.max_chars,
                "chat.streams.max_chars is zero",
            ),
            (
                self.chat.streams.bytes_per_second,
                "chat.streams.bytes_per_second is zero",
            ),
        ];
        if let Some((_, fault)) = sizes.into_iter().find(|(size, _)| *size == 0) {
            return Err(fault);
        }
        let times = [
            (self.store.connect_timeout, "store.connect_timeout is zero"),
            (self.store.pool_timeout, "store.pool_timeout is zero"),
            (
                self.store.statement_timeout,
                "store.statement_timeout is zero",
            ),
            (self.store.health_interval, "store.health_interval is zero"),
            (self.store.answer_timeout, "store.answer_timeout is zero"),
            (
                self.store.retention_interval,
                "store.retention_interval is zero",
            ),
            (self.presence.lease, "presence.lease is zero"),
        ];
        if let Some((_, fault)) = times.into_iter().find(|(time, _)| time.is_zero()) {
            return Err(fault);
        }
        if self.store.retention.is_some_and(|time| time.is_zero()) {
            return Err("store.retention is zero");
        }
        self.audit.check()?;
        self.admin_ui.check()?;
        self.auth.check()?;
        self.limits.check()?;
        self.adapter.check()?;
        self.node.check()?;
        self.market.check()?;
        self.notifications.check()?;
        self.page.check(self.server.listen)?;
        self.publications.check()?;
        self.ask.check()?;
        self.webhooks.check()?;
        self.otlp.check()?;
        self.server.tls.check()?;
        self.server.acme.check(&self.server.tls)?;
        self.server.check_admin(self.auth.jwt.has_keys())?;
        self.recovery.check(self.engine.outbox.outbox_bytes)?;
        check::check(self)?;
        if !self.server.listen.ip().is_loopback() {
            if self.profile() == Profile::Development {
                return Err(NOT_LOOPBACK);
            }
            if !self.auth.jwt.has_keys() {
                return Err(NO_KEYS);
            }
        }
        Ok(())
    }

    /// Returns the settings with derived values filled in and without secrets.
    #[must_use]
    pub fn in_force(&self) -> Self {
        let mut settings = self.clone();
        settings.server.profile = Some(self.profile());
        settings.auth.guests = Some(self.guests());
        if settings.auth.jwt.secret.is_some() {
            settings.auth.jwt.secret = Some(Secret::hidden());
        }
        settings.server.admin_listen = Some(self.server.admin_listen());
        if settings.server.metrics_token.is_some() {
            settings.server.metrics_token = Some(Secret::hidden());
        }
        settings.server.acme = self.server.acme.shown();
        settings.auth.backend = self.auth.backend.shown();
        settings.auth.jwt.jwks_url = self.auth.jwt.shown_jwks_url();
        settings.store.url = self.store.shown_url();
        settings.adapter.url = Some(self.adapter.shown_url(&self.store));
        settings.adapter.secret = self.adapter.shown_secret();
        settings.market = self.market.shown();
        settings.ask = self.ask.shown();
        settings.webhooks = self.webhooks.shown();
        settings.otlp = self.otlp.shown();
        settings.admin_ui = self.admin_ui.shown();
        settings.limits = self.limits.in_force();
        settings.chat.content_chars = self.limits.content_chars(self.chat.content_chars);
        settings
    }

    /// Returns whether guests are admitted: the configured value, otherwise only in development.
    #[must_use]
    pub fn guests(&self) -> bool {
        self.auth
            .guests
            .unwrap_or_else(|| self.profile() == Profile::Development && !self.auth.at_handshake)
    }
}

const NOT_LOOPBACK: &str = "the development profile admits guests and is only for loopback \
     addresses: set ROOMCAST_PROFILE=production, or listen on 127.0.0.1 (server.profile, server.listen)";
const NO_KEYS: &str = "no client could authenticate: set ROOMCAST_AUTH__JWT__SECRET, \
     ROOMCAST_AUTH__JWT__KEYS_FILE or ROOMCAST_AUTH__JWT__JWKS_URL, or listen on 127.0.0.1 \
     (auth.jwt, server.listen)";

/// Section `[server]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Server {
    /// Address to listen on. Default `127.0.0.1:3000`, or `0.0.0.0:PORT` if the variable `PORT` is
    /// set. Alias `ROOMCAST_LISTEN`.
    pub listen: SocketAddr,
    /// `development` or `production`. Default: development on loopback. Alias
    /// `ROOMCAST_PROFILE`.
    pub profile: Option<Profile>,
    /// Origins of pages that may connect, in addition to the server's own; others are refused.
    /// Replaces `engine.cors`. Default `http://localhost:5173`. Alias `ALLOWED_ORIGINS`.
    pub allowed_origins: Vec<String>,
    /// Trusted proxies, as addresses or networks: their `X-Forwarded-For`, `Forwarded` and
    /// `X-Forwarded-Proto` headers determine the client. Default none.
    pub trusted_proxies: Vec<Network>,
    /// Whether connections from trusted proxies begin with a PROXY protocol header, version 1 or 2.
    /// Default `false`.
    pub proxy_protocol: bool,
    /// TLS, if this server encrypts connections instead of a proxy.
    pub tls: Tls,
    /// Certificates from an authority.
    pub acme: Acme,
    /// Time in which clients are moved to other servers before this one stops, so that they do not
    /// all reconnect at the same time. Default 0: all connections are closed immediately, which is
    /// right for a single server.
    #[serde(with = "humantime_serde")]
    pub drain: Duration,
    /// Maximum duration of a shutdown after `drain`; then connections are cut. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// How long replaced events are supported. The catalogue of events lists them with their dates.
    /// Default 180 days.
    #[serde(with = "days")]
    pub deprecated_events: Duration,
    /// Address at which `/metrics` and `/health/websocket/detailed` are served, or `off`. At a
    /// loopback address, every process of this machine may read them; any other address requires a
    /// token. Default `127.0.0.1:9464`, or a free port of 127.0.0.1 if `listen` has port 0.
    pub admin_listen: Option<AdminListen>,
    /// Token for reading `/metrics` and `/health/websocket/detailed`, also at `listen`. Default:
    /// none, and they are not served at `listen`.
    pub metrics_token: Option<Secret>,
    /// File with a token for reading them, on one line; other users of the machine must have no
    /// access to it. Read again when it changes. Both tokens are accepted. Default: none.
    pub metrics_token_file: Option<PathBuf>,
}

impl Default for Server {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 3000)),
            profile: None,
            allowed_origins: vec!["http://localhost:5173".into()],
            trusted_proxies: Vec::new(),
            proxy_protocol: false,
            tls: Tls::default(),
            acme: Acme::default(),
            drain: Duration::ZERO,
            grace: Duration::from_secs(10),
            deprecated_events: Duration::from_secs(180 * 86_400),
            admin_listen: None,
            metrics_token: None,
            metrics_token_file: None,
        }
    }
}

/// The environment for which the server is configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "two profiles are the design")]
pub enum Profile {
    /// Guests are admitted and the Lobby exists.
    Development,
    /// Credentials are required.
    Production,
}

impl Profile {
    /// The name of the profile in configuration.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Development => "development",
            Self::Production => "production",
        }
    }
}

/// Section `[log]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Log {
    /// Filter in the syntax of `tracing`'s `EnvFilter`. Default `info`.
    pub level: String,
    /// Human-readable lines or JSON. Default human.
    pub format: LogFormat,
    /// File to write to. Default: standard output. A full file is renamed to `FILE.1`, that one to
    /// `FILE.2`, and so on.
    pub file: Option<PathBuf>,
    /// Maximum size of a file in bytes. Default 64 MiB.
    pub file_bytes: u64,
    /// Maximum number of files, including the current one. Default 8.
    pub files: usize,
    /// Whether each HTTP request, except those of Socket.IO, has a line. Default `false`.
    pub access: bool,
}

impl Default for Log {
    fn default() -> Self {
        Self {
            level: "info".into(),
            format: LogFormat::Human,
            file: None,
            file_bytes: 64 << 20,
            files: 8,
            access: false,
        }
    }
}

/// Form of the log lines.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum LogFormat {
    /// One readable line per event.
    Human,
    /// One JSON object per line.
    Json,
}
