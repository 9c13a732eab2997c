//! Backups of a database file, and databases from backups.
//!
//! SQLite copies the pages itself. A plain copy of the file would lack what the write-ahead log
//! contains, or would mix two states.

use std::fs::{self, File};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags};

use super::{FILE_SUFFIXES, connect, with_suffix};
use crate::config::private_files;
use crate::store::error::divergence;
use crate::store::migrate;
use crate::store::opening::{CopyError, CopyProgress, DatabaseCopy, FormerDatabase};

type Observe<'a> = &'a mut dyn FnMut(CopyProgress);

/// Copies a database to a new file, as it is at one moment.
pub(in crate::store) fn backup(
    database: &Path,
    to: &Path,
    busy_timeout: Duration,
    observe: Observe<'_>,
) -> Result<DatabaseCopy, CopyError> {
    if exists(to)? {
        return Err(CopyError::file(to, "it exists: choose another name"));
    }
    // A connection that may only read cannot open every database that no server uses.
    let source =
        connect(database, busy_timeout, false).map_err(|error| CopyError::file(database, error))?;
    let partial = with_suffix(to, ".partial");
    let written = copy(&source, database, &partial, observe).and_then(|copy| {
        let moved = fs::rename(&partial, to).and_then(|()| flush_folder(to));
        moved.map_err(|error| CopyError::file(to, error))?;
        Ok(DatabaseCopy {
            file: to.to_owned(),
            ..copy
        })
    });
    if written.is_err() {
        // An incomplete backup must not be mistaken for a complete one.
        let _ = remove(&partial, &FILE_SUFFIXES);
    }
    written
}

/// Makes a backup the database. The caller has reserved the database.
pub(in crate::store) fn restore(
    database: &Path,
    from: &Path,
    former: FormerDatabase,
    busy_timeout: Duration,
    observe: Observe<'_>,
) -> Result<DatabaseCopy, CopyError> {
    if private_files::real_path(from).is_ok_and(|from| from == database) {
        return Err(CopyError::file(from, "it is the database itself"));
    }
    let kept = with_suffix(database, ".before-restore");
    let replaces = exists(database)?;
    if replaces && former == FormerDatabase::Refuse {
        let reason = format!(
            "the database exists: move it away, or add --force, which renames it to {}",
            kept.display()
        );
        return Err(CopyError::file(database, reason));
    }
    for suffix in KEPT_SUFFIXES {
        let earlier = with_suffix(&kept, suffix);
        if replaces && exists(&earlier)? {
            let reason = "it is of the database before an earlier restore: move it away";
            return Err(CopyError::file(&earlier, reason));
        }
    }
    let source = open_backup(from, busy_timeout)?;
    let partial = with_suffix(database, ".restoring");
    let restored = copy(&source, from, &partial, observe).and_then(|copy| {
        let former = replaces.then_some(kept);
        identify_again(&partial).map_err(|error| unreadable(from, &error))?;
        replace(database, &partial, former.as_deref())
            .map_err(|error| CopyError::file(database, error))?;
        Ok(DatabaseCopy {
            file: database.to_owned(),
            former,
            ..copy
        })
    });
    if restored.is_err() {
        let _ = remove(&partial, &FILE_SUFFIXES);
    }
    restored
}

/// Gives a restored database another id. Positions in it that clients have received since the backup
/// may stand for other events in the future.
fn identify_again(copy: &Path) -> rusqlite::Result<()> {
    let connection = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // The copy is flushed by the commit, and has no other file afterwards.
    connection.execute_batch("UPDATE roomcast_schema SET store_id = lower(hex(randomblob(16)))")
}

/// Opens a backup without changing it.
fn open_backup(from: &Path, busy_timeout: Duration) -> Result<Connection, CopyError> {
    let failed = |error| CopyError::file(from, error);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let source = Connection::open_with_flags(from, flags).map_err(failed)?;
    source.busy_timeout(busy_timeout).map_err(failed)?;
    Ok(source)
}

/// Copies a database to a new file of mode 0600, checks the copy and flushes it to disk.
fn copy(
    source: &Connection,
    from: &Path,
    to: &Path,
    observe: Observe<'_>,
) -> Result<DatabaseCopy, CopyError> {
    let unwritable = |error: io::Error| CopyError::file(to, error);
    remove(to, &FILE_SUFFIXES).map_err(unwritable)?;
    private_files::make(to).map_err(unwritable)?;
    copy_pages(source, to, observe).map_err(|error| unreadable(from, &error))?;
    observe(CopyProgress::Checking);
    let copy = check(to, from)?;
    let file = File::open(to).map_err(unwritable)?;
    file.sync_all().map_err(unwritable)?;
    let bytes = file.metadata().map_err(unwritable)?.len();
    Ok(DatabaseCopy { bytes, ..copy })
}

/// Copies all pages of a database as they are at one moment.
fn copy_pages(source: &Connection, to: &Path, observe: Observe<'_>) -> rusqlite::Result<()> {
    // Within a transaction, changes by other processes do not make the copy start again.
    let snapshot = source.unchecked_transaction()?;
    snapshot.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let mut target = Connection::open_with_flags(to, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
    // A failed copy is removed, so it needs no journal. The whole file is flushed at the end.
    target.pragma_update(None, "journal_mode", "off")?;
    target.pragma_update(None, "synchronous", "off")?;
    let copying = Backup::new(&snapshot, &mut target)?;
    let mut progressed = Instant::now();
    loop {
        let step = copying.step(STEP_PAGES)?;
        let progress = copying.progress();
        let pages = |count| u32::try_from(count).unwrap_or(0);
        observe(CopyProgress::Copying {
            done: pages(progress.pagecount.saturating_sub(progress.remaining)),
            all: pages(progress.pagecount),
        });
        if step == StepResult::Done {
            return Ok(());
        }
        if step == StepResult::More {
            progressed = Instant::now();
        } else if progressed.elapsed() < LOCK_TIMEOUT {
            thread::sleep(LOCK_RETRY_DELAY);
        } else {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            let reason = "another program locks it".to_owned();
            return Err(rusqlite::Error::SqliteFailure(code, Some(reason)));
        }
    }
}

/// Checks a copy of `from`: its pages, and whether this version knows its schema.
fn check(copy: &Path, from: &Path) -> Result<DatabaseCopy, CopyError> {
    let failed = |error: rusqlite::Error| unreadable(from, &error);
    let connection = Connection::open_with_flags(copy, OpenFlags::SQLITE_OPEN_READ_WRITE)
        .and_then(|connection| {
            connection.pragma_update(None, "synchronous", "off")?;
            // A copy is one file that can also be read in a folder without write permission. A
            // server switches to the write-ahead log again.
            connection.pragma_update(None, "journal_mode", "delete")?;
            Ok(connection)
        })
        .map_err(failed)?;
    let faults = connection
        .prepare("PRAGMA integrity_check(3)")
        .and_then(|mut query| {
            let rows = query.query_map([], |row| row.get::<_, String>(0))?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        })
        .map_err(failed)?;
    if faults != ["ok"] {
        return Err(damaged(from, &faults.join("; ")));
    }
    let schema = migrate::sqlite_schema(&connection).map_err(failed)?;
    let Some(version) = schema.version else {
        return Err(CopyError::file(from, "it is not a database of Roomcast"));
    };
    if let Some(migration) = &schema.divergent {
        let reason = divergence(migration);
        let reason = format!("{reason}: use the program of the server that wrote it");
        return Err(CopyError::file(from, reason));
    }
    if version > schema.newest {
        let reason = format!(
            "its tables have version {version}, this program knows versions up to {}: use the \
             program of the server that wrote it",
            schema.newest
        );
        return Err(CopyError::file(from, reason));
    }
    let count = |table: &str| {
        let query = format!("SELECT count(*) FROM {table}");
        let count = connection.query_row(&query, [], |row| row.get::<_, i64>(0));
        count
            .map(|count| u64::try_from(count).unwrap_or(0))
            .map_err(failed)
    };
    Ok(DatabaseCopy {
        file: copy.to_owned(),
        bytes: 0,
        schema_version: version,
        pending_migrations: schema.pending,
        conversations: count("conversations")?,
        messages: count("messages")?,
        former: None,
    })
}

fn unreadable(from: &Path, error: &rusqlite::Error) -> CopyError {
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseCorrupt) => damaged(from, &error.to_string()),
        _ => CopyError::file(from, error),
    }
}

fn damaged(from: &Path, faults: &str) -> CopyError {
    CopyError::file(from, format_args!("the database is damaged: {faults}"))
}

/// Renames a new database to its name, and the former database to another one if that is given.
fn replace(database: &Path, new: &Path, former: Option<&Path>) -> io::Result<()> {
    let mut moved = Vec::new();
    let replaced = former
        .map_or(Ok(()), |former| set_aside(database, former, &mut moved))
        // What a lost database has left would be taken for a part of the new one.
        .and_then(|()| remove(database, &["-journal", "-wal", "-shm"]))
        .and_then(|()| fs::rename(new, database));
    if replaced.is_err() {
        for (from, to) in moved.iter().rev() {
            fs::rename(to, from)?;
        }
    }
    replaced.and_then(|()| flush_folder(database))
}

/// The suffixes of the files that are kept of a replaced database, in the order of their renaming:
/// the write-ahead log of a killed server contains commits, so it stays with its database.
const KEPT_SUFFIXES: [&str; 3] = ["-wal", "-journal", ""];

/// Renames a database and its logs, and adds the former and the new names to `moved`.
fn set_aside(
    database: &Path,
    former: &Path,
    moved: &mut Vec<(PathBuf, PathBuf)>,
) -> io::Result<()> {
    for suffix in KEPT_SUFFIXES {
        let (from, to) = (with_suffix(database, suffix), with_suffix(former, suffix));
        match fs::rename(&from, &to) {
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            renamed => {
                renamed?;
                moved.push((from, to));
            }
        }
    }
    Ok(())
}

/// Removes a file with these suffixes, as far as they exist.
fn remove(file: &Path, suffixes: &[&str]) -> io::Result<()> {
    for suffix in suffixes {
        match fs::remove_file(with_suffix(file, suffix)) {
            Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
            _ => {}
        }
    }
    Ok(())
}

/// Flushes the names of the files in the folder of a file to disk.
fn flush_folder(file: &Path) -> io::Result<()> {
    File::open(private_files::folder_of(file))?.sync_all()
}

/// Returns whether a file or a symbolic link exists.
fn exists(path: &Path) -> Result<bool, CopyError> {
    match fs::symlink_metadata(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(false),
        Err(error) => Err(CopyError::file(path, error)),
    }
}

/// The number of pages between two reports of progress.
const STEP_PAGES: i32 = 1024;
/// The maximum time without progress while another program locks a database.
const LOCK_TIMEOUT: Duration = Duration::from_secs(30);
/// The delay before a locked database is tried again.
const LOCK_RETRY_DELAY: Duration = Duration::from_millis(20);
