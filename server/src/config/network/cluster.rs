//! Sections `[adapter]` and `[node]`: the cluster, and this server's identity in it.

use serde::{Deserialize, Deserializer, Serialize};

use crate::config::{
    Secret,
    store::{Store, shown_url},
};

/// Section `[adapter]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Adapter {
    /// Transport of events between servers that share a store: `redis://…` or `redis-streams://…`,
    /// `postgres://…`, `nats://…` or `nats+tls://…`, or `none`. For Redis, `rediss` adds TLS, and
    /// `+sentinel`, `+cluster` and `+sharded` may follow the scheme. Default: the PostgreSQL of the
    /// store, or `none` for any other store. A reload applies only another user or password.
    pub url: Option<String>,
    /// Prefix of channel names; servers with different keys do not communicate. Default
    /// `socket.io`, as on Node servers.
    pub key: String,
    /// Only with `+sharded`: the channels on which a server listens. `rooms` (Node: `dynamic`): one
    /// for each namespace and each room with members on this server. `namespaces` (`static`): one
    /// for each namespace. `sockets` (`dynamic-private`): additionally one for each socket. All
    /// servers must agree. Default `rooms`.
    pub subscriptions: Subscriptions,
    /// Only with `redis-streams`: name of the stream, 1 to 128 characters. Default: the key.
    pub stream_name: Option<String>,
    /// Only with `redis` in its classic form: whether responses to Node servers use a separate
    /// channel (`publishOnSpecificResponseChannel`). Default `false`.
    pub specific_responses: bool,
    /// Only with `postgres`: table for messages that are binary or longer than 7,999 bytes, 1 to
    /// 128 characters. A schema and a dot may precede the name. Default `socket_io_attachments`.
    pub table: Option<String>,
    /// Secrets for sealing messages between servers: the first one seals, all of them open. Each
    /// has at least 32 bytes; a single secret may be given without a list. Default: the secrets in
    /// the table `cluster_secrets` of the store.
    #[serde(deserialize_with = "one_or_more")]
    pub secret: Vec<Secret>,
    /// Whether unsealed messages are also accepted. Set it only during a rolling upgrade from
    /// servers that do not seal their messages. Default `false`.
    pub accept_plain: bool,
    /// Trust in clients of the broker: `servers` trusts only servers with the secret;
    /// `shared-with-node` trusts all clients, so that Node servers and emitters can take part.
    /// Default `servers`.
    pub trust: Trust,
}

/// Trust in clients of the broker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Trust {
    /// Only servers with the secret are trusted, and messages are sealed.
    #[default]
    Servers,
    /// All clients of the broker are trusted, and nothing is sealed.
    SharedWithNode,
}

/// Deserializes a secret or a list of secrets.
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

/// The channels on which a server listens.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Subscriptions {
    /// One for each namespace, and one for each room with members on this server.
    #[default]
    Rooms,
    /// One for each namespace.
    Namespaces,
    /// One for each namespace, for each room with members on this server, and for each socket.
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
    /// Returns the URL of the adapter: the configured one, or that of a shareable store. `None` if
    /// there is no adapter.
    #[must_use]
    pub fn url<'a>(&'a self, store: &'a Store) -> Option<&'a str> {
        match self.url.as_deref() {
            Some("none") => None,
            Some(url) => Some(url),
            None => Some(store.url.as_str()).filter(|_| store.is_postgres()),
        }
    }

    /// Returns the effective URL with its password hidden, or `none`.
    #[must_use]
    pub fn shown_url(&self, store: &Store) -> String {
        let Some(url) = self.url(store) else {
            return "none".to_owned();
        };
        let parts = url.rsplit_once('@').zip(url.split_once("://"));
        match parts {
            // In a NATS URL, a user name without a password is a secret token, and the URL may list
            // further servers.
            Some(((_, host), (scheme @ ("nats" | "nats+tls"), _))) => {
                format!("{scheme}://***@{host}")
            }
            Some(_) | None => shown_url(url),
        }
    }

    /// Returns a placeholder for each configured secret.
    pub(in crate::config) fn shown_secret(&self) -> Vec<Secret> {
        self.secret.iter().map(|_| Secret::hidden()).collect()
    }

    pub(in crate::config) fn check(&self) -> Result<(), &'static str> {
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
                "adapter.secret has no effect with adapter.trust = \"shared-with-node\": remove one of them",
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
    /// Name of this server in the cluster, which must be unique. 1 to 40 letters, digits, dots,
    /// hyphens and underscores. Default: a random name at each start.
    pub id: Option<String>,
    /// URL at which other servers of the cluster reach this one: `http://HOST:PORT`, or `https` if
    /// the server has TLS. Default: none. With `http` and an adapter, other servers forward
    /// requests of this server's sessions to it.
    pub address: Option<String>,
    /// Maximum number of concurrent requests that this server forwards to other servers. Further
    /// requests wait, and waiting polls are answered early, which frees slots. 0 forwards none.
    /// Default: `limits.connections`.
    pub max_forwarded: Option<usize>,
    /// Maximum number of concurrent WebSockets that this server forwards to other servers. Further
    /// ones are refused, and their clients continue polling. Default: `limits.connections`.
    pub max_tunnels: Option<usize>,
}

impl Node {
    pub(in crate::config) fn check(&self) -> Result<(), &'static str> {
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

/// Returns whether a text is a URL that ends after the port.
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

/// Minimum bytes of a secret.
const MIN_SECRET: usize = 32;
/// Maximum length of a key in bytes.
const MAX_KEY: usize = 128;
/// Maximum length of an id in bytes. It leaves room for a suffix that the server adds.
const MAX_ID: usize = 40;
/// Maximum length of a host name in bytes (RFC 1035, 2.3.4).
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
    fn node_id_is_valid_in_channel_and_session_names() {
        for id in ["a", "node-1.eu_west", &"a".repeat(40)] {
            assert!(is_id(id), "{id}");
        }
        for id in ["", "a b", "a/b", "é", &"a".repeat(41)] {
            assert!(!is_id(id), "{id}");
        }
    }

    #[test]
    fn password_in_the_adapter_url_is_not_printed() {
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
    fn adapter_without_a_url_is_the_postgresql_store() {
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
