//! The store in an SQLite database: one thread writes, a few connections read.
//!
//! The database is in WAL mode, so readers and the writer do not wait for each other.

mod copies;
#[cfg(test)]
mod plans;
mod reader;
mod space;
pub(super) mod sql;
mod writer;

use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use rustix::fs::Access;
use tokio::sync::mpsc;

pub(super) use self::copies::{backup, restore};
use self::reader::Readers;
use self::space::Space;
use self::writer::{Job, Order, Writer};
use super::in_progress::InProgress;
use super::lane::{self, Commits, EMISSION_LANES};
use super::write::{Write, request};
use super::{OpenError, StoreError, StoreSpace, StoreUsage, migrate};
use crate::config::private_files;
use crate::config::{self, Durability};
use crate::metrics::{Counter, Metrics};
use crate::supervisor::Supervisor;

/// A handle to a store in an SQLite database.
#[derive(Clone, Debug)]
pub(super) struct Sqlite(Arc<SqliteInner>);

#[derive(Debug)]
struct SqliteInner {
    /// The orders that wait for the writer.
    orders: mpsc::Sender<Order>,
    readers: Readers,
    healthy: Arc<AtomicBool>,
    changes: Arc<InProgress>,
    space: Arc<Space>,
    metrics: Arc<Metrics>,
}

impl Sqlite {
    /// Opens or creates the database and starts the writer thread.
    pub(super) fn open(
        path: PathBuf,
        config: &config::Store,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Result<(Self, Commits), OpenError> {
        let mut connection = prepare(&path, config)?;
        migrate::sqlite(&mut connection, &path, config.migrate)?;
        Self::start(connection, path, config, metrics, supervisor)
    }

    /// Creates a database that ends with this server, and starts the writer thread.
    pub(super) fn open_temporary(
        path: PathBuf,
        config: &config::Store,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Result<(Self, Commits), OpenError> {
        let created = protect(&path, true)
            .and_then(|()| create_temporary(&path, config).map_err(|error| error.to_string()));
        let connection = created.map_err(|reason| OpenError::Database {
            database: path.display().to_string(),
            reason,
        })?;
        Self::start(connection, path, config, metrics, supervisor)
    }

    /// Starts the writer thread on an open connection.
    fn start(
        connection: Connection,
        path: PathBuf,
        config: &config::Store,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Result<(Self, Commits), OpenError> {
        let space = Space::of(&connection, path.clone(), config.max_bytes);
        let space = Arc::new(space.map_err(|error| OpenError::Database {
            database: path.display().to_string(),
            reason: error.to_string(),
        })?);
        let (orders, waiting) = mpsc::channel(config.queue.max(1));
        // The number of stored changes that wait to be emitted has the same bound as the queue of
        // changes to store.
        let capacity = config.queue.div_ceil(EMISSION_LANES);
        let (lanes, commits) = lane::commits(EMISSION_LANES, capacity);
        let healthy = Arc::new(AtomicBool::new(true));
        let changes = Arc::<InProgress>::default();
        let writer = Writer::new(
            connection,
            lanes,
            Arc::clone(&healthy),
            Arc::clone(&changes),
            Arc::clone(&space),
            Arc::clone(&metrics),
        );
        let group = config.max_batch.max(1);
        supervisor
            .start_thread("store writer", move || writer.run(waiting, group))
            .map_err(|error| OpenError::Thread(error.to_string()))?;

        let readers = Readers::new(path, config, Arc::clone(&metrics));
        Ok((
            Self(Arc::new(SqliteInner {
                orders,
                readers,
                healthy,
                changes,
                space,
                metrics,
            })),
            commits,
        ))
    }

    pub(super) fn usage(&self) -> StoreUsage {
        let (orders, readers) = (&self.0.orders, &self.0.readers);
        let max_changes = orders.max_capacity();
        let (connections, waiting_reads) = readers.usage();
        StoreUsage {
            connections,
            max_connections: readers.max_running,
            waiting_reads,
            changes: max_changes.saturating_sub(orders.capacity()),
            max_changes,
        }
    }

    pub(super) fn space(&self) -> StoreSpace {
        self.0.space.now()
    }

    pub(super) fn submit(&self, write: Write) -> Result<(), StoreError> {
        self.order(Order::Write(write))
    }

    /// Runs SQL on the write connection, within the transaction of its group.
    ///
    /// The query may run twice: if the group fails, each of its orders is retried alone.
    pub(super) async fn write<T: Send + 'static>(
        &self,
        query: impl Fn(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (job, answer) = Job::new(query);
        let written = match self.order(Order::Job(job)) {
            Ok(()) => answer.wait().await,
            Err(error) => Err(error),
        };
        written.inspect_err(|_| self.0.metrics.count(Counter::StoreErrors))
    }

    /// Runs a query on a read connection.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.0.readers.read(query).await
    }

    fn order(&self, order: Order) -> Result<(), StoreError> {
        Ok(self.0.orders.try_send(order)?)
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.0.healthy.load(Ordering::Relaxed) && !self.0.changes.is_stuck()
    }

    pub(super) async fn close(&self) {
        let (reply, answer) = request();
        // An error means that the store is closed already. The close order waits for a slot in the
        // queue, after everything that is to be stored.
        if self.0.orders.send(Order::Close(reply)).await.is_ok() {
            let _ = answer.wait().await;
        }
        self.0.readers.close();
    }
}

/// Migrates a database to the schema of this version.
pub(super) fn migrate(path: &Path, config: &config::Store) -> Result<Vec<String>, OpenError> {
    let config = config::Store {
        migrate: true,
        ..config.clone()
    };
    let mut connection = prepare(path, &config)?;
    migrate::sqlite(&mut connection, path, true)
}

/// Checks that the database can be opened or created, without touching it.
pub(super) fn try_out(path: &Path, config: &config::Store) -> Result<(), OpenError> {
    let failed = |reason: String| OpenError::Database {
        database: path.display().to_string(),
        reason,
    };
    let needed = |place: &Path, access: Access| {
        rustix::fs::access(place, access)
            .map_err(|error| failed(format!("{}: {error}", place.display())))
    };
    // SQLite creates files next to the database.
    let folder = private_files::folder_of(path);
    needed(folder, Access::WRITE_OK | Access::EXEC_OK)?;
    if !path.exists() {
        let reason = "it does not exist, and store.migrate is false: run `roomcast migrate`";
        return if config.migrate {
            Ok(())
        } else {
            Err(failed(reason.into()))
        };
    }
    needed(path, Access::READ_OK | Access::WRITE_OK)?;
    let mut header = Vec::new();
    let file = File::open(path).and_then(|file| file.take(16).read_to_end(&mut header));
    file.map_err(|error| failed(error.to_string()))?;
    // An empty file is a database without tables.
    if header.is_empty() || header == b"SQLite format 3\0" {
        return Ok(());
    }
    Err(failed(
        "the file is not an SQLite database: set store.url to another path".into(),
    ))
}

/// Returns the version of the tables in a file, or `None` if it has none.
pub(super) fn version(path: &Path) -> Result<Option<i32>, OpenError> {
    if !path.exists() {
        return Ok(None);
    }
    let database = path.display().to_string();
    let schema = Connection::open_with_flags(path, OpenFlags::SQLITE_OPEN_READ_ONLY)
        .and_then(|connection| migrate::sqlite_schema(&connection));
    match schema {
        Ok(schema) => schema.known_version(&database),
        Err(error) => Err(OpenError::Database {
            database,
            reason: error.to_string(),
        }),
    }
}

/// Opens the write connection.
fn prepare(path: &Path, config: &config::Store) -> Result<Connection, OpenError> {
    let failed = |reason| OpenError::Database {
        database: path.display().to_string(),
        reason,
    };
    protect(path, config.migrate).map_err(failed)?;
    // If migrating is disabled, the database must exist.
    let connection = connect(path, config.busy_timeout, config.migrate).and_then(|connection| {
        set_up(&connection, config)?;
        Ok(connection)
    });
    connection.map_err(|error| failed(error.to_string()))
}

/// Creates a database with all tables that is not restored after a failure of the machine.
fn create_temporary(path: &Path, config: &config::Store) -> rusqlite::Result<Connection> {
    let connection = connect(path, config.busy_timeout, true)?;
    // Nothing is rolled back while the tables are created, because a failure ends the start.
    connection.pragma_update(None, "journal_mode", "off")?;
    connection.pragma_update(None, "synchronous", "off")?;
    migrate::create_in_sqlite(&connection)?;
    set_up(&connection, config)?;
    // The process can be killed, but its file is never opened again.
    connection.pragma_update(None, "synchronous", "off")?;
    Ok(connection)
}

/// Removes the access rights of other users from the database files.
fn protect(path: &Path, makes: bool) -> Result<(), String> {
    // SQLite names the accompanying files after the real path. It reports a missing folder itself.
    let Ok(real) = private_files::real_path(path) else {
        return Ok(());
    };
    let failed = |path: &Path, error| format!("{}: {error}", path.display());
    if makes {
        // SQLite would create it with the rights that the umask leaves.
        private_files::make(&real).map_err(|error| failed(&real, error))?;
    }
    // SQLite creates the accompanying files with the rights of the database file, but does not
    // change existing ones.
    for suffix in FILE_SUFFIXES {
        let file = with_suffix(&real, suffix);
        private_files::restrict(&file).map_err(|error| failed(&file, error))?;
    }
    Ok(())
}

/// Returns the path of a file of a database, whose name ends in this suffix.
fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// The suffixes of the files of a database: the database itself, and what SQLite writes beside it.
const FILE_SUFFIXES: [&str; 4] = ["", "-wal", "-shm", "-journal"];

/// Opens a connection with the settings that all connections need.
fn connect(path: &Path, busy_timeout: Duration, makes: bool) -> rusqlite::Result<Connection> {
    let mut flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    // Readers never create a database: an empty database in place of a missing one would look as if
    // all data were lost.
    flags.set(OpenFlags::SQLITE_OPEN_CREATE, makes);
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(busy_timeout)?;
    connection.pragma_update(None, "foreign_keys", true)?;
    connection.set_prepared_statement_cache_capacity(32);
    Ok(connection)
}

/// Applies the settings of the database and of the write connection.
fn set_up(connection: &Connection, config: &config::Store) -> rusqlite::Result<()> {
    // The mode is stored in the database. Readers continue while the writer commits.
    connection.pragma_update(None, "journal_mode", "wal")?;
    connection.pragma_update(
        None,
        "synchronous",
        match config.durability {
            Durability::Normal => "normal",
            Durability::Full => "full",
        },
    )?;
    // Without a limit, the write-ahead log would keep its largest size after a burst.
    connection.pragma_update(None, "journal_size_limit", JOURNAL_BYTES)?;
    if let Some(max_bytes) = config.max_bytes {
        let page_size: i64 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        let pages = i64::try_from(max_bytes).unwrap_or(i64::MAX) / page_size.max(1);
        connection.pragma_update(None, "max_page_count", pages.max(1))?;
    }
    Ok(())
}

/// The maximum size of the write-ahead log file after a checkpoint, in bytes.
const JOURNAL_BYTES: i64 = 64 << 20;

#[cfg(test)]
mod tests {
    use tempfile::TempDir;

    use super::*;

    #[tokio::test]
    async fn panicking_writer_stops_the_process_and_refuses_changes() {
        let folder = TempDir::new().unwrap();
        let (metrics, config) = (Arc::<Metrics>::default(), config::Store::default());
        let supervisor = Supervisor::new(&Arc::default());
        let path = folder.path().join("chat.db");
        let (store, _commits) = Sqlite::open(path, &config, metrics, &supervisor).unwrap();
        let killed = store.write(|_| -> rusqlite::Result<()> { panic!("killed by a test") });
        assert_eq!(killed.await, Err(StoreError::Unknown));
        supervisor.failed().await;
        assert_eq!(supervisor.fatal(), ["store writer"]);
        assert_eq!(store.write(|_| Ok(())).await, Err(StoreError::Closed));
        assert_eq!(supervisor.ended().len(), 1);
    }
}
