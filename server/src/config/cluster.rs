//! Sections `[adapter]` and `[node]`: what makes several servers one, and what one of them is called.

use serde::{Deserialize, Deserializer, Serialize};

use super::{
    Secret,
    store::{Store, shown_url},
};

/// Section `[adapter]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adapter {
    /// What carries events between servers that share a store: `redis://…` or `redis-streams://…`, with `rediss` for
    /// TLS, `+sentinel`, `+cluster` and `+sharded` behind that, `postgres://…`, `nats://…` or `nats+tls://…`, or `none`.
    /// Default: the PostgreSQL of the store; `none` where the store is no PostgreSQL.
    pub url: Option<String>,
    /// What the names of channels begin with; servers with different keys know nothing of each other. Default
    /// `socket.io`, as on Node servers.
    pub key: String,
    /// With `+sharded` alone: which channels a server listens on, one for each namespace and for each room that has members
    /// here (`rooms`; Node: `dynamic`), or for each namespace only (`namespaces`; `static`), or for each socket as well (`sockets`;
    /// `dynamic-private`). All servers must agree. Default `rooms`.
    pub subscriptions: Subscriptions,
    /// With `redis-streams` alone: the name of the stream, 1 to 128 characters. Default: the key.
    pub stream_name: Option<String>,
    /// With `redis` alone, in its classic form: whether Node servers are answered on a channel of their own
    /// (`publishOnSpecificResponseChannel`). Default `false`.
    pub specific_responses: bool,
    /// With `postgres` alone: the table of what is binary or longer than 7,999 bytes, 1 to 128 characters; a schema may stand before a
    /// point. Default `socket_io_attachments`.
    pub table: Option<String>,
    /// The secrets with which servers seal what they send each other: the first seals, all open. Each has 32 bytes or
    /// more; one may stand without a list. Default: those in the table `cluster_secrets` of the store.
    #[serde(deserialize_with = "one_or_more")]
    pub secret: Vec<Secret>,
    /// Whether what is not sealed is accepted too, for one rolling upgrade of servers that do not seal. Default `false`.
    pub accept_plain: bool,
    /// Who is trusted at the broker: with `servers` only servers that know the secret, with `shared-with-node` all who
    /// reach it, so that Node servers and emitters can take part. Default `servers`.
    pub trust: Trust,
}

/// Who is trusted at the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Trust {
    /// Servers that know the secret: what they send each other is sealed.
    #[default]
    Servers,
    /// All clients of the broker: nothing is sealed.
    SharedWithNode,
}

/// Reads a secret, or a list of secrets.
fn one_or_more<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Secret>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Secrets {
        One(Secret),
        More(Vec<Secret>),
    }
    Ok(match Secrets::deserialize(from)? {
        Secrets::One(secret) => vec![secret],
        Secrets::More(secrets) => secrets,
    })
}

/// The channels that a server listens on.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Subscriptions {
    /// One for each namespace, and one for each room that has members here.
    #[default]
    Rooms,
    /// One for each namespace.
    Namespaces,
    /// One for each namespace, for each room that has members here, and for each socket.
    Sockets,
}

impl Default for Adapter {
    fn default() -> Self {
        Self {
            url: None,
            key: "socket.io".into(),
            subscriptions: Subscriptions::Rooms,
            stream_name: None,
            specific_responses: false,
            table: None,
            secret: Vec::new(),
            accept_plain: false,
            trust: Trust::Servers,
        }
    }
}

impl Adapter {
    /// The URL, if there is an adapter: the configured one, else that of a store that several servers can share.
    #[must_use]
    pub fn url<'a>(&'a self, store: &'a Store) -> Option<&'a str> {
        match self.url.as_deref() {
            Some("none") => None,
            Some(url) => Some(url),
            None => Some(store.url.as_str()).filter(|_| store.is_postgres()),
        }
    }

    /// The URL that is in force, or `none`, without the password that may be in it.
    #[must_use]
    pub fn shown_url(&self, store: &Store) -> String {
        let Some(url) = self.url(store) else {
            return "none".to_owned();
        };
        let parts = url.rsplit_once('@').zip(url.split_once("://"));
        match parts {
            // A user without a password is a token there, and others may follow.
            Some(((_, host), (scheme @ ("nats" | "nats+tls"), _))) => {
                format!("{scheme}://***@{host}")
            }
            Some(_) | None => shown_url(url),
        }
    }

    /// As many secrets as are configured, without their texts.
    pub(super) fn shown_secret(&self) -> Vec<Secret> {
        self.secret.iter().map(|_| Secret::hidden()).collect()
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.url.as_deref() == Some("") {
            return Err("adapter.url is empty: `none` switches the adapter off");
        }
        let is_name = |name: &str| {
            (1..=MAX_KEY).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
        };
        if !is_name(&self.key) {
            return Err("adapter.key must have 1 to 128 ASCII characters without spaces");
        }
        if self
            .stream_name
            .as_deref()
            .is_some_and(|name| !is_name(name))
        {
            return Err("adapter.stream_name must have 1 to 128 ASCII characters without spaces");
        }
        let is_weak = |secret: &Secret| {
            let bytes = secret.expose().as_bytes();
            bytes.len() < MIN_SECRET || bytes.iter().all(|byte| Some(byte) == bytes.first())
        };
        if self.secret.iter().any(is_weak) {
            return Err(
                "adapter.secret has a secret of less than 32 bytes, or of one repeated character: \
                 `openssl rand -base64 48` makes a good one",
            );
        }
        if self.trust == Trust::SharedWithNode && !self.secret.is_empty() {
            return Err(
                "adapter.secret seals nothing with adapter.trust = \"shared-with-node\": remove one of them",
            );
        }
        if self.trust == Trust::SharedWithNode && self.accept_plain {
            return Err(
                "adapter.accept_plain is for servers that seal: remove it, or adapter.trust = \"shared-with-node\"",
            );
        }
        if self.table.as_deref().is_some_and(|name| !is_name(name)) {
            return Err("adapter.table must have 1 to 128 ASCII characters without spaces");
        }
        Ok(())
    }
}

/// Section `[node]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Node {
    /// What this server is called among those of its cluster; no two may be called alike. 1 to 40 letters, digits,
    /// dots, hyphens and underscores. Default: a random name with each start.
    pub id: Option<String>,
    /// Where other servers of the cluster reach this one: `http://HOST:PORT`, or `https` where the server has TLS.
    /// Default: they do not. With `http`, and an adapter, they hand requests of this server's sessions on to it.
    pub address: Option<String>,
    /// Requests of other servers' sessions that this server may have under way at the same time; further ones wait for
    /// their turn, and polls are answered sooner meanwhile. 0: none are handed on. Default: `limits.connections`.
    pub max_forwarded: Option<usize>,
    /// WebSockets of other servers' sessions that may go through this server at the same time; further ones are refused, and
    /// their clients go on polling. Default: `limits.connections`.
    pub max_tunnels: Option<usize>,
}

impl Node {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.id.as_deref().is_some_and(|id| !is_id(id)) {
            return Err(
                "node.id must have 1 to 40 characters: letters, digits, dots, hyphens, underscores",
            );
        }
        if self.address.as_deref().is_some_and(|at| !is_address(at)) {
            return Err("node.address must be http://HOST:PORT or https://HOST:PORT");
        }
        Ok(())
    }
}

fn is_id(id: &str) -> bool {
    let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    (1..=MAX_ID).contains(&id.len()) && id.bytes().all(is_part)
}

/// Whether it is the beginning of a URL, up to and with the port.
fn is_address(address: &str) -> bool {
    let rest = address.strip_prefix("http://");
    let rest = rest.or_else(|| address.strip_prefix("https://"));
    let Some((host, port)) = rest.and_then(|rest| rest.rsplit_once(':')) else {
        return false;
    };
    let is_port = port.bytes().all(|byte| byte.is_ascii_digit())
        && port.parse::<u16>().is_ok_and(|port| port > 0);
    let in_brackets = host
        .strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'));
    let is_host = match in_brackets {
        Some(host) => host.parse::<std::net::Ipv6Addr>().is_ok(),
        None => {
            let is_part = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
            !host.is_empty() && host.len() <= MAX_HOST && host.bytes().all(is_part)
        }
    };
    is_host && is_port
}

/// Bytes of the shortest secret.
const MIN_SECRET: usize = 32;
/// Bytes of the longest key.
const MAX_KEY: usize = 128;
/// Bytes of the longest id, which leaves room for what a server adds to it.
const MAX_ID: usize = 40;
/// Bytes of the longest name of a host (RFC 1035, 2.3.4).
const MAX_HOST: usize = 253;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_has_a_scheme_a_host_and_a_port() {
        for address in [
            "http://10.0.0.5:3000",
            "https://node-1.example:443",
            "http://[fd00::1]:3000",
        ] {
            assert!(is_address(address), "{address}");
        }
        for address in [
            "",
            "10.0.0.5:3000",
            "http://10.0.0.5",
            "http://:3000",
            "http://a:0",
            "http://a:70000",
            "http://a:+1",
            "http://a:1/",
            "http://u:p@a:1",
            "http://[x]:1",
            "ftp://a:1",
        ] {
            assert!(!is_address(address), "{address}");
        }
    }

    #[test]
    fn an_id_fits_into_names_of_channels_and_sessions() {
        for id in ["a", "node-1.eu_west", &"a".repeat(40)] {
            assert!(is_id(id), "{id}");
        }
        for id in ["", "a b", "a/b", "é", &"a".repeat(41)] {
            assert!(!is_id(id), "{id}");
        }
    }

    #[test]
    fn a_password_in_the_url_of_the_adapter_is_not_shown() {
        for (url, shown) in [
            ("none", "none"),
            ("redis://u:canary@h:1/0", "redis://u:***@h:1/0"),
            ("redis://:canary@h", "redis://:***@h"),
            (
                "rediss+cluster+sharded://u:canary@a:1,b:2",
                "rediss+cluster+sharded://u:***@a:1,b:2",
            ),
            ("nats://a,nats://b", "nats://a,nats://b"),
            ("nats+tls://canary@a:1", "nats+tls://***@a:1"),
            ("nats://u:canary@a,nats://u:canary@b", "nats://***@b"),
            (
                "redis+sentinel://u:canary@a:1,b:2/service",
                "redis+sentinel://u:***@a:1,b:2/service",
            ),
            (
                "redis+sentinel://a:1/service?sentinel_user=w&sentinel_password=canary",
                "redis+sentinel://a:1/service?sentinel_user=w&sentinel_password=***",
            ),
        ] {
            let adapter = Adapter {
                url: Some(url.into()),
                ..Adapter::default()
            };
            assert_eq!(adapter.shown_url(&Store::default()), shown);
        }
    }

    #[test]
    fn without_a_url_the_adapter_is_the_postgresql_of_the_store() {
        let store = |url: &str| Store {
            url: url.into(),
            ..Store::default()
        };
        for (url, of_store, expected, shown) in [
            (
                None,
                "postgres://u:p@h/d",
                "postgres://u:p@h/d",
                "postgres://u:***@h/d",
            ),
            (
                None,
                "postgresql://h/d",
                "postgresql://h/d",
                "postgresql://h/d",
            ),
            (Some("none"), "postgres://h/d", "", "none"),
            (
                Some("redis://h"),
                "postgres://h/d",
                "redis://h",
                "redis://h",
            ),
            (None, "sqlite:chat.db", "", "none"),
            (None, "memory:", "", "none"),
        ] {
            let adapter = Adapter {
                url: url.map(Into::into),
                ..Adapter::default()
            };
            let store = store(of_store);
            assert_eq!(adapter.url(&store).unwrap_or_default(), expected);
            assert_eq!(adapter.shown_url(&store), shown);
        }
    }
}
