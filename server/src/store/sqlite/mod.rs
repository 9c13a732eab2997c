//! The store in an SQLite database: one thread writes, a few connections read.
//!
//! The database is in WAL mode, so readers and the writer do not wait for each other.

mod blocks;
mod changes;
mod deletion;
mod deliveries;
mod invites;
mod journals;
mod keys;
mod logins;
#[cfg(test)]
mod plans;
mod queries;
mod reader;
mod sql;
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
use uuid::Uuid;

use self::reader::Readers;
use self::writer::{Job, Order, Writer};
use super::change::blocks::BlockChange;
use super::change::deliveries::{DeliveryChange, DeliveryOutcome};
use super::change::keys::{KeyChange, KeyState};
use super::change::logins::{Login, LoginChange, LoginOutcome, Revocation};
use super::change::{Authorship, Cursor, Invite, List, Search};
use super::in_progress::InProgress;
use super::lane::{self, Commits, EMISSION_LANES};
use super::rows::{Membership, Messages, Page, Version};
use super::write::{Write, request};
use super::{
    Append, Appended, Current, Entry, JournalSweep, JournalView, OpenError, Replace, StoreError,
    Time, migrate,
};
use crate::config::private_files;
use crate::config::{self, Durability};
use crate::metrics::Metrics;
use crate::supervisor::Supervisor;
use roomcast::network::Block;

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
            Arc::clone(&metrics),
        );
        let group = config.max_batch.max(1);
        supervisor
            .start_thread("store writer", move || writer.run(waiting, group))
            .map_err(|error| OpenError::Thread(error.to_string()))?;

        let readers = Readers::new(path, config, metrics);
        Ok((
            Self(Arc::new(SqliteInner {
                orders,
                readers,
                healthy,
                changes,
            })),
            commits,
        ))
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
        self.order(Order::Job(job))?;
        answer.wait().await
    }

    fn order(&self, order: Order) -> Result<(), StoreError> {
        Ok(self.0.orders.try_send(order)?)
    }

    pub(super) async fn change_logins(
        &self,
        change: LoginChange,
    ) -> Result<LoginOutcome, StoreError> {
        self.write(move |connection| logins::apply(connection, &change))
            .await
    }

    pub(super) async fn change_keys(&self, change: KeyChange) -> Result<KeyState, StoreError> {
        self.write(move |connection| keys::apply(connection, &change))
            .await
    }

    pub(super) async fn change_deliveries(
        &self,
        change: DeliveryChange,
    ) -> Result<DeliveryOutcome, StoreError> {
        self.write(move |connection| deliveries::apply(connection, &change))
            .await
    }

    pub(super) async fn change_blocks(&self, change: BlockChange) -> Result<(), StoreError> {
        self.write(move |connection| blocks::apply(connection, &change))
            .await
    }

    pub(super) async fn blocks(&self) -> Result<Vec<Block>, StoreError> {
        self.0.readers.read(blocks::list).await
    }

    pub(super) async fn insert_invite(
        &self,
        invite: Invite,
        limit: usize,
    ) -> Result<bool, StoreError> {
        self.write(move |connection| invites::insert(connection, &invite, limit, Time::now()))
            .await
    }

    pub(super) async fn invite(&self, token_hash: &str) -> Result<Option<Invite>, StoreError> {
        let token_hash = token_hash.to_owned();
        let find =
            move |connection: &Connection| invites::find(connection, &token_hash, Time::now());
        self.0.readers.read(find).await
    }

    pub(super) async fn delete_invites(&self, conversation: Uuid) -> Result<u64, StoreError> {
        self.write(move |connection| invites::remove(connection, conversation, Time::now()))
            .await
    }

    pub(super) async fn login(&self, id_hash: &str) -> Result<Option<Login>, StoreError> {
        let id_hash = id_hash.to_owned();
        self.0
            .readers
            .read(move |connection| logins::login(connection, &id_hash))
            .await
    }

    pub(super) async fn logins_of(&self, user: &str) -> Result<Vec<Login>, StoreError> {
        let user = user.to_owned();
        self.0
            .readers
            .read(move |connection| logins::of_user(connection, &user))
            .await
    }

    pub(super) async fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        self.0.readers.read(logins::revocations).await
    }

    pub(super) async fn membership(
        &self,
        conversation: Uuid,
        user: Option<&str>,
    ) -> Result<Option<Membership>, StoreError> {
        let user = user.map(str::to_owned);
        self.0
            .readers
            .read(move |connection| sql::membership(connection, conversation, user.as_deref()))
            .await
    }

    pub(super) async fn is_member(
        &self,
        conversation: Uuid,
        user: &str,
    ) -> Result<bool, StoreError> {
        let user = user.to_owned();
        self.0
            .readers
            .read(move |connection| sql::is_member(connection, conversation, &user))
            .await
    }

    pub(super) async fn conversations(
        &self,
        user: &str,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<List, StoreError> {
        let user = user.to_owned();
        self.0
            .readers
            .read(move |connection| queries::conversations(connection, &user, before, limit))
            .await
    }

    pub(super) async fn conversation_ids(
        &self,
        user: &str,
        limit: usize,
    ) -> Result<Vec<Uuid>, StoreError> {
        let user = user.to_owned();
        self.0
            .readers
            .read(move |connection| queries::conversation_ids(connection, &user, limit))
            .await
    }

    pub(super) async fn contacts(
        &self,
        user: &str,
        most_members: usize,
        limit: usize,
    ) -> Result<Vec<String>, StoreError> {
        let user = user.to_owned();
        self.0
            .readers
            .read(move |connection| queries::contacts(connection, &user, most_members, limit))
            .await
    }

    pub(super) async fn messages(
        &self,
        conversation: Uuid,
        user: Option<&str>,
        page: Page,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        let user = user.map(str::to_owned);
        self.0
            .readers
            .read(move |connection| {
                // One transaction reads membership and messages, so that a removed user gets
                // nothing newer than the removal.
                let transaction = connection.unchecked_transaction()?;
                if sql::last_seq(&transaction, conversation, user.as_deref())?.is_none() {
                    return Ok(None);
                }
                queries::messages(&transaction, conversation, page, limit, user.as_deref())
                    .map(Some)
            })
            .await
    }

    pub(super) async fn search(
        &self,
        user: &str,
        search: Search,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        let user = user.to_owned();
        self.0
            .readers
            .read(move |connection| queries::search(connection, &user, &search, limit))
            .await
    }

    pub(super) async fn versions(&self, message: Uuid) -> Result<Vec<Version>, StoreError> {
        self.0
            .readers
            .read(move |connection| queries::versions(connection, message))
            .await
    }

    pub(super) async fn conversation_of(&self, message: Uuid) -> Result<Option<Uuid>, StoreError> {
        self.0
            .readers
            .read(move |connection| queries::conversation_of(connection, message))
            .await
    }

    pub(super) async fn authorship(&self, message: Uuid) -> Result<Option<Authorship>, StoreError> {
        self.0
            .readers
            .read(move |connection| queries::authorship(connection, message))
            .await
    }

    pub(super) async fn expire(&self, time: Time, limit: usize) -> Result<u64, StoreError> {
        self.write(move |connection| changes::expire(connection, time, limit))
            .await
    }

    pub(super) async fn purge(&self, time: Time, limit: usize) -> Result<u64, StoreError> {
        self.write(move |connection| deletion::purge(connection, time, limit))
            .await
    }

    pub(super) async fn append(&self, append: Append) -> Result<Appended, StoreError> {
        self.write(move |connection| journals::append(connection, &append))
            .await
    }

    pub(super) async fn append_all(
        &self,
        appends: Vec<Append>,
    ) -> Result<Vec<Appended>, StoreError> {
        self.write(move |connection| {
            let appended = appends
                .iter()
                .map(|append| journals::append(connection, append));
            appended.collect()
        })
        .await
    }

    pub(super) async fn replace(&self, replace: Replace) -> Result<Vec<Option<u64>>, StoreError> {
        self.write(move |connection| journals::replace(connection, &replace))
            .await
    }

    pub(super) async fn journal(&self, current: Current<'_>) -> Result<JournalView, StoreError> {
        let Current {
            journal,
            category,
            open,
            newest,
            is_closed,
            with_withdrawn,
            before,
            now,
        } = current;
        let (journal, category) = (journal.to_owned(), category.map(str::to_owned));
        self.0
            .readers
            .read(move |connection| {
                let current = Current {
                    journal: &journal,
                    category: category.as_deref(),
                    open,
                    newest,
                    is_closed,
                    with_withdrawn,
                    before,
                    now,
                };
                journals::view(connection, &current)
            })
            .await
    }

    pub(super) async fn trim_journal(&self, journal: &str, before: u64) -> Result<(), StoreError> {
        let journal = journal.to_owned();
        self.write(move |connection| journals::trim(connection, &journal, before))
            .await
    }

    pub(super) async fn count_open(
        &self,
        journal: &str,
        now: Time,
    ) -> Result<(u64, u64), StoreError> {
        let journal = journal.to_owned();
        self.0
            .readers
            .read(move |connection| journals::count_open(connection, &journal, now))
            .await
    }

    pub(super) async fn journal_after(
        &self,
        journal: &str,
        after: u64,
        through: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        let journal = journal.to_owned();
        self.0
            .readers
            .read(move |connection| journals::after(connection, &journal, after, through, limit))
            .await
    }

    pub(super) async fn journal_entry(
        &self,
        journal: &str,
        key: &str,
    ) -> Result<Option<Entry>, StoreError> {
        let (journal, key) = (journal.to_owned(), key.to_owned());
        self.0
            .readers
            .read(move |connection| journals::current(connection, &journal, &key))
            .await
    }

    pub(super) async fn sweep_journals(&self, sweep: JournalSweep) -> Result<u64, StoreError> {
        self.write(move |connection| journals::sweep(connection, &sweep))
            .await
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
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let mut file = real.clone().into_os_string();
        file.push(suffix);
        let file = Path::new(&file);
        private_files::restrict(file).map_err(|error| failed(file, error))?;
    }
    Ok(())
}

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
