//! Copies the database to a backup and back.

#![cfg_attr(
    not(feature = "sqlite"),
    allow(unused_variables, reason = "only SQLite databases are copied")
)]

use std::fmt;
use std::fs;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use serde::Serialize;

use super::{Location, Reservation};
#[cfg(feature = "sqlite")]
use crate::store::sqlite;
use crate::store::{OpenError, Store};
use crate::{config, config::private_files};

/// A finished and checked copy of a database.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct DatabaseCopy {
    /// The new file.
    pub file: PathBuf,
    /// The size of the new file.
    pub bytes: u64,
    /// The number of the last migration that was applied to the database.
    pub schema_version: i32,
    /// The number of migrations that this version will apply to the database.
    pub pending_migrations: usize,
    /// The number of conversations, including deleted ones that are not yet removed.
    pub conversations: u64,
    /// The number of messages.
    pub messages: u64,
    /// The former database, if the copy has replaced one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub former: Option<PathBuf>,
}

/// The progress of a copy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopyProgress {
    /// Pages of the database are being copied.
    Copying {
        /// The number of copied pages.
        done: u32,
        /// The number of all pages.
        all: u32,
    },
    /// The copy is being checked.
    Checking,
}

/// The reason why a database was not backed up or not restored. Nothing was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CopyError {
    /// The URL of the store is not usable, or a server uses the database.
    Open(OpenError),
    /// The store has no file that could be copied.
    Unsupported(&'static str),
    /// A file cannot be read, written or used.
    File {
        /// The file.
        file: PathBuf,
        /// What is wrong with the file, and what to do.
        reason: String,
    },
}

impl CopyError {
    pub(in crate::store) fn file(file: &Path, reason: impl fmt::Display) -> Self {
        Self::File {
            file: file.to_owned(),
            reason: reason.to_string(),
        }
    }
}

impl fmt::Display for CopyError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Open(error) => error.fmt(f),
            Self::Unsupported(reason) => f.write_str(reason),
            Self::File { file, reason } => write!(f, "{}: {reason}", file.display()),
        }
    }
}

impl std::error::Error for CopyError {}

impl From<OpenError> for CopyError {
    fn from(error: OpenError) -> Self {
        Self::Open(error)
    }
}

impl Store {
    /// Copies the SQLite database to a new file, as it is at one moment. A server may use the
    /// database in the meantime.
    ///
    /// # Errors
    ///
    /// If the store is not in an SQLite file, the new file exists or cannot be written, or the
    /// database is damaged or newer than this version. No new file is left then.
    pub fn backup(
        config: &config::Store,
        to: &Path,
        observe: &mut dyn FnMut(CopyProgress),
    ) -> Result<DatabaseCopy, CopyError> {
        let database = file_of(config)?;
        #[cfg(feature = "sqlite")]
        {
            sqlite::backup(&database, to, config.busy_timeout, observe)
        }
        #[cfg(not(feature = "sqlite"))]
        {
            Err(Location::Sqlite(database).absent().into())
        }
    }

    /// Makes a backup the SQLite database, which no server may use.
    ///
    /// `former` decides what happens to an existing database.
    ///
    /// # Errors
    ///
    /// If the store is not in an SQLite file, a server uses the database, the backup is damaged or
    /// newer than this version, or the database exists and must not be replaced. The database is
    /// unchanged then.
    pub fn restore(
        config: &config::Store,
        from: &Path,
        former: FormerDatabase,
        observe: &mut dyn FnMut(CopyProgress),
    ) -> Result<DatabaseCopy, CopyError> {
        let database = file_of(config)?;
        let database = private_files::real_path(&database)
            .map_err(|error| CopyError::file(&database, error))?;
        refuse_foreign_folder(&database)?;
        // No server can start until the database is complete.
        let _reservation = Reservation::of(&database)?;
        #[cfg(feature = "sqlite")]
        {
            sqlite::restore(&database, from, former, config.busy_timeout, observe)
        }
        #[cfg(not(feature = "sqlite"))]
        {
            Err(Location::Sqlite(database).absent().into())
        }
    }
}

/// What a restore does with an existing database.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum FormerDatabase {
    /// The restore is refused.
    Refuse,
    /// The database is renamed to `FILE.before-restore`, which must not exist.
    Rename,
}

/// Returns the file of an SQLite database.
fn file_of(config: &config::Store) -> Result<PathBuf, CopyError> {
    match Location::parse(&config.url)? {
        Location::Sqlite(path) => Ok(path),
        Location::Memory => Err(CopyError::Unsupported(
            "a store in memory ends with its server: set store.url to the SQLite file",
        )),
        Location::Postgres(_) => Err(CopyError::Unsupported(
            "this command is for SQLite: use pg_dump and pg_restore for PostgreSQL, as docs/backup.md \
             states in its section \"PostgreSQL\"",
        )),
    }
}

/// Refuses a restore by root into the folder of another user, whose server could not open the
/// files.
fn refuse_foreign_folder(database: &Path) -> Result<(), CopyError> {
    let folder = private_files::folder_of(database);
    let owner = fs::metadata(folder).map_err(|error| CopyError::file(folder, error))?;
    if geteuid().is_root() && owner.uid() != 0 {
        let owner = owner.uid();
        let reason = format!(
            "the folder belongs to user {owner}, who could not open a database of root: run the \
             command as that user, with `setpriv --reuid={owner} --clear-groups` or `sudo -u`"
        );
        return Err(CopyError::file(folder, reason));
    }
    Ok(())
}
