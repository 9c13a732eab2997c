//! What can go wrong with a store, at start and later.

use std::fmt;
use std::time::Duration;

use tokio::sync::TryAcquireError;
use tokio::sync::mpsc::error::TrySendError;

/// Why the store did not do what it was asked to; details are logged and never leave the server.
///
/// Whatever the variant but [`StoreError::Unknown`] and [`StoreError::TimedOut`], nothing of the
/// request was stored. A caller may try again after [`StoreError::retry_after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreError {
    /// More requests wait than the store's queue holds.
    Overloaded,
    /// The database refused: locked, full, read-only, broken, gone.
    Failed,
    /// The database did not answer lately and is not asked before this has passed.
    Suspended(Duration),
    /// The connection was lost while the change was committed, and the database did not come back
    /// in time to say whether it was. If it was, it will be emitted. Sent again with the same
    /// `client_message_id`, a message is stored once in any case.
    Unknown,
    /// The store neither did it nor failed within
    /// [`answer_timeout`](crate::config::Store::answer_timeout). A change may still be stored, and is
    /// emitted then. Sent again with the same `client_message_id`, a message is stored once in any case.
    TimedOut,
    /// The store was closed: the server is stopping.
    Closed,
}

impl StoreError {
    /// How long a caller should wait before it tries again.
    #[must_use]
    pub fn retry_after(self) -> Duration {
        match self {
            Self::Overloaded => Duration::from_millis(500),
            Self::Failed | Self::Unknown | Self::TimedOut => Duration::from_secs(2),
            Self::Suspended(wait) => wait.max(Duration::from_millis(1)),
            // The server is stopping: its clients find another one, or this one when it is back.
            Self::Closed => Duration::from_secs(5),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overloaded => "too many requests wait for the store",
            Self::Failed => "the store cannot be used at the moment",
            Self::Suspended(_) => "the store is not asked for the moment",
            Self::Unknown => "the store was lost while it stored",
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

/// Why a store could not be opened: an error at start, with what a person needs to mend it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum OpenError {
    /// The URL is not of a known form; the credentials a URL may hold are not in here.
    Url(&'static str),
    /// The backend is not part of this build.
    Absent {
        /// The backend that the URL asks for.
        backend: &'static str,
        /// What has to be done to have it.
        remedy: &'static str,
    },
    /// The database could not be opened or set up.
    Database {
        /// The database file, or the server and database; without credentials.
        database: String,
        /// What the database said.
        reason: String,
    },
    /// A migration failed, or the database was written by another version.
    Migration {
        /// The database file, or the server and database; without credentials.
        database: String,
        /// What failed.
        reason: String,
    },
    /// Another server has the database file.
    Taken {
        /// The database file.
        database: String,
        /// The process that holds the database and, once it listens, its address.
        by: String,
    },
    /// The thread that writes could not be started.
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
            Self::Taken { database, by } => write!(
                f,
                "the database {database} is served by {by}: stop that one, give this one another \
                 database, or use PostgreSQL, which several servers may share"
            ),
            Self::Thread(reason) => write!(f, "cannot start the store's thread: {reason}"),
        }
    }
}

impl std::error::Error for OpenError {}
