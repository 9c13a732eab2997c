//! What can go wrong with a store, at start and later.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// Why the store did not do what it was asked to; details are logged and never leave the server.
///
/// Whatever the variant, nothing of the request was stored, and a caller may try again after
/// [`StoreError::retry_after`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StoreError {
    /// More requests wait than the store's queue holds.
    Overloaded,
    /// The database refused: locked, full, read-only, broken, gone.
    Failed,
    /// The store was closed: the server is stopping.
    Closed,
}

impl StoreError {
    /// How long a caller should wait before it tries again.
    #[must_use]
    pub fn retry_after(self) -> Duration {
        match self {
            Self::Overloaded => Duration::from_millis(500),
            Self::Failed => Duration::from_secs(2),
            Self::Closed => Duration::from_secs(5),
        }
    }
}

impl fmt::Display for StoreError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Overloaded => "too many requests wait for the store",
            Self::Failed => "the store cannot be used at the moment",
            Self::Closed => "the store is closed",
        })
    }
}

impl std::error::Error for StoreError {}

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
        /// The database file.
        path: PathBuf,
        /// What the database said.
        reason: String,
    },
    /// A migration failed, or the database was written by another version.
    Migration {
        /// The database file.
        path: PathBuf,
        /// What failed.
        reason: String,
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
            Self::Database { path, reason } => {
                write!(f, "cannot open the database {}: {reason}", path.display())
            }
            Self::Migration { path, reason } => {
                write!(
                    f,
                    "cannot migrate the database {}: {reason}",
                    path.display()
                )
            }
            Self::Thread(reason) => write!(f, "cannot start the store's thread: {reason}"),
        }
    }
}

impl std::error::Error for OpenError {}
