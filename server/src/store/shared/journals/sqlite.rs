//! The SQL of journals.

use rusqlite::{Connection, params};

use super::{OpenCount, Reached, select_open, select_revision};
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::sql::{CachedStatements, query, record, signed, unsigned};
use crate::store::{
    Amend, Append, Appended, Current, Entry, IfOpen, JournalView, Quota, Replace, StoreError,
};

impl Sqlite {
    pub(in crate::store) async fn append(&self, append: Append) -> Result<Appended, StoreError> {
        self.write(move |connection| self::append(connection, &append))
            .await
    }

    pub(in crate::store) async fn append_all(
        &self,
        appends: Vec<Append>,
    ) -> Result<Vec<Appended>, StoreError> {
        self.write(move |connection| {
            let appended = appends
                .iter()
                .map(|append| self::append(connection, append));
            appended.collect()
        })
        .await
    }

    pub(in crate::store) async fn replace(
        &self,
        replace: Replace,
    ) -> Result<Vec<Option<u64>>, StoreError> {
        self.write(move |connection| self::replace(connection, &replace))
            .await
    }

    pub(in crate::store) async fn journal(
        &self,
        current: Current<'_>,
    ) -> Result<JournalView, StoreError> {
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
        self.read(move |connection| {
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
            view(connection, &current)
        })
        .await
    }

    pub(in crate::store) async fn amend(&self, amend: Amend) -> Result<Option<Entry>, StoreError> {
        self.write(move |connection| self::amend(connection, &amend))
            .await
    }
}

/// Appends an entry, if its conditions allow it.
pub(in crate::store) fn append(
    connection: &Connection,
    append: &Append,
) -> rusqlite::Result<Appended> {
    let known = current(connection, &append.journal, &append.key)?;
    let now = append.created_at;
    match &known {
        Some(known)
            if !known.is_open || append.if_open == IfOpen::Refuse || append.is_outdated(known) =>
        {
            return Ok(Appended::There(known.clone()));
        }
        Some(known) if append.needs_open && known.expires_at.is_some_and(|end| end <= now) => {
            return Ok(Appended::Absent);
        }
        None if append.needs_open => return Ok(Appended::Absent),
        None if append.is_open && !make_room(connection, append)? => return Ok(Appended::Full),
        Some(_) | None => {}
    }
    put(connection, append, known.as_ref()).map(Appended::Stored)
}

/// Replaces open entries of one journal. The open entries are counted once for all new keys.
fn replace(connection: &Connection, replace: &Replace) -> rusqlite::Result<Vec<Option<u64>>> {
    let mut room = None;
    let mut revisions = Vec::with_capacity(replace.entries.len());
    for append in replace.each() {
        let known = current(connection, &append.journal, &append.key)?;
        let has_room = if let Some(known) = &known {
            known.is_open
        } else {
            let left = match room {
                Some(left) => left,
                None => {
                    let select = select_open(&append.journal, append.created_at);
                    let counted: Vec<OpenCount> = query(connection, &select)?;
                    let open = counted.first().map_or(0, |counted| counted.open);
                    u64::from(append.most_open).saturating_sub(open)
                }
            };
            room = Some(left.saturating_sub(1));
            left > 0
        };
        revisions.push(if has_room {
            Some(put(connection, &append, known.as_ref())?.revision)
        } else {
            None
        });
    }
    Ok(revisions)
}

/// Replaces the current entry of a key, if the caller knows its revision.
fn amend(connection: &Connection, amend: &Amend) -> rusqlite::Result<Option<Entry>> {
    let known = current(connection, &amend.journal, &amend.key)?;
    let Some(known) = known.filter(|known| known.revision == amend.replaces) else {
        return Ok(None);
    };
    let append = Append {
        category: known.category.clone(),
        is_open: amend.is_open,
        created_at: amend.created_at,
        expires_at: amend.expires_at,
        ..Append::new(amend.journal.clone(), amend.key.clone(), amend.body.clone())
    };
    put(connection, &append, Some(&known)).map(Some)
}

/// Stores an entry without further checks, in place of the current entry of its key.
fn put(connection: &Connection, append: &Append, known: Option<&Entry>) -> rusqlite::Result<Entry> {
    if let Some(known) = known {
        let gives_way = if append.if_open.keeps_replaced() {
            "UPDATE journal_entries SET is_current = 0 WHERE journal = ?1 AND revision = ?2"
        } else {
            "DELETE FROM journal_entries WHERE journal = ?1 AND revision = ?2"
        };
        connection.execute_cached(gives_way, params![append.journal, signed(known.revision)])?;
    }
    let revision: i64 = connection.query_one_cached(
        "INSERT INTO journals (name, revision) VALUES (?1, 1)
         ON CONFLICT (name) DO UPDATE SET revision = revision + 1 RETURNING revision",
        [&append.journal],
        |row| row.get(0),
    )?;
    connection.execute_cached(
        "INSERT INTO journal_entries
             (journal, revision, key, body, category, is_open, created_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)",
        params![
            append.journal,
            revision,
            append.key,
            append.body,
            append.category,
            append.is_open,
            append.created_at,
            append.expires_at,
        ],
    )?;
    Ok(Entry {
        revision: unsigned(revision),
        key: append.key.clone(),
        body: append.body.clone(),
        category: append.category.clone(),
        is_open: append.is_open,
        created_at: append.created_at,
        expires_at: append.expires_at,
    })
}

/// Closes the oldest entries if the quota requires it. Returns whether there is room.
fn make_room(connection: &Connection, append: &Append) -> rusqlite::Result<bool> {
    match &append.quota {
        Quota::All => Ok(!is_full(connection, append)?),
        Quota::Share(share) => {
            let open: u32 = connection.query_one_cached(
                "SELECT count(*) FROM (SELECT 1 FROM journal_entries INDEXED BY journal_entries_open
                 WHERE journal = ?1 AND is_current AND is_open AND category = ?3
                     AND (expires_at IS NULL OR expires_at > ?2)
                 LIMIT ?4)",
                params![append.journal, append.created_at, append.category, share],
                |row| row.get(0),
            )?;
            Ok(open < *share && !is_full(connection, append)?)
        }
        Quota::Without(prefix) => {
            let open: u32 = connection.query_one_cached(
                "SELECT count(*) FROM (SELECT 1 FROM journal_entries
                 WHERE journal = ?1 AND is_current AND is_open
                     AND (expires_at IS NULL OR expires_at > ?2)
                     AND substr(key, 1, length(?3)) <> ?3
                 LIMIT ?4)",
                params![append.journal, append.created_at, prefix, append.most_open],
                |row| row.get(0),
            )?;
            Ok(open < append.most_open)
        }
        Quota::Dropping {
            prefix,
            body,
            expires_at,
        } => {
            let oldest: Vec<String> = connection.query_cached(
                "SELECT key FROM journal_entries
                 WHERE journal = ?1 AND is_current AND is_open
                     AND (expires_at IS NULL OR expires_at > ?2)
                     AND substr(key, 1, length(?3)) = ?3
                 ORDER BY revision DESC LIMIT -1 OFFSET ?4",
                params![
                    append.journal,
                    append.created_at,
                    prefix,
                    append.most_open.saturating_sub(1)
                ],
                |row| row.get(0),
            )?;
            for key in oldest {
                self::append(connection, &append.closing(key, body.clone(), *expires_at))?;
            }
            Ok(true)
        }
    }
}

/// Returns whether the maximum number of open entries is reached.
///
/// Expired entries are excluded only if the total reaches the limit: an index alone answers the
/// first query, and the second reads rows.
fn is_full(connection: &Connection, append: &Append) -> rusqlite::Result<bool> {
    let open: u32 = connection.query_one_cached(
        "SELECT count(*) FROM (SELECT 1 FROM journal_entries INDEXED BY journal_entries_open
         WHERE journal = ?1 AND is_current AND is_open LIMIT ?2)",
        params![append.journal, append.most_open],
        |row| row.get(0),
    )?;
    if open < append.most_open {
        return Ok(false);
    }
    let open: u32 = connection.query_one_cached(
        "SELECT count(*) FROM (SELECT 1 FROM journal_entries
         WHERE journal = ?1 AND is_current AND is_open AND (expires_at IS NULL OR expires_at > ?2)
         LIMIT ?3)",
        params![append.journal, append.created_at, append.most_open],
        |row| row.get(0),
    )?;
    Ok(open >= append.most_open)
}

/// Returns current entries and the revision, read in one transaction.
fn view(connection: &Connection, current: &Current<'_>) -> rusqlite::Result<JournalView> {
    // Only a transaction makes the entries and the revision consistent.
    let transaction = connection.unchecked_transaction()?;
    let reached: Vec<Reached> = query(&transaction, &select_revision(current.journal))?;
    let mut entries = Vec::new();
    for (open_only, limit) in [(true, current.open), (false, current.newest)] {
        let condition = if open_only {
            OPEN
        } else if current.is_closed {
            CLOSED
        } else if current.category.is_some() {
            OF_CATEGORY
        } else {
            NEWEST
        };
        let found = transaction.query_cached(
            condition,
            params![
                current.journal,
                current.category,
                current.now,
                i64::try_from(limit).unwrap_or(i64::MAX),
                current.before.map_or(i64::MAX, signed),
                current.excluded_prefix()
            ],
            record,
        )?;
        entries.extend(found);
    }
    entries.sort_by_key(|entry: &Entry| entry.revision);
    // Open entries may also be among the newest entries.
    entries.dedup_by_key(|entry| entry.revision);
    Ok(JournalView {
        revision: reached.first().map_or(0, |reached| reached.revision),
        entries,
    })
}

const OPEN: &str = "SELECT * FROM journal_entries
    WHERE journal = ?1 AND is_current AND is_open AND (?2 IS NULL OR category = ?2)
        AND (expires_at IS NULL OR expires_at > ?3)
        AND revision < ?5 AND substr(body, 1, length(?6)) <> ?6
    ORDER BY revision DESC LIMIT ?4";
const NEWEST: &str = "SELECT * FROM journal_entries
    WHERE journal = ?1 AND is_current AND ?2 IS NULL AND (expires_at IS NULL OR expires_at > ?3)
        AND revision < ?5 AND substr(body, 1, length(?6)) <> ?6
    ORDER BY revision DESC LIMIT ?4";
const CLOSED: &str = "SELECT * FROM journal_entries
    WHERE journal = ?1 AND is_current AND NOT is_open AND (?2 IS NULL OR category = ?2)
        AND (expires_at IS NULL OR expires_at > ?3)
        AND revision < ?5 AND substr(body, 1, length(?6)) <> ?6
    ORDER BY revision DESC LIMIT ?4";
const OF_CATEGORY: &str = "SELECT * FROM journal_entries
    WHERE journal = ?1 AND is_current AND category = ?2 AND (expires_at IS NULL OR expires_at > ?3)
        AND revision < ?5 AND substr(body, 1, length(?6)) <> ?6
    ORDER BY revision DESC LIMIT ?4";

/// Returns the current entry of a key.
fn current(connection: &Connection, journal: &str, key: &str) -> rusqlite::Result<Option<Entry>> {
    connection.query_opt_cached(
        "SELECT * FROM journal_entries WHERE journal = ?1 AND key = ?2 AND is_current",
        [journal, key],
        record,
    )
}
