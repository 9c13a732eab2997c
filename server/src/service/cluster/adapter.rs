//! Creates the adapter that the settings describe.

use std::fmt;
use std::time::Duration;

#[cfg(feature = "postgres")]
use super::NAMESPACE;
use super::Sealing;
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
use super::sealing::configured;
use crate::config::{Settings, Subscriptions as Listening};
#[cfg(feature = "nats")]
use roomcast::adapter::nats::Nats;
#[cfg(feature = "postgres")]
use roomcast::adapter::postgres::Postgres;
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
use roomcast::adapter::{Emitter, InvalidSecrets, LiveUrl};
#[cfg(feature = "redis")]
use roomcast::adapter::{
    Subscriptions,
    redis::{InvalidUrl, Redis},
};
use roomcast::{Builder, adapter::NodeOptions};

/// The reason why these settings give no adapter.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum AdapterFault {
    /// No adapter has URLs of this form.
    Unknown,
    /// The adapter rejects the URL. The text gives the reason.
    #[cfg_attr(
        not(any(feature = "nats", feature = "postgres", feature = "redis")),
        expect(dead_code, reason = "this build has no adapter with a URL")
    )]
    Url(String),
    /// An option is set that this adapter does not have.
    Option(&'static str),
    /// This build lacks the named feature.
    #[cfg_attr(
        all(feature = "nats", feature = "postgres", feature = "redis"),
        expect(dead_code, reason = "this build has all")
    )]
    Absent(&'static str),
    /// The store is not shared with other servers.
    NotShared,
    /// The configured secrets are invalid.
    #[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
    Secret(InvalidSecrets),
}

/// Returns the URL of the adapter, if one is configured.
pub(crate) fn url(settings: &Settings) -> Option<&str> {
    settings.adapter.url(&settings.store)
}

/// Checks the configuration of the adapter without connecting.
pub(crate) fn check(settings: &Settings) -> Result<(), AdapterFault> {
    #[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
    configured(settings).map_err(AdapterFault::Secret)?;
    join(roomcast::Io::builder(), settings, &Sealing::default()).map(drop)
}

/// Adds the configured adapter to the server, if there is one, and returns its URL.
#[cfg_attr(
    not(any(feature = "nats", feature = "postgres", feature = "redis")),
    expect(unused_variables, reason = "the build has no adapter that seals")
)]
pub(crate) fn join(
    io: Builder,
    settings: &Settings,
    sealing: &Sealing,
) -> Result<(Builder, AdapterUrl), AdapterFault> {
    let io = io.node(node(settings));
    let Some(url) = url(settings) else {
        return Ok((io, AdapterUrl::default()));
    };
    let adapter = Adapter::new(settings, url)?;
    #[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
    let adapter = adapter.sealed(sealing);
    let joined = adapter.give_to(io);
    if settings.store.is_postgres() {
        Ok(joined)
    } else {
        Err(AdapterFault::NotShared)
    }
}

/// Returns what this server reports about itself to its peers.
fn node(settings: &Settings) -> NodeOptions {
    let mut node = NodeOptions::default().version(env!("CARGO_PKG_VERSION"));
    if let Some(requests) = settings.node.max_forwarded {
        node = node.max_forwarded(requests);
    }
    if let Some(websockets) = settings.node.max_tunnels {
        node = node.max_tunnels(websockets);
    }
    if let Some(id) = settings.node.id.as_deref() {
        node = node.id(id);
    }
    if let Some(address) = settings.node.address.as_deref() {
        node = node.address(address);
    }
    node
}

/// Checks the URL of an adapter without connecting.
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) fn check_url(settings: &Settings, url: &str) -> Result<(), AdapterFault> {
    Adapter::new(settings, url).map(drop)
}

/// Creates an emitter, which publishes events to the cluster without being a server of it.
#[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
pub(crate) fn emitter(
    settings: &Settings,
    url: &str,
    sealing: &Sealing,
) -> Result<Emitter, AdapterFault> {
    Ok(match Adapter::new(settings, url)?.sealed(sealing) {
        #[cfg(feature = "nats")]
        Adapter::Nats(nats) => Emitter::new(*nats),
        #[cfg(feature = "postgres")]
        Adapter::Postgres(postgres) => Emitter::new(*postgres),
        #[cfg(feature = "redis")]
        Adapter::Redis(redis) => Emitter::new(*redis),
    })
}

/// The URL of the adapter in use, if there is one. Its credentials can be replaced. Clones share
/// it.
#[derive(Clone, Default)]
pub(crate) struct AdapterUrl(Option<AnyUrl>);

#[derive(Clone)]
enum AnyUrl {
    #[cfg(feature = "nats")]
    Nats(LiveUrl<Nats>),
    #[cfg(feature = "postgres")]
    Postgres(LiveUrl<Postgres>),
    #[cfg(feature = "redis")]
    Redis(LiveUrl<Redis>),
}

impl AdapterUrl {
    /// Checks the URL in these settings, which names the same broker with other credentials, and
    /// returns what makes new connections use them. Connections that exist stay.
    ///
    /// # Errors
    ///
    /// If the settings give no adapter.
    pub(crate) fn prepare(
        &self,
        settings: &Settings,
    ) -> Result<impl FnOnce() + use<>, AdapterFault> {
        let new = url(settings).map(|url| Adapter::new(settings, url));
        let (live, new) = (self.0.clone(), new.transpose()?);
        Ok(move || match (live, new) {
            #[cfg(feature = "nats")]
            (Some(AnyUrl::Nats(live)), Some(Adapter::Nats(new))) => live.replace(&new),
            #[cfg(feature = "postgres")]
            (Some(AnyUrl::Postgres(live)), Some(Adapter::Postgres(new))) => live.replace(&new),
            #[cfg(feature = "redis")]
            (Some(AnyUrl::Redis(live)), Some(Adapter::Redis(new))) => live.replace(&new),
            // An adapter of another kind needs a restart.
            (_, _) => {}
        })
    }
}

/// A configured adapter.
enum Adapter {
    #[cfg(feature = "nats")]
    Nats(Box<Nats>),
    #[cfg(feature = "postgres")]
    Postgres(Box<Postgres>),
    #[cfg(feature = "redis")]
    Redis(Box<Redis>),
}

impl Adapter {
    fn new(settings: &Settings, url: &str) -> Result<Self, AdapterFault> {
        let (scheme, rest) = url.split_once("://").ok_or(AdapterFault::Unknown)?;
        reject_ignored_options(settings, scheme)?;
        match scheme.split('+').next().unwrap_or_default() {
            "postgres" | "postgresql" => Self::postgres(settings, url),
            "redis" | "rediss" | "redis-streams" | "rediss-streams" => {
                Self::redis(settings, scheme, rest)
            }
            "nats" => Self::nats(settings, url),
            _ => Err(AdapterFault::Unknown),
        }
    }

    /// Makes the adapter seal its messages, if sealing is enabled.
    #[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
    fn sealed(self, sealing: &Sealing) -> Self {
        let Some(secrets) = sealing.secrets.clone() else {
            return self;
        };
        macro_rules! sealed {
            ($adapter:expr) => {
                Box::new(match sealing.accepts_plain {
                    true => $adapter.sealed(secrets).accept_plain(),
                    false => $adapter.sealed(secrets),
                })
            };
        }
        match self {
            #[cfg(feature = "nats")]
            Self::Nats(nats) => Self::Nats(sealed!(nats)),
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => Self::Postgres(sealed!(postgres)),
            #[cfg(feature = "redis")]
            Self::Redis(redis) => Self::Redis(sealed!(redis)),
        }
    }

    #[cfg_attr(
        not(any(feature = "nats", feature = "postgres", feature = "redis")),
        expect(
            unused_variables,
            clippy::needless_pass_by_value,
            reason = "the build has no adapter"
        )
    )]
    fn give_to(self, io: Builder) -> (Builder, AdapterUrl) {
        match self {
            #[cfg(feature = "nats")]
            Self::Nats(nats) => {
                let url = AnyUrl::Nats(nats.live_url());
                (io.adapter(*nats), AdapterUrl(Some(url)))
            }
            #[cfg(feature = "postgres")]
            Self::Postgres(postgres) => {
                let url = AnyUrl::Postgres(postgres.live_url());
                (io.adapter(*postgres), AdapterUrl(Some(url)))
            }
            #[cfg(feature = "redis")]
            Self::Redis(redis) => {
                let url = AnyUrl::Redis(redis.live_url());
                (io.adapter(*redis), AdapterUrl(Some(url)))
            }
        }
    }

    #[cfg(feature = "nats")]
    fn nats(settings: &Settings, url: &str) -> Result<Self, AdapterFault> {
        let nats = Nats::new(&url.replace("nats+tls://", "tls://"));
        let nats = nats.map_err(|error| AdapterFault::Url(error.to_string()))?;
        let nats = nats
            .key(&settings.adapter.key)
            .request_timeout(request_timeout(settings));
        Ok(Self::Nats(Box::new(nats)))
    }

    #[cfg(not(feature = "nats"))]
    fn nats(_: &Settings, _: &str) -> Result<Self, AdapterFault> {
        Err(AdapterFault::Absent("nats"))
    }

    #[cfg(feature = "postgres")]
    fn postgres(settings: &Settings, url: &str) -> Result<Self, AdapterFault> {
        let postgres = Postgres::new(url).map_err(|error| AdapterFault::Url(error.to_string()))?;
        let postgres = postgres
            .key(&settings.adapter.key)
            // Announcements about conversations must not wait for events to clients.
            .apart([NAMESPACE])
            .request_timeout(request_timeout(settings));
        let postgres = match &settings.adapter.table {
            Some(table) => postgres.table(table),
            None => postgres,
        };
        Ok(Self::Postgres(Box::new(postgres)))
    }

    #[cfg(not(feature = "postgres"))]
    fn postgres(_: &Settings, _: &str) -> Result<Self, AdapterFault> {
        Err(AdapterFault::Absent("postgres"))
    }

    #[cfg(feature = "redis")]
    fn redis(settings: &Settings, scheme: &str, rest: &str) -> Result<Self, AdapterFault> {
        let fault = |error: InvalidUrl| AdapterFault::Url(error.to_string());
        let (scheme, is_sharded) = match scheme.strip_suffix("+sharded") {
            Some(scheme) => (scheme, true),
            None => (scheme, false),
        };
        let redis = Redis::new(&format!("{scheme}://{rest}")).map_err(fault)?;
        let redis = redis
            .key(&settings.adapter.key)
            .request_timeout(request_timeout(settings));
        let redis = match settings.adapter.specific_responses {
            true => redis.publish_on_specific_response_channel(),
            false => redis,
        };
        let redis = match &settings.adapter.stream_name {
            Some(name) => redis.stream_name(name),
            None => redis,
        };
        let subscriptions = match settings.adapter.subscriptions {
            Listening::Rooms => Subscriptions::Rooms,
            Listening::Namespaces => Subscriptions::Namespaces,
            Listening::Sockets => Subscriptions::RoomsAndSockets,
        };
        Ok(Self::Redis(Box::new(
            match (is_sharded, scheme.contains("-streams")) {
                (false, _) => redis,
                (true, false) => redis.sharded(subscriptions),
                (true, true) => redis.sharded_channels(),
            },
        )))
    }

    #[cfg(not(feature = "redis"))]
    fn redis(_: &Settings, _: &str, _: &str) -> Result<Self, AdapterFault> {
        Err(AdapterFault::Absent("redis"))
    }
}

/// Rejects options that the adapter ignores, so that they do not appear to have an effect.
fn reject_ignored_options(settings: &Settings, scheme: &str) -> Result<(), AdapterFault> {
    let adapter = &settings.adapter;
    let is_redis = scheme.starts_with("redis");
    let is_sharded = scheme.ends_with("+sharded");
    let has_stream = scheme.contains("-streams");
    for (is_set, counts, fault) in [
        (
            adapter.subscriptions != Listening::Rooms,
            is_redis && is_sharded && !has_stream,
            "adapter.subscriptions counts with `redis+sharded://…` alone",
        ),
        (
            adapter.stream_name.is_some(),
            is_redis && has_stream,
            "adapter.stream_name counts with `redis-streams://…` alone",
        ),
        (
            adapter.specific_responses,
            is_redis && !is_sharded && !has_stream,
            "adapter.specific_responses counts with `redis://…` alone",
        ),
        (
            adapter.table.is_some(),
            matches!(scheme, "postgres" | "postgresql"),
            "adapter.table counts with `postgres://…` alone",
        ),
    ] {
        if is_set && !counts {
            return Err(AdapterFault::Option(fault));
        }
    }
    Ok(())
}

/// Returns the timeout for answers of other servers.
///
/// Servers that collect the confirmations of a message wait for their clients.
#[cfg_attr(
    not(any(feature = "nats", feature = "postgres", feature = "redis")),
    expect(dead_code, reason = "no adapter calls it")
)]
fn request_timeout(settings: &Settings) -> Duration {
    let for_clients = settings.chat.confirm_timeout.saturating_add(MARGIN);
    for_clients.max(DEFAULT_REQUEST_TIMEOUT)
}

/// The time for the request and the answer to travel.
const MARGIN: Duration = Duration::from_secs(2);
/// The default request timeout of an adapter.
const DEFAULT_REQUEST_TIMEOUT: Duration = Duration::from_secs(5);

impl fmt::Display for AdapterFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown => f.write_str(
                "adapter.url: expected `postgres://…`, or `redis://…`, `redis-streams://…`, each of these \
                 also with `rediss`, `+sentinel`, `+cluster` and `+sharded`, or `nats://…`, `nats+tls://…`, or `none`",
            ),
            Self::Url(fault) => write!(f, "adapter.url: {fault}"),
            Self::Option(fault) => f.write_str(fault),
            Self::Absent(feature) => write!(
                f,
                "adapter.url: this build has no such adapter: build with the feature `{feature}`"
            ),
            Self::NotShared => f.write_str(
                "adapter.url: servers that share an adapter must also share one store, so that \
                 messages have one order: set store.url to a PostgreSQL, or adapter.url to `none`",
            ),
            #[cfg(any(feature = "nats", feature = "postgres", feature = "redis"))]
            Self::Secret(fault) => write!(f, "adapter.secret: {fault}"),
        }
    }
}

impl std::error::Error for AdapterFault {}

#[cfg(test)]
mod tests {
    use super::*;

    fn fault(url: &str, store: &str) -> Option<AdapterFault> {
        let mut settings = Settings::default();
        settings.adapter.url = Some(url.into());
        settings.store.url = store.into();
        check(&settings).err()
    }

    #[cfg(all(feature = "nats", feature = "postgres", feature = "redis"))]
    #[test]
    fn a_url_names_an_adapter() {
        for url in [
            "none",
            "postgres://u:p@h/d",
            "postgresql://h/d?sslmode=disable",
            "redis://h",
            "redis://u:p@h:1/0",
            "rediss://h",
            "redis+sharded://h",
            "rediss+sharded://h",
            "redis+sentinel://h:1/service",
            "redis+sentinel+sharded://h:1/service",
            "redis+cluster://a:1,b:2",
            "rediss+cluster+sharded://a:1,b:2",
            "nats://h",
            "nats+tls://u:p@a:1,nats+tls://u:p@b:1",
            "redis-streams://h",
            "rediss-streams+cluster+sharded://a:1,b:2",
        ] {
            assert_eq!(fault(url, "postgres://h/d"), None, "{url}");
        }
    }

    #[cfg(feature = "postgres")]
    #[test]
    fn servers_sharing_a_postgresql_are_joined_unless_disabled() {
        let mut settings = Settings::default();
        settings.store.url = "postgres://h/d".into();
        assert_eq!(url(&settings), Some("postgres://h/d"));
        assert_eq!(check(&settings), Ok(()));
        settings.adapter.url = Some("none".into());
        assert_eq!(url(&settings), None);
    }

    #[test]
    fn invalid_url_is_rejected_without_its_password() {
        for url in [
            "redis",
            "canary",
            "mqtt://u:canary@h",
            "redis://u:canary@h:port",
            "redis+sentinel://u:canary@h:1",
            "redis+other://u:canary@h",
            "redis+sentinel://h/main?sentinel_passwort=canary",
            "nats://u:canary@h:port",
            "nats+other://u:canary@h",
            "postgres://u:canary@h:port/d",
            "postgres://u:canary@h/d?sslmode=prefer",
            "redis+sharded+sharded://u:canary@h",
        ] {
            let fault = fault(url, "postgres://h/d").map(|fault| fault.to_string());
            let text = fault.unwrap_or_else(|| panic!("{url} is taken"));
            assert!(
                text.starts_with("adapter.url: ") && !text.contains("canary"),
                "{text}"
            );
        }
    }

    #[cfg(all(feature = "postgres", feature = "redis"))]
    #[test]
    fn option_is_rejected_with_an_adapter_that_ignores_it() {
        type Set = fn(&mut crate::config::Adapter);
        let options: [(Set, &str, &str); 4] = [
            (
                |adapter| adapter.subscriptions = Listening::Namespaces,
                "redis+sharded://h",
                "redis://h",
            ),
            (
                |adapter| adapter.stream_name = Some("s".into()),
                "redis-streams://h",
                "redis+sharded://h",
            ),
            (
                |adapter| adapter.specific_responses = true,
                "redis+cluster://h",
                "redis-streams://h",
            ),
            (
                |adapter| adapter.table = Some("a.b".into()),
                "postgres://h/d",
                "redis://h",
            ),
        ];
        for (set, own, foreign) in options {
            for (url, is_taken) in [(own, true), (foreign, false)] {
                let mut settings = Settings::default();
                set(&mut settings.adapter);
                settings.adapter.url = Some(url.into());
                settings.store.url = "postgres://h/d".into();
                assert_eq!(check(&settings).is_ok(), is_taken, "{url}");
            }
        }
    }

    #[cfg(feature = "redis")]
    #[test]
    fn adapter_without_a_shared_store_is_rejected() {
        for store in ["memory:", "sqlite:chat.db"] {
            assert_eq!(fault("redis://h", store), Some(AdapterFault::NotShared));
            assert_eq!(fault("none", store), None);
        }
    }
}
