//! Opens the backend that the URL of a store names.
//!
//! Processes call [`Store::open`] at start. Only this module maps URLs to backends and reports
//! backends that are missing from the build. It must not know what is stored.

#![cfg_attr(
    not(feature = "postgres"),
    allow(clippy::unused_async, reason = "only PostgreSQL makes callers wait")
)]

mod copies;
mod holder;
mod location;
mod reservation;
mod secrets;
#[cfg(feature = "sqlite")]
mod temporary;

use std::path::PathBuf;
use std::sync::Arc;

pub use self::copies::{CopyError, CopyProgress, DatabaseCopy, FormerDatabase};
use self::location::Location;
pub use self::reservation::Reservation;
pub use self::secrets::ClusterSecrets;
#[cfg(feature = "sqlite")]
pub(super) use self::temporary::TemporaryFolder;
#[cfg(feature = "postgres")]
use super::postgres;
#[cfg(feature = "sqlite")]
use super::sqlite;
use super::{Backend, Commits, OpenError, Store};
use crate::config;
use crate::config::private_files;
use crate::metrics::Metrics;
use crate::supervisor::Supervisor;

impl Store {
    /// Opens the store that the configuration names, and creates or migrates its tables.
    ///
    /// Also returns the receiver of its commits. If that is dropped, nothing more is stored. The
    /// tasks of the store are not supervised; see [`open_supervised`](Self::open_supervised).
    ///
    /// # Errors
    ///
    /// If the URL is not usable, or the database cannot be opened, migrated or written.
    pub async fn open(
        config: &config::Store,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Commits), OpenError> {
        let supervisor = Supervisor::new(&Arc::default());
        supervisor.stop();
        Self::open_supervised(config, metrics, &supervisor).await
    }

    /// Opens a store in memory for tests. Its commits have no receiver, so it stores no messages.
    #[cfg(test)]
    pub(crate) async fn in_memory() -> Self {
        let config = config::Store {
            url: "memory:".to_owned(),
            ..config::Store::default()
        };
        let (store, _commits) = Self::open(&config, Arc::default()).await.unwrap();
        store
    }

    /// Opens the store. `supervisor` watches its tasks.
    ///
    /// # Errors
    ///
    /// If the URL is not usable, or the database cannot be opened, migrated or written.
    pub async fn open_supervised(
        config: &config::Store,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Result<(Self, Commits), OpenError> {
        #[cfg(feature = "sqlite")]
        let mut temporary = None;
        let (backend, commits) = match Location::parse(&config.url)? {
            #[cfg(feature = "sqlite")]
            Location::Memory => {
                let max_bytes = config.max_bytes.unwrap_or(MEMORY_BYTES);
                let folder = temporary.insert(TemporaryFolder::create(max_bytes)?);
                let config = config::Store {
                    max_bytes: Some(max_bytes),
                    ..config.clone()
                };
                let (path, metrics) = (folder.database(), Arc::clone(&metrics));
                let (sqlite, commits) =
                    sqlite::Sqlite::open_temporary(path, &config, metrics, supervisor)?;
                (Backend::Sqlite(sqlite), commits)
            }
            #[cfg(feature = "postgres")]
            Location::Postgres(url) => {
                let (postgres, commits) =
                    postgres::Postgres::open(&url, config, Arc::clone(&metrics), supervisor)
                        .await?;
                (Backend::Postgres(postgres), commits)
            }
            #[cfg(feature = "sqlite")]
            Location::Sqlite(path) => {
                let (sqlite, commits) =
                    sqlite::Sqlite::open(path, config, Arc::clone(&metrics), supervisor)?;
                (Backend::Sqlite(sqlite), commits)
            }
            #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
            absent => return Err(absent.absent()),
        };
        let store = Self {
            backend,
            patience: config.answer_timeout,
            fed: Arc::default(),
            metrics,
            #[cfg(feature = "sqlite")]
            temporary: temporary.map(Arc::new),
        };
        Ok((store, commits))
    }

    /// Checks the URL, which names the same database with other credentials, and returns what makes
    /// new connections use them. Connections that exist stay.
    ///
    /// # Errors
    ///
    /// If the URL is not usable.
    pub(crate) fn prepare_credentials(
        &self,
        config: &config::Store,
    ) -> Result<Box<dyn FnOnce() + Send>, OpenError> {
        match (&self.backend, Location::parse(&config.url)?) {
            #[cfg(feature = "postgres")]
            (Backend::Postgres(postgres), Location::Postgres(url)) => {
                postgres.prepare_credentials(&url, config)
            }
            (_, _) => Ok(Box::new(|| ())),
        }
    }

    /// Checks that the configuration names a usable store, without touching it.
    ///
    /// # Errors
    ///
    /// If the URL is not usable.
    pub fn check(config: &config::Store) -> Result<(), OpenError> {
        match Location::parse(&config.url)? {
            #[cfg(feature = "postgres")]
            Location::Postgres(url) => postgres::check(&url, config),
            #[cfg(not(feature = "postgres"))]
            absent @ Location::Postgres(_) => Err(absent.absent()),
            #[cfg(not(feature = "sqlite"))]
            absent @ (Location::Memory | Location::Sqlite(_)) => Err(absent.absent()),
            #[cfg(feature = "sqlite")]
            Location::Memory | Location::Sqlite(_) => Ok(()),
        }
    }

    /// Reserves the database, if it supports only one server.
    ///
    /// # Errors
    ///
    /// If the URL is not usable, or another server has reserved it.
    pub fn reserve(config: &config::Store) -> Result<Option<Reservation>, OpenError> {
        match Location::parse(&config.url)? {
            Location::Memory | Location::Postgres(_) => Ok(None),
            Location::Sqlite(path) => Reservation::of(&path).map(Some),
        }
    }

    /// Checks that the store can be opened and is fit for this version, without changing it.
    ///
    /// # Errors
    ///
    /// If the URL is not usable, the database cannot be reached, or its tables need a migration
    /// that this server is not allowed to run.
    pub async fn try_out(config: &config::Store) -> Result<(), OpenError> {
        match Location::parse(&config.url)? {
            #[cfg(feature = "sqlite")]
            Location::Memory => Ok(()),
            #[cfg(feature = "postgres")]
            Location::Postgres(url) => postgres::try_out(&url, config).await,
            #[cfg(feature = "sqlite")]
            Location::Sqlite(path) => sqlite::try_out(&path, config),
            #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
            absent => Err(absent.absent()),
        }
    }

    /// Reads the version of the tables and the clock of a database, without changing it.
    ///
    /// # Errors
    ///
    /// If the URL is not usable, or the database cannot be read.
    pub async fn examine(config: &config::Store) -> Result<Examination, OpenError> {
        match Location::parse(&config.url)? {
            #[cfg(feature = "sqlite")]
            Location::Memory => Ok(Examination::of_sqlite(None)),
            #[cfg(feature = "postgres")]
            Location::Postgres(url) => postgres::examine(&url, config).await,
            #[cfg(feature = "sqlite")]
            Location::Sqlite(path) => sqlite::version(&path).map(Examination::of_sqlite),
            #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
            absent => Err(absent.absent()),
        }
    }

    /// Returns the folder that makes the database file unsafe, because every user of the machine
    /// could replace the file.
    ///
    /// # Errors
    ///
    /// If the URL is not usable, or the folder cannot be read.
    pub fn unsafe_folder(config: &config::Store) -> Result<Option<PathBuf>, OpenError> {
        let Location::Sqlite(path) = Location::parse(&config.url)? else {
            return Ok(None);
        };
        let folder = private_files::folder_of(&path);
        private_files::open_folder(folder).map_err(|error| OpenError::Database {
            database: path.display().to_string(),
            reason: format!("{}: {error}", folder.display()),
        })
    }

    /// Reads the secrets of the cluster and the roles that could read them, or returns `None` if
    /// the store is not PostgreSQL.
    ///
    /// # Errors
    ///
    /// If the URL is not usable, or the table cannot be read.
    pub async fn cluster_secrets(
        config: &config::Store,
    ) -> Result<Option<ClusterSecrets>, OpenError> {
        match Location::parse(&config.url)? {
            #[cfg(feature = "postgres")]
            Location::Postgres(url) => postgres::cluster_secrets(&url, config).await.map(Some),
            #[cfg(not(feature = "postgres"))]
            absent @ Location::Postgres(_) => Err(absent.absent()),
            Location::Memory | Location::Sqlite(_) => Ok(None),
        }
    }

    /// Returns the statements that revoke PUBLIC's right to connect to the database.
    ///
    /// Returns `None` if PUBLIC has no such right, or if the store is not PostgreSQL.
    ///
    /// # Errors
    ///
    /// If the URL is not usable, or the database does not answer.
    pub async fn public_connect_revocation(
        config: &config::Store,
    ) -> Result<Option<String>, OpenError> {
        match Location::parse(&config.url)? {
            #[cfg(feature = "postgres")]
            Location::Postgres(url) => postgres::public_connect_revocation(&url, config).await,
            #[cfg(not(feature = "postgres"))]
            absent @ Location::Postgres(_) => Err(absent.absent()),
            Location::Memory | Location::Sqlite(_) => Ok(None),
        }
    }

    /// Migrates the database to the schema of this version and returns the applied migrations.
    ///
    /// Several processes may call this at the same time: one migrates, the rest wait.
    ///
    /// # Errors
    ///
    /// If the URL is not usable, or the database cannot be opened or migrated.
    pub async fn migrate(config: &config::Store) -> Result<Vec<String>, OpenError> {
        match Location::parse(&config.url)? {
            #[cfg(feature = "sqlite")]
            Location::Memory => Ok(Vec::new()),
            #[cfg(feature = "postgres")]
            Location::Postgres(url) => postgres::migrate(&url, config).await,
            #[cfg(feature = "sqlite")]
            Location::Sqlite(path) => sqlite::migrate(&path, config),
            #[cfg(not(all(feature = "sqlite", feature = "postgres")))]
            absent => Err(absent.absent()),
        }
    }
}

/// What [`Store::examine`] has read.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Examination {
    /// The version of the tables, 0 without tables.
    pub schema: i32,
    /// The version of the tables that this server creates.
    pub newest: i32,
    /// The seconds by which this machine's clock is ahead of the database's, if that has one.
    pub clock_ahead: Option<f64>,
}

#[cfg(feature = "sqlite")]
impl Examination {
    /// Describes a file with tables of a version. `None` if its tables are created at start.
    fn of_sqlite(version: Option<i32>) -> Self {
        let newest = super::migrate::newest_sqlite();
        Self {
            schema: version.unwrap_or(newest),
            newest,
            clock_ahead: None,
        }
    }
}

/// The size limit of a store in memory without `store.max_bytes`.
#[cfg(feature = "sqlite")]
const MEMORY_BYTES: u64 = 256 << 20;
