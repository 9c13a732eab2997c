//! Sections `[store]` and `[audit]`.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Section `[store]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Store {
    /// `postgres://USER:PASSWORD@HOST/DATABASE`, `sqlite:PATH` or `memory:`. Default
    /// `sqlite:roomcast.db`. Alias `ROOMCAST_STORE`. A reload applies only another user or
    /// password.
    pub url: String,
    /// Whether missing migrations are applied at start. If not, a database without them is refused
    /// until `roomcast migrate` has run. Default `true`.
    pub migrate: bool,
    /// The failures that an acknowledged message survives, with SQLite. Default
    /// [`Durability::Normal`]. PostgreSQL always commits with `synchronous_commit = on`.
    pub durability: Durability,
    /// Maximum size of the store in bytes. If it is reached, nothing is stored and senders are
    /// notified. PostgreSQL has its own limits and refuses this option. Default: 256 MiB for
    /// `memory:`, unlimited for `sqlite:`.
    pub max_bytes: Option<u64>,
    /// Maximum number of queued changes. When the queue is full, senders are asked to retry.
    /// Default 4,096.
    pub queue: usize,
    /// Maximum number of changes in one transaction. Default 256.
    pub max_batch: usize,
    /// Maximum number of database connections for reading. With SQLite, each uses a thread while it
    /// reads. Default 4.
    pub readers: usize,
    /// Maximum number of reads that wait for a connection. If it is reached, callers are asked to
    /// retry. Default 1,024.
    pub max_pending_reads: usize,
    /// How long to wait for an SQLite database that another process has locked. Default 1 s.
    #[serde(with = "humantime_serde")]
    pub busy_timeout: Duration,
    /// Concurrent write transactions in PostgreSQL, each on a separate connection. Transactions of
    /// the same conversation are sequential. Others take turns too, but none waits longer than 25
    /// ms for its turn, so that a blocked one does not block all. Default 4.
    pub writers: usize,
    /// Timeout of connecting to PostgreSQL. Default 3 s.
    #[serde(with = "humantime_serde")]
    pub connect_timeout: Duration,
    /// Timeout of waiting for a free connection to PostgreSQL. Default 2 s.
    #[serde(with = "humantime_serde")]
    pub pool_timeout: Duration,
    /// Timeout of a PostgreSQL statement, including its response. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub statement_timeout: Duration,
    /// How long a change is retried if PostgreSQL is unreachable or requests a retry. After that,
    /// its sender is asked to retry. Default 2 s.
    #[serde(with = "humantime_serde")]
    pub retry_timeout: Duration,
    /// Interval between health checks of PostgreSQL. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub health_interval: Duration,
    /// Timeout of a store operation, after which clients receive `STORE_UNAVAILABLE`. A change can
    /// still be stored later. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub answer_timeout: Duration,
    /// How long messages are retained. Default: forever.
    #[serde(with = "super::days")]
    pub retention: Option<Duration>,
    /// Interval between removals of older messages. Default 10 min.
    #[serde(with = "humantime_serde")]
    pub retention_interval: Duration,
    /// Approximate number of messages removed per transaction; other changes run in between.
    /// Default 500.
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
            max_batch: 256,
            readers: 4,
            max_pending_reads: 1024,
            busy_timeout: Duration::from_secs(1),
            writers: 4,
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
    /// Returns the section for a command that must not change the database, which opens it without
    /// migrations.
    pub(crate) fn unmigrated(&self) -> Self {
        Self {
            migrate: false,
            ..self.clone()
        }
    }

    /// Returns the URL without a password.
    #[must_use]
    pub fn shown_url(&self) -> String {
        shown_url(&self.url)
    }

    /// Returns whether the store is PostgreSQL, which several servers can share.
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        let scheme = self.url.split_once("://").map(|(scheme, _)| scheme);
        matches!(scheme, Some("postgres" | "postgresql"))
    }
}

/// Returns a URL without passwords.
pub(super) fn shown_url(url: &str) -> String {
    let (url, query) = without_password(url);
    let mut shown = url;
    for (index, parameter) in query.split('&').filter(|p| !p.is_empty()).enumerate() {
        shown.push(if index == 0 { '?' } else { '&' });
        // The parameter name can be percent-encoded.
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

/// Returns the URL of a service without possible secrets: the query and the password.
pub(super) fn shown_address(url: &str) -> String {
    let (mut shown, query) = without_password(url);
    if !query.is_empty() {
        shown.push_str("?***");
    }
    shown
}

/// Returns the part of a URL before its query, without the password, and the query. An unencoded
/// password can contain a question mark.
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

/// Returns whether two URLs of a database or a broker differ in user and password alone, and not in
/// the scheme, a host, a path or a parameter.
pub(crate) fn differ_in_credentials(one: &str, other: &str) -> bool {
    one != other && without_credentials(one) == without_credentials(other)
}

/// Returns the parts of a URL without its user and password. The URL of NATS can list several URLs,
/// each with its credentials.
fn without_credentials(url: &str) -> Vec<(&str, &str)> {
    match url.starts_with("nats") {
        true => url.split(',').map(place).collect(),
        false => vec![place(url)],
    }
}

/// Returns the scheme of a URL, and what follows its user and password.
fn place(url: &str) -> (&str, &str) {
    let Some((scheme, rest)) = url.split_once("://") else {
        return ("", url);
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let at = rest.get(..end).and_then(|authority| authority.rfind('@'));
    (scheme, at.and_then(|at| rest.get(at + 1..)).unwrap_or(rest))
}

/// The failures that an acknowledged message survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Durability {
    /// A killed process. A power failure can lose the most recent messages.
    Normal,
    /// A power failure as well, at the cost of one disk flush per transaction.
    Full,
}

/// Section `[audit]`: the records of administrative acts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Audit {
    /// How long entries are stored, at least a day. Default 365 days.
    #[serde(with = "crate::config::days")]
    pub retention: Duration,
    /// File to which entries are also written, as JSON lines. Only the server's user can read it. A
    /// full file is renamed to `FILE.1`, that one to `FILE.2`, and so on. Default: none.
    pub file: Option<PathBuf>,
    /// Maximum size of a file in bytes. Default 64 MiB.
    pub file_bytes: u64,
    /// Maximum number of files, including the current one. Default 8.
    pub files: usize,
}

impl Default for Audit {
    fn default() -> Self {
        Self {
            retention: Duration::from_secs(365 * 86_400),
            file: None,
            file_bytes: 64 << 20,
            files: 8,
        }
    }
}

impl Audit {
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.retention < SHORTEST_AUDIT {
            return Err("audit.retention must be at least a day");
        }
        Ok(())
    }
}

/// Minimum of `audit.retention`, so that no value of it removes acts of the last 24 hours.
const SHORTEST_AUDIT: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_user_and_password_count_as_credentials() {
        for (one, other, is_alike) in [
            ("postgres://u:a@h/d", "postgres://u:b@h/d", true),
            ("postgres://u:a@h/d?x=1", "postgres://v:b@h/d?x=1", true),
            ("postgres://u:a?b@h/d", "postgres://u:b@h/d", false),
            ("redis://h", "redis://:a@h", true),
            (
                "redis+cluster://u:a@h:1,i:2",
                "redis+cluster://u:b@h:1,i:2",
                true,
            ),
            (
                "redis+cluster://u:a@h:1,i:2",
                "redis+cluster://u:b@h:1,i:3",
                false,
            ),
            (
                "nats://u:a@h,nats://u:a@i",
                "nats://u:b@h,nats://u:b@i",
                true,
            ),
            (
                "nats://u:a@h,nats://u:a@i",
                "nats://u:b@j,nats://u:b@i",
                false,
            ),
            ("nats://u:a@h", "nats://u:b@h,nats://u:b@i", false),
            ("redis://u:a@h", "rediss://u:b@h", false),
            ("redis://u:a@h/0", "redis://u:b@h/1", false),
            ("redis://h?x=a@b", "redis://i?x=a@b", false),
            ("postgres://u:a@h/d", "postgres://u:b@i/d", false),
            (
                "postgres://h/d?password=a",
                "postgres://h/d?password=b",
                false,
            ),
            ("sqlite:a@b", "sqlite:c@b", false),
            ("postgres://u:a@h/d", "postgres://u:a@h/d", false),
        ] {
            assert_eq!(differ_in_credentials(one, other), is_alike, "{one} {other}");
        }
    }

    #[test]
    fn password_in_the_store_url_is_not_printed() {
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
