//! Section `[store]`.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Section `[store]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// `postgres://USER:PASSWORD@HOST/DATABASE`, `sqlite:PATH` or `memory:`. Default
    /// `sqlite:roomcast.db`. Alias `ROOMCAST_STORE`.
    pub url: String,
    /// Whether missing migrations are applied at start; if not, a database that lacks some is
    /// refused until `roomcast migrate` was run. Default `true`.
    pub migrate: bool,
    /// What an acknowledged message survives, with SQLite. Default [`Durability::Normal`].
    /// PostgreSQL always commits with `synchronous_commit = on`.
    pub durability: Durability,
    /// Bytes the store may take; past that nothing more is stored and senders are told so.
    /// Default: 256 MiB for `memory:`, no limit but the disk's for a database. PostgreSQL has
    /// limits of its own and refuses this one.
    pub max_bytes: Option<u64>,
    /// Changes that may wait to be stored; past that senders are told to come back. Default 4,096.
    pub queue: usize,
    /// Changes that are stored in one transaction at most. Default 256.
    pub group: usize,
    /// Connections of the database that read, each on a thread while it does. Default 4.
    pub readers: usize,
    /// Reads that may wait for a connection; past that readers are told to come back.
    /// Default 1,024.
    pub waiting_reads: usize,
    /// How long to wait for an SQLite database that another process has locked. Default 1 s.
    #[serde(with = "humantime_serde")]
    pub busy_timeout: Duration,
    /// Transactions that may be under way in PostgreSQL at the same time, each on a connection of its
    /// own. Those of one conversation follow one another; those of others wait up to 25 ms for one another, so that one
    /// that is held up does not hold up all. Default 4.
    pub lanes: usize,
    /// How long PostgreSQL may take to open a connection. Default 3 s.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// How long to wait for a connection of the pool that reads. Default 2 s.
    #[serde(with = "humantime_serde")]
    pub pool_timeout: Duration,
    /// How long PostgreSQL may take for one statement, and for its answer to arrive. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,
    /// How long a change is tried again when PostgreSQL cannot be reached or asks to try again,
    /// before its sender is told to come back. Default 2 s.
    #[serde(with = "humantime_serde")]
    pub retry_timeout: Duration,
    /// How often PostgreSQL is asked whether it is there. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub health_interval: Duration,
    /// How long whoever wants something of the store waits, whatever the database does; then clients
    /// are told `STORE_UNAVAILABLE`. What was to be stored may still be. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub answer_timeout: Duration,
    /// How long messages are kept. Default: for ever.
    #[serde(with = "humantime_serde")]
    pub retention: Option<Duration>,
    /// How often the server looks for messages that are older. Default 10 min.
    #[serde(with = "humantime_serde")]
    pub retention_interval: Duration,
    /// Messages that are removed at a time, about; between two times others have their turn. Default
    /// 500.
    pub retention_batch: usize,
}

impl Default for Store {
    fn default() -> Self {
        Self {
            url: "sqlite:roomcast.db".into(),
            migrate: true,
            durability: Durability::Normal,
            max_bytes: None,
            queue: 4096,
            group: 256,
            readers: 4,
            waiting_reads: 1024,
            busy_timeout: Duration::from_secs(1),
            lanes: 4,
            connect_timeout: Duration::from_secs(3),
            pool_timeout: Duration::from_secs(2),
            statement_timeout: Duration::from_secs(5),
            retry_timeout: Duration::from_secs(2),
            health_interval: Duration::from_secs(5),
            answer_timeout: Duration::from_secs(10),
            retention: None,
            retention_interval: Duration::from_secs(600),
            retention_batch: 500,
        }
    }
}

impl Store {
    /// The URL without the password that may be in it.
    #[must_use]
    pub fn shown_url(&self) -> String {
        shown_url(&self.url)
    }

    /// Whether the store is a PostgreSQL, which several servers can share.
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        let scheme = self.url.split_once("://").map(|(scheme, _)| scheme);
        matches!(scheme, Some("postgres" | "postgresql"))
    }
}

/// A URL without the password that may be in it.
pub(super) fn shown_url(url: &str) -> String {
    let (url, query) = without_password(url);
    let mut shown = url;
    for (index, parameter) in query.split('&').filter(|p| !p.is_empty()).enumerate() {
        shown.push(if index == 0 { '?' } else { '&' });
        // The name may be percent-encoded.
        let mut named = form_urlencoded::parse(parameter.as_bytes());
        let name = named
            .next()
            .map_or_else(String::new, |(name, _)| name.into_owned());
        if name.to_ascii_lowercase().contains("password") {
            shown.push_str(&name);
            shown.push_str("=***");
        } else {
            shown.push_str(parameter);
        }
    }
    shown
}

/// The address of a service without what may be a secret: its query and a user's password.
pub(super) fn shown_address(url: &str) -> String {
    let (mut shown, query) = without_password(url);
    if !query.is_empty() {
        shown.push_str("?***");
    }
    shown
}

/// A URL up to its query, without the password that may be in it, and its query. A password that is not
/// encoded may have a question mark in it.
pub(super) fn without_password(url: &str) -> (String, &str) {
    let Some((scheme, rest)) = url.split_once("://") else {
        let (url, query) = url.split_once('?').unwrap_or((url, ""));
        return (url.to_owned(), query);
    };
    let (before, query) = rest.split_once('?').unwrap_or((rest, ""));
    let (user, host, query) = match (before.rsplit_once('@'), rest.rsplit_once('@')) {
        (Some((user, host)), _) => (user, host, query),
        (None, Some((user, after))) if user.contains(':') && !before.contains('/') => {
            let (host, query) = after.split_once('?').unwrap_or((after, ""));
            (user, host, query)
        }
        (None, _) => return (format!("{scheme}://{before}"), query),
    };
    let (user, password) = user.split_once(':').unwrap_or((user, ""));
    let hidden = if password.is_empty() { "" } else { ":***" };
    (format!("{scheme}://{user}{hidden}@{host}"), query)
}

/// What an acknowledged message survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Durability {
    /// A killed process; a power failure may cost the last moments.
    Normal,
    /// A power failure too, at one disk flush per transaction.
    Full,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_password_in_the_stores_url_is_not_shown() {
        for (url, shown) in [
            ("sqlite:chat.db", "sqlite:chat.db"),
            ("memory:", "memory:"),
            ("postgres://u:secret@h:1/d", "postgres://u:***@h:1/d"),
            ("postgres://u:se@cret@h/d?x=1", "postgres://u:***@h/d?x=1"),
            ("postgres://u@h/d", "postgres://u@h/d"),
            (
                "postgres://h/d?user=u&password=secret&x=1",
                "postgres://h/d?user=u&password=***&x=1",
            ),
            (
                "postgres://h/d?pass%77ord=secret&sslpassword=secret",
                "postgres://h/d?password=***&sslpassword=***",
            ),
            ("postgres://u:sec?ret@h/d?x=1", "postgres://u:***@h/d?x=1"),
            ("postgres://h/d?user=a@b", "postgres://h/d?user=a@b"),
        ] {
            let store = Store {
                url: url.into(),
                ..Store::default()
            };
            assert_eq!(store.shown_url(), shown);
        }
    }
}
