//! Journals: ordered lists of entries that services publish, one per subject, such as the trades of
//! one user.
//!
//! Revisions number the entries of a journal in commit order, on whichever server they are
//! appended. The last entry of a key is current. An open entry may be followed by another; a closed
//! one is final. So a final entry that is published twice is stored once, and of two concurrent
//! closings of an entry one wins.

#[cfg(feature = "postgres")]
pub(in crate::store) mod postgres;
#[cfg(feature = "sqlite")]
pub(in crate::store) mod sqlite;
mod written;

use std::time::SystemTime;

use crate::metrics::Timing;
use crate::store::statement::{Statement, record, values};
use crate::store::{Backend, Store, StoreError, Time};
pub use written::{Amend, Append, Appended, IfOpen, Quota, Replace, WITHDRAWAL};

/// An entry of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row, readers destructure it")]
pub struct Entry {
    /// Its position in the journal, larger than that of all earlier entries.
    pub revision: u64,
    /// The key of the entry's subject.
    pub key: String,
    /// The content, as JSON.
    pub body: String,
    /// The category within the journal, if it has categories.
    pub category: Option<String>,
    /// Whether another entry of its key may follow.
    pub is_open: bool,
    /// When it was appended.
    pub created_at: Time,
    /// When it expires, if it does.
    pub expires_at: Option<Time>,
}

record! { Entry => revision, key, body, category, is_open, created_at, expires_at }

/// The revision of a journal and the number of its open entries.
struct OpenCount {
    revision: u64,
    open: u64,
}

record! { OpenCount => revision, open }

/// The revision of a journal.
struct Reached {
    revision: u64,
}

record! { Reached => revision }

fn select_revision(journal: &str) -> Statement {
    Statement::new(
        "SELECT revision FROM journals WHERE name = $1",
        values![journal],
    )
}

/// Selects an [`OpenCount`]. One statement reads both, so that they are consistent.
fn select_open(journal: &str, now: Time) -> Statement {
    Statement::new(
        "SELECT coalesce((SELECT revision FROM journals WHERE name = $1), 0) AS revision,
             (SELECT count(*) FROM journal_entries
              WHERE journal = $1 AND is_current AND is_open
                  AND (expires_at IS NULL OR expires_at > $2)) AS open",
        values![journal, now],
    )
}

/// The entries of one category in a part of some journals.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "a row, readers destructure it")]
pub struct MeasuredPart {
    /// The category, if they have one.
    pub category: Option<String>,
    /// The number of entries.
    pub entries: u64,
    /// The bytes of their bodies.
    pub bytes: u64,
    /// The journal of the last entry of the whole part.
    pub last_journal: String,
    /// The revision of the last entry of the whole part.
    pub last_revision: u64,
}

record! { MeasuredPart => category, entries, bytes, last_journal, last_revision }

/// What is stored of a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row, readers destructure it")]
pub struct JournalSize {
    /// The name of the journal.
    pub journal: String,
    /// The number of entries.
    pub entries: u64,
    /// The bytes of their bodies.
    pub bytes: u64,
    /// Whether there are older entries, which are not counted.
    pub has_more: bool,
}

record! { JournalSize => journal, entries, bytes, has_more }

/// The beginning of the id of the database.
struct Epoch {
    epoch: String,
}

record! { Epoch => epoch }

/// Selects current entries of a journal.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "readers construct it")]
pub struct Current<'a> {
    /// The name of the journal.
    pub journal: &'a str,
    /// If set, selects only entries of this category.
    pub category: Option<&'a str>,
    /// The maximum number of open entries; the newest are selected.
    pub open: usize,
    /// The maximum number of further entries of any state; the newest are selected.
    pub newest: usize,
    /// Whether `newest` selects closed entries only.
    pub is_closed: bool,
    /// If set, selects only entries with a smaller revision.
    pub before: Option<u64>,
    /// Whether entries that withdraw their keys are included. They are excluded by default.
    pub with_withdrawn: bool,
    /// The current time. Entries that expire at this time or before are excluded.
    pub now: Time,
}

impl Current<'_> {
    /// Returns the beginning of the bodies that are excluded.
    pub(in crate::store) const fn excluded_prefix(&self) -> &'static str {
        if self.with_withdrawn {
            UNMATCHED_PREFIX
        } else {
            WITHDRAWAL
        }
    }
}

/// Matches no body, because bodies are JSON.
const UNMATCHED_PREFIX: &str = "\u{1}";

/// Selects successive entries of a journal.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "readers construct it")]
pub struct Stretch<'a> {
    /// The name of the journal.
    pub journal: &'a str,
    /// Selects entries with a larger revision than this.
    pub after: u64,
    /// Selects entries up to and including this revision.
    pub through: u64,
    /// Whether the newest of these entries are selected, instead of the oldest.
    pub is_newest: bool,
    /// The maximum number of entries.
    pub limit: usize,
    /// No entry is selected beyond the one with which the bodies have more bytes than this.
    pub bytes: usize,
    /// If set, entries that expire at this time or before are excluded.
    pub unexpired_at: Option<Time>,
}

/// A consistent view of a journal.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a result, callers destructure it"
)]
pub struct JournalView {
    /// The revision of its last entry; 0 if it has never had an entry.
    pub revision: u64,
    /// The entries in the order of their revisions.
    pub entries: Vec<Entry>,
}

/// Limits for the removal of entries from all journals.
#[derive(Clone, Copy, Debug)]
#[expect(clippy::exhaustive_structs, reason = "callers construct it")]
pub struct JournalSweep {
    /// Removes entries that expire at this time or before.
    pub now: Time,
    /// Removes replaced entries that are older than this.
    pub replaced_before: Time,
    /// Removes closed entries without an expiry time that are older than this.
    pub closed_before: Time,
    /// The maximum number of removed entries of each of the three kinds.
    pub limit: usize,
}

impl Store {
    /// Returns a text that identifies the database, in which revisions have a meaning: 8
    /// hexadecimal digits.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn epoch(&self) -> Result<String, StoreError> {
        let select = Statement::new(
            "SELECT substr(store_id::text, 1, 8) AS epoch FROM roomcast_schema",
            Vec::new(),
        )
        .for_sqlite("SELECT substr(store_id, 1, 8) AS epoch FROM roomcast_schema");
        let found: Vec<Epoch> = self.with_answer_timeout(self.rows(select)).await?;
        let found = found.into_iter().next().ok_or(StoreError::Failed)?;
        Ok(found.epoch)
    }

    /// Appends an entry to a journal, if the entry's conditions allow it.
    ///
    /// # Errors
    ///
    /// If it could not be stored. After [`StoreError::Unknown`] or [`StoreError::TimedOut`], it may
    /// still be stored.
    pub async fn append(&self, append: Append) -> Result<Appended, StoreError> {
        let appending = async {
            each!(self, backend => self.timed_answer(Timing::StoreJournal, backend.append(append)).await)
        };
        // Other servers are notified after the commit. Without the notification they poll for it.
        self.then_notify_feed(appending).await
    }

    /// Appends entries to journals in one transaction and returns the outcomes in the same order.
    ///
    /// The entries must be sorted by journal name. All transactions lock journals in this order, so
    /// that they cannot deadlock.
    ///
    /// # Errors
    ///
    /// If they could not be stored. After [`StoreError::Unknown`] or [`StoreError::TimedOut`], they
    /// may still be stored.
    pub async fn append_all(&self, appends: Vec<Append>) -> Result<Vec<Appended>, StoreError> {
        debug_assert!(appends.is_sorted_by(|a, b| a.journal <= b.journal));
        let has_share = |append: &Append| matches!(append.quota, Quota::Share(_));
        if appends.iter().any(has_share) {
            return Err(StoreError::Failed);
        }
        let appending = async {
            each!(self, backend => self.timed_answer(Timing::StoreJournal, backend.append_all(appends)).await)
        };
        self.then_notify_feed(appending).await
    }

    /// Replaces the current entry of a key, even a closed one, if the caller knows the current
    /// revision.
    ///
    /// Returns the new entry, which keeps the category of the replaced one, or `None` if another
    /// entry is current.
    ///
    /// # Errors
    ///
    /// If it could not be stored. After [`StoreError::Unknown`] or [`StoreError::TimedOut`], it may
    /// still be stored.
    pub async fn amend(&self, amend: Amend) -> Result<Option<Entry>, StoreError> {
        let amending = async {
            each!(self, backend => self.timed_answer(Timing::StoreJournal, backend.amend(amend)).await)
        };
        self.then_notify_feed(amending).await
    }

    /// Replaces open entries of one journal in one transaction.
    ///
    /// Returns the revision of each entry, or `None` if the limit of open entries is reached or the
    /// current entry is closed. Servers receive one notification for all entries if the journal is
    /// `prices`. For other journals that several servers follow, they receive none.
    ///
    /// # Errors
    ///
    /// If they could not be stored. After [`StoreError::Unknown`] or [`StoreError::TimedOut`], they
    /// may still be stored. The call may be repeated.
    pub async fn replace(&self, replace: Replace) -> Result<Vec<Option<u64>>, StoreError> {
        let replacing = async {
            each!(self, backend => self.timed_answer(Timing::StoreJournal, backend.replace(replace)).await)
        };
        self.then_notify_feed(replacing).await
    }

    /// Returns current entries of a journal and its revision at the same moment.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn journal(&self, current: Current<'_>) -> Result<JournalView, StoreError> {
        each!(self, backend => self.with_answer_timeout(backend.journal(current)).await)
    }

    /// Returns at most `limit` entries of a journal after one revision, up to and including
    /// `through`, in order.
    ///
    /// Replaced entries are included if they are retained.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn journal_after(
        &self,
        journal: &str,
        after: u64,
        through: u64,
        limit: usize,
    ) -> Result<Vec<Entry>, StoreError> {
        self.journal_stretch(Stretch {
            journal,
            after,
            through,
            is_newest: false,
            limit,
            bytes: usize::MAX,
            unexpired_at: None,
        })
        .await
    }

    /// Returns successive entries of a journal, in order. Replaced entries are included if they are
    /// retained.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn journal_stretch(&self, stretch: Stretch<'_>) -> Result<Vec<Entry>, StoreError> {
        macro_rules! in_order {
            ($order:literal) => {
                concat!(
                    "SELECT revision, key, body, category, is_open, created_at, expires_at
                     FROM (SELECT *, sum(octet_length(body)) OVER (ORDER BY revision ",
                    $order,
                    " ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) AS bytes_before
                         FROM (SELECT revision, key, body, category, is_open, created_at, expires_at
                             FROM journal_entries
                             WHERE journal = $1 AND revision > $2 AND revision <= $3
                                 AND (expires_at IS NULL OR expires_at > $4)
                             ORDER BY revision ",
                    $order,
                    " LIMIT $5) AS found) AS measured
                     WHERE coalesce(bytes_before, 0) <= $6 ORDER BY revision"
                )
            };
        }
        let Stretch {
            journal,
            after,
            through,
            is_newest,
            limit,
            bytes,
            unexpired_at,
        } = stretch;
        let sql = match is_newest {
            true => in_order!("DESC"),
            false => in_order!("ASC"),
        };
        let time = unexpired_at.unwrap_or_else(|| SystemTime::UNIX_EPOCH.into());
        let select = Statement::new(sql, values![journal, after, through, time, limit, bytes]);
        self.with_answer_timeout(self.rows(select)).await
    }

    /// Returns the revision of a journal: that of its last entry, and 0 if it has never had one.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn journal_revision(&self, journal: &str) -> Result<u64, StoreError> {
        let found: Vec<Reached> = self
            .with_answer_timeout(self.rows(select_revision(journal)))
            .await?;
        Ok(found.first().map_or(0, |reached| reached.revision))
    }

    /// Returns how many open entries of a journal have not expired at `now`, and the revision at
    /// that moment.
    ///
    /// # Errors
    ///
    /// If they could not be counted.
    pub async fn count_open(&self, journal: &str, now: Time) -> Result<(u64, u64), StoreError> {
        let counted: Vec<OpenCount> = self
            .with_answer_timeout(self.rows(select_open(journal, now)))
            .await?;
        let counted = counted.first().ok_or(StoreError::Failed)?;
        Ok((counted.revision, counted.open))
    }

    /// Returns the current entry of a key.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn journal_entry(
        &self,
        journal: &str,
        key: &str,
    ) -> Result<Option<Entry>, StoreError> {
        let select = Statement::new(
            "SELECT revision, key, body, category, is_open, created_at, expires_at
             FROM journal_entries WHERE journal = $1 AND key = $2 AND is_current",
            values![journal, key],
        );
        let found = self.with_answer_timeout(self.rows(select));
        Ok(found.await?.pop())
    }

    /// Counts at most `limit` entries of the journals whose names are `prefix` with `:` or `#` and any
    /// text: those that follow the entry `after`, with its journal and revision. Returns one part for
    /// each category.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn measure_journals(
        &self,
        prefix: &str,
        after: (&str, u64),
        limit: usize,
    ) -> Result<Vec<MeasuredPart>, StoreError> {
        // `;` follows `:`, and `#` precedes both.
        let (from, to) = (format!("{prefix}#"), format!("{prefix};"));
        let (journal, revision) = after;
        let journal = from.as_str().max(journal);
        let select = Statement::new(
            "WITH part AS (SELECT journal, revision, category, octet_length(body) AS bytes
                 FROM journal_entries WHERE (journal, revision) > ($1, $2) AND journal < $3
                 ORDER BY journal, revision LIMIT $4)
             SELECT category, count(*) AS entries, sum(bytes) AS bytes,
                 (SELECT journal FROM part ORDER BY journal DESC, revision DESC LIMIT 1) AS last_journal,
                 (SELECT revision FROM part ORDER BY journal DESC, revision DESC LIMIT 1) AS last_revision
             FROM part GROUP BY category",
            values![journal, revision, to.as_str(), limit],
        );
        self.with_answer_timeout(self.rows(select)).await
    }

    /// Replaces the body of the current entry of a key. Its revision stays, and no server is notified.
    /// Returns whether there is one.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn overwrite_entry(
        &self,
        journal: &str,
        key: &str,
        body: &str,
    ) -> Result<bool, StoreError> {
        let update = Statement::new(
            "UPDATE journal_entries SET body = $3
             WHERE journal = $1 AND key = $2 AND is_current",
            values![journal, key, body],
        );
        Ok(self.execute_timed(update).await? > 0)
    }

    /// Measures the entries of journals, among the `newest` revisions of each. A journal without
    /// such entries is left out.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn journal_sizes(
        &self,
        journals: Vec<String>,
        newest: usize,
    ) -> Result<Vec<JournalSize>, StoreError> {
        macro_rules! sizes {
            ($are_listed:literal) => {
                concat!(
                    "SELECT j.name AS journal, count(*) AS entries,
                         sum(octet_length(e.body)) AS bytes,
                         EXISTS (SELECT 1 FROM journal_entries o
                             WHERE o.journal = j.name AND o.revision <= j.revision - $2) AS has_more
                     FROM journals j JOIN journal_entries e
                         ON e.journal = j.name AND e.revision > j.revision - $2
                     WHERE j.name ",
                    $are_listed,
                    " GROUP BY j.name, j.revision"
                )
            };
        }
        let select = Statement::new(sizes!("= ANY($1)"), values![journals, newest])
            .for_sqlite(sizes!("IN (SELECT value FROM json_each($1))"));
        self.with_answer_timeout(self.rows(select)).await
    }

    /// Removes closed entries of a journal whose revision is smaller than `before`, and which were
    /// not appended after `appended_until`.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn trim_journal(
        &self,
        journal: &str,
        before: u64,
        appended_until: Time,
    ) -> Result<(), StoreError> {
        let delete = Statement::new(
            "DELETE FROM journal_entries
             WHERE journal = $1 AND revision < $2 AND created_at <= $3
                 AND is_current AND NOT is_open",
            values![journal, before, appended_until],
        );
        self.with_answer_timeout(self.tidy(delete)).await.map(drop)
    }

    /// Removes open entries appended before `before`, and open withdrawals appended before
    /// `withdrawn_before`.
    ///
    /// Returns how many. No server is notified.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn expire_journal(
        &self,
        journal: &str,
        before: Time,
        withdrawn_before: Time,
    ) -> Result<u64, StoreError> {
        // An entry that another server replaces concurrently stays.
        let delete = Statement::new(
            "DELETE FROM journal_entries
             WHERE journal = $1 AND is_current AND is_open AND (created_at < $2
                 OR (starts_with(body, $4) AND created_at < $3))",
            values![journal, before, withdrawn_before, WITHDRAWAL],
        )
        .for_sqlite(
            "DELETE FROM journal_entries
             WHERE journal = $1 AND is_current AND is_open AND (created_at < $2
                 OR (substr(body, 1, length($4)) = $4 AND created_at < $3))",
        );
        self.with_answer_timeout(self.tidy(delete)).await
    }

    /// Removes expired, replaced and old entries. Returns how many.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn sweep_journals(&self, sweep: JournalSweep) -> Result<u64, StoreError> {
        // Of several servers, each skips the rows that another one is removing.
        let delete = Statement::new(
            "WITH over AS MATERIALIZED (
                 SELECT journal, revision FROM journal_entries WHERE expires_at <= $1
                 LIMIT $4 FOR UPDATE SKIP LOCKED),
             replaced AS MATERIALIZED (
                 SELECT journal, revision FROM journal_entries WHERE NOT is_current AND created_at < $2
                 LIMIT $4 FOR UPDATE SKIP LOCKED),
             closed AS MATERIALIZED (
                 SELECT journal, revision FROM journal_entries
                 WHERE is_current AND NOT is_open AND created_at < $3 AND expires_at IS NULL
                 LIMIT $4 FOR UPDATE SKIP LOCKED),
             old AS (TABLE over UNION TABLE replaced UNION TABLE closed)
             DELETE FROM journal_entries e USING old
             WHERE e.journal = old.journal AND e.revision = old.revision",
            values![
                sweep.now,
                sweep.replaced_before,
                sweep.closed_before,
                sweep.limit,
            ],
        )
        .for_sqlite(
            "DELETE FROM journal_entries WHERE (journal, revision) IN (
                 SELECT * FROM (SELECT journal, revision FROM journal_entries
                     WHERE expires_at <= $1 LIMIT $4)
                 UNION SELECT * FROM (SELECT journal, revision FROM journal_entries
                     WHERE NOT is_current AND created_at < $2 LIMIT $4)
                 UNION SELECT * FROM (SELECT journal, revision FROM journal_entries
                     WHERE is_current AND NOT is_open AND created_at < $3 AND expires_at IS NULL
                     LIMIT $4))",
        );
        self.with_answer_timeout(self.tidy(delete)).await
    }
}
