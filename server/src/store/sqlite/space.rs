//! The space of an SQLite database: what it uses, its maximum, and what its file system has left.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use rusqlite::Connection;

use crate::store::StoreSpace;

/// The space of a database. The writer notes what is used, and metrics read it.
#[derive(Debug)]
pub(super) struct Space {
    path: PathBuf,
    page_bytes: u64,
    max_bytes: Option<u64>,
    used_pages: AtomicU64,
}

impl Space {
    /// Reads the space of an open database.
    pub(super) fn of(
        connection: &Connection,
        path: PathBuf,
        max_bytes: Option<u64>,
    ) -> rusqlite::Result<Self> {
        let page_bytes: u32 = connection.pragma_query_value(None, "page_size", |row| row.get(0))?;
        Ok(Self {
            path,
            page_bytes: page_bytes.into(),
            max_bytes,
            used_pages: AtomicU64::new(used_pages(connection)?),
        })
    }

    /// Notes the pages of a committed transaction.
    pub(super) fn note(&self, used_pages: u64) {
        self.used_pages.store(used_pages, Ordering::Relaxed);
    }

    /// Returns the space now. The free bytes are read from the file system.
    pub(super) fn now(&self) -> StoreSpace {
        let disk = rustix::fs::statvfs(&self.path).ok();
        StoreSpace {
            used: self.used_pages.load(Ordering::Relaxed) * self.page_bytes,
            max: self.max_bytes,
            disk_free: disk.map(|disk| disk.f_bavail.saturating_mul(disk.f_frsize)),
        }
    }
}

/// Returns the number of pages with data. Free pages of the file are not included, because later
/// changes use them.
pub(super) fn used_pages(connection: &Connection) -> rusqlite::Result<u64> {
    let mut query = connection.prepare_cached(USED_PAGES)?;
    // SQLite has at most 2^32 - 2 pages.
    query
        .query_row([], |row| row.get::<_, u32>(0))
        .map(u64::from)
}

const USED_PAGES: &str =
    "SELECT page_count - freelist_count FROM pragma_page_count, pragma_freelist_count";
