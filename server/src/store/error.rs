//! The errors of a store, at start and later.

use std::fmt;
use std::time::Duration;

use tokio::sync::TryAcquireError;
use tokio::sync::mpsc::error::TrySendError;

/// The reason why the store could not handle a request. Details are logged and never leave the
/// server.
///
/// Nothing of the request was stored, except possibly after [`StoreError::Unknown`] and
/// [`StoreError::TimedOut`]. A caller may try again after [`StoreError::retry_after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreError {
    /// More requests are waiting than the store's queue holds.
    Overloaded,
    /// The database failed: it is locked, full, read-only, broken or unreachable.
    Failed,
    /// The database has not responded lately. The store sends no request until this time has
    /// passed.
    Suspended(Duration),
    /// The connection was lost during the commit, and the database did not return in time to report
    /// its outcome.
    ///
    /// If the change was committed, it will be emitted. A message that is sent again with the same
    /// `client_message_id` is stored once in any case.
    Unknown,
    /// The store neither succeeded nor failed within
    /// [`answer_timeout`](crate::config::Store::answer_timeout).
    ///
    /// A change may still be stored, and is emitted then. A message that is sent again with the
    /// same `client_message_id` is stored once in any case.
    TimedOut,
    /// The store is closed, because the server is shutting down.
    Closed,
}

impl StoreError {
    /// Returns how long a caller should wait before it tries again.
    #[must_use]
    pub fn retry_after(self) -> Duration {
        match self {
            Self::Overloaded => Duration::from_millis(500),
            Self::Failed | Self::Unknown | Self::TimedOut => Duration::from_secs(2),
            Self::Suspended(wait) => wait.max(Duration::from_millis(1)),
            // The server is shutting down: its clients connect to another server, or to this one
            // after its restart.
            Self::Closed => Duration::from_secs(5),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overloaded => "too many requests wait for the store",
            Self::Failed => "the store cannot be used at the moment",
            Self::Suspended(_) => "the store is suspended after failures",
            Self::Unknown => "the connection to the store was lost during a change",
            Self::TimedOut => "the store did not answer in time",
            Self::Closed => "the store is closed",
        })
    }
}

impl std::error::Error for StoreError {}

impl From<TryAcquireError> for StoreError {
    fn from(error: TryAcquireError) -> Self {
        match error {
            TryAcquireError::Closed => Self::Closed,
            TryAcquireError::NoPermits => Self::Overloaded,
        }
    }
}

impl<T> From<TrySendError<T>> for StoreError {
    fn from(error: TrySendError<T>) -> Self {
        match error {
            TrySendError::Full(_) => Self::Overloaded,
            TrySendError::Closed(_) => Self::Closed,
        }
    }
}

/// The reason why a store could not be opened, with the information an operator needs to fix it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL has no known form. The text does not contain credentials of the URL.
    Url(&'static str),
    /// The backend is not part of this build.
    Absent {
        /// The backend that the URL asks for.
        backend: &'static str,
        /// How to get the backend.
        remedy: &'static str,
    },
    /// The database could not be opened or set up.
    Database {
        /// The database file, or the server and database; without credentials.
        database: String,
        /// The message of the database.
        reason: String,
    },
    /// A migration failed, or another version wrote the database.
    Migration {
        /// The database file, or the server and database; without credentials.
        database: String,
        /// What failed.
        reason: String,
    },
    /// The database has a migration that differs from this version's. A version before 0.1.0, or a
    /// modified version, created the database.
    Divergent {
        /// The database file, or the server and database; without credentials.
        database: String,
        /// The name of the migration.
        migration: String,
    },
    /// Another server uses the database file.
    Taken {
        /// The database file.
        database: String,
        /// The process that holds the database and, once it listens, its address.
        by: String,
    },
    /// The writer thread could not be started.
    Thread(String),
}

impl fmt::Display for OpenError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Url(expected) => write!(f, "the store's URL is not usable: {expected}"),
            Self::Absent { backend, remedy } => {
                write!(f, "this build has no {backend} store: {remedy}")
            }
            Self::Database { database, reason } => {
                write!(f, "cannot open the database {database}: {reason}")
            }
            Self::Migration { database, reason } => {
                write!(f, "cannot migrate the database {database}: {reason}")
            }
            Self::Divergent {
                database,
                migration,
            } => write!(
                f,
                "cannot use the database {database}: {}: set store.url to a new database",
                divergence(migration)
            ),
            Self::Taken { database, by } => write!(
                f,
                "the database {database} is in use by {by}: stop that server, configure another \
                 database, or use PostgreSQL, which several servers can share"
            ),
            Self::Thread(reason) => write!(f, "cannot start the store's thread: {reason}"),
        }
    }
}

impl std::error::Error for OpenError {}

/// Describes a database with a migration that differs from this version's.
pub(super) fn divergence(migration: &str) -> String {
    format!(
        "its migration {migration} is not one of this version, so a version before 0.1.0 or a \
         modified version created it"
    )
}
