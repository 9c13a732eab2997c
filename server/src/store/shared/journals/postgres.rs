//! The SQL of journals, and the store methods that run it.
//!
//! Appending may be repeated: a repeated closed entry is found with the same body, and a repeated
//! open entry replaces itself.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Error, Row, error::SqlState, types::ToSql};

use crate::store::postgres::sql::{CachedStatements, record, signed, unsigned};
use crate::store::postgres::{Postgres, change, read};
use crate::store::{
    Amend, Append, Appended, Current, Entry, IfOpen, JournalView, Quota, Replace, StoreError, Time,
};

impl Postgres {
    pub(in crate::store) async fn append(&self, append: Append) -> Result<Appended, StoreError> {
        change!(self, client => self::append(client, &append))
    }

    pub(in crate::store) async fn append_all(
        &self,
        appends: Vec<Append>,
    ) -> Result<Vec<Appended>, StoreError> {
        change!(self, client => append_list(client, &appends))
    }

    pub(in crate::store) async fn replace(
        &self,
        replace: Replace,
    ) -> Result<Vec<Option<u64>>, StoreError> {
        change!(self, client => self::replace(client, &replace))
    }

    pub(in crate::store) async fn journal(
        &self,
        current: Current<'_>,
    ) -> Result<JournalView, StoreError> {
        read!(self, client => view(client, &current))
    }

    /// Replaces the current entry of a key under the lock of the journal's row, in one statement.
    ///
    /// If another server replaced the entry while the statement waited for the lock, nothing is
    /// stored. The revision number is then skipped.
    pub(in crate::store) async fn amend(&self, amend: Amend) -> Result<Option<Entry>, StoreError> {
        change!(self, client => client.query_opt_cached(
            "WITH taken AS (
                 UPDATE journals SET revision = revision + 1
                 WHERE name = $1 AND EXISTS (SELECT FROM journal_entries
                     WHERE journal = $1 AND key = $2 AND is_current AND revision = $3)
                 RETURNING revision),
             amended AS (
                 UPDATE journal_entries e
                 SET revision = t.revision, body = $4, is_open = $5, created_at = $6, expires_at = $7
                 FROM taken t
                 WHERE e.journal = $1 AND e.key = $2 AND e.is_current AND e.revision = $3
                 RETURNING e.revision, e.key, e.body, e.category, e.is_open, e.created_at, e.expires_at),
             fed AS (
                 INSERT INTO changes (topic, key) SELECT 'journals', revision::text || ':' || $1 FROM amended)
             SELECT * FROM amended",
            &[
                &amend.journal,
                &amend.key,
                &signed(amend.replaces),
                &amend.body,
                &amend.is_open,
                &amend.created_at.timestamp(),
                &amend.expires_at.map(Time::timestamp),
            ],
            record,
        ))
    }
}

/// Appends an entry under the lock of the journal's row, in one statement.
pub(in crate::store) async fn append(
    client: &ClientWrapper,
    append: &Append,
) -> Result<Appended, Error> {
    let (sql, share) = match append.quota {
        Quota::All => (APPEND, None),
        Quota::Share(share) => (APPEND_WITHIN_SHARE, Some(i64::from(share))),
        Quota::Without(_) | Quota::Dropping { .. } => {
            let appended = append_all(client, std::iter::once(append)).await?;
            return Ok(appended.into_iter().next().unwrap_or(Appended::Full));
        }
    };
    let if_open = if_open(append);
    let created_at = append.created_at.timestamp();
    let expires_at = append.expires_at.map(Time::timestamp);
    let most_open = i64::from(append.most_open);
    let mut parameters: Vec<&(dyn ToSql + Sync)> = vec![
        &append.journal,
        &append.key,
        &append.body,
        &append.category,
        &append.is_open,
        &if_open,
        &created_at,
        &expires_at,
        &append.needs_open,
        &most_open,
    ];
    if let Some(share) = &share {
        parameters.push(share);
    }
    client.query_one_cached(sql, &parameters, appended).await
}

const APPEND: &str = "
    SELECT outcome, revision, $2::text AS key, body, category, is_open, created_at, expires_at
    FROM roomcast_append($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)";

/// Like [`APPEND`], unless the category has as many open entries as its share, `$11`, allows.
///
/// The category is counted before the statement waits for the lock, so it may exceed its share by
/// the entries that are being appended. If the share is full, the maximum number of open entries is
/// passed as 0, which refuses new keys.
///
/// `OFFSET 0` makes PostgreSQL use the index of open entries. The index of categories also contains
/// closed entries.
const APPEND_WITHIN_SHARE: &str = "
    SELECT outcome, revision, $2::text AS key, body, category, is_open, created_at, expires_at
    FROM roomcast_append($1, $2, $3, $4, $5, $6, $7, $8, $9,
        CASE WHEN (SELECT count(*) FROM (
            SELECT e.category FROM journal_entries e
            WHERE e.journal = $1 AND e.is_current AND e.is_open
                AND (e.expires_at IS NULL OR e.expires_at > $7)
            OFFSET 0) AS open_ones
            WHERE open_ones.category = $4) < $11::bigint
        THEN $10::bigint ELSE 0::bigint END)";

/// Appends entries in order. The caller refuses shares.
async fn append_list(client: &ClientWrapper, appends: &[Append]) -> Result<Vec<Appended>, Error> {
    let is_plain = |append: &Append| {
        !append.is_open && !append.needs_open && matches!(append.quota, Quota::All)
    };
    if appends.len() > 1 && appends.iter().all(is_plain) {
        match append_new(client, appends).await {
            Ok(Some(appended)) => return Ok(appended),
            Err(error) if error.code() != Some(&SqlState::UNIQUE_VIOLATION) => return Err(error),
            Ok(None) | Err(_) => {}
        }
    }
    append_all(client, appends.iter()).await
}

/// Appends closed entries of new keys as one set, which takes PostgreSQL less time than
/// [`append_all`] does. Appends none and returns `None` if there is an entry of one of the keys.
///
/// `OFFSET 0` makes PostgreSQL look up each key. If a key is added meanwhile, or is in the list
/// twice, the index of current entries refuses it.
async fn append_new(
    client: &ClientWrapper,
    appends: &[Append],
) -> Result<Option<Vec<Appended>>, Error> {
    let journals = column(appends.iter(), |append| append.journal.as_str());
    let keys = column(appends.iter(), |append| append.key.as_str());
    let bodies = column(appends.iter(), |append| append.body.as_str());
    let categories = column(appends.iter(), |append| append.category.as_deref());
    let made_at = column(appends.iter(), |append| append.created_at.timestamp());
    let ends_at = column(appends.iter(), |append| {
        append.expires_at.map(Time::timestamp)
    });
    let revisions: Vec<i64> = client
        .query_cached(
            r#"WITH asked AS (
                 SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::text[], $5::timestamptz[],
                     $6::timestamptz[]) WITH ORDINALITY
                     AS a (journal, key, body, category, created_at, expires_at, place)),
             new AS (
                 SELECT * FROM asked WHERE NOT EXISTS (
                     SELECT FROM asked a WHERE EXISTS (
                         SELECT FROM journal_entries e
                         WHERE e.journal = a.journal AND e.key = a.key AND e.is_current OFFSET 0))),
             taken AS (
                 INSERT INTO journals AS j (name, revision)
                 SELECT journal, count(*) FROM new GROUP BY journal ORDER BY journal COLLATE "C"
                 ON CONFLICT (name) DO UPDATE SET revision = j.revision + excluded.revision
                 RETURNING name, revision),
             numbered AS (
                 SELECT n.*, t.revision - count(*) OVER (PARTITION BY journal)
                     + row_number() OVER (PARTITION BY journal ORDER BY place) AS revision
                 FROM new n JOIN taken t ON t.name = n.journal),
             stored AS (
                 INSERT INTO journal_entries (journal, revision, key, body, category, is_open, created_at,
                     expires_at)
                 SELECT journal, revision, key, body, category, false, created_at, expires_at FROM numbered)
             SELECT revision FROM numbered ORDER BY place"#,
            &[&journals, &keys, &bodies, &categories, &made_at, &ends_at],
            |row| row.try_get(0),
        )
        .await?;
    let stored = |(append, revision): (&Append, i64)| {
        Appended::Stored(Entry {
            revision: unsigned(revision),
            key: append.key.clone(),
            body: append.body.clone(),
            category: append.category.clone(),
            is_open: false,
            created_at: append.created_at,
            expires_at: append.expires_at,
        })
    };
    let appended = appends.iter().zip(revisions).map(stored).collect();
    Ok((!Vec::is_empty(&appended)).then_some(appended))
}

/// Appends entries in order in one statement, each under the lock of its journal's row and within
/// its quota. The caller refuses shares.
pub(in crate::store) async fn append_all(
    client: &ClientWrapper,
    appends: impl Iterator<Item = &Append> + Clone,
) -> Result<Vec<Appended>, Error> {
    let journals = column(appends.clone(), |append| append.journal.as_str());
    let keys = column(appends.clone(), |append| append.key.as_str());
    let bodies = column(appends.clone(), |append| append.body.as_str());
    let categories = column(appends.clone(), |append| append.category.as_deref());
    let opens = column(appends.clone(), |append| append.is_open);
    let if_opens = column(appends.clone(), if_open);
    let made_at = column(appends.clone(), |append| append.created_at.timestamp());
    let ends_at = column(appends.clone(), |append| {
        append.expires_at.map(Time::timestamp)
    });
    let needs_open = column(appends.clone(), |append| append.needs_open);
    let most_open = column(appends.clone(), |append| i64::from(append.most_open));
    let quotas = column(appends.clone(), |append| match append.quota {
        Quota::All | Quota::Share(_) => "all",
        Quota::Without(_) => "without",
        Quota::Dropping { .. } => "dropping",
    });
    let prefixes = column(appends.clone(), |append| match append.quota {
        Quota::All | Quota::Share(_) => None,
        Quota::Without(prefix) | Quota::Dropping { prefix, .. } => Some(prefix),
    });
    let dropped_bodies = column(appends.clone(), |append| match &append.quota {
        Quota::Dropping { body, .. } => Some(body.as_str()),
        Quota::All | Quota::Share(_) | Quota::Without(_) => None,
    });
    let dropped_ends = column(appends, |append| match &append.quota {
        Quota::Dropping { expires_at, .. } => Some(expires_at.timestamp()),
        Quota::All | Quota::Share(_) | Quota::Without(_) => None,
    });
    client
        .query_cached(
            "SELECT outcome, revision, key, body, category, is_open, created_at, expires_at
             FROM roomcast_append_within($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)
             ORDER BY place",
            &[
                &journals,
                &keys,
                &bodies,
                &categories,
                &opens,
                &if_opens,
                &made_at,
                &ends_at,
                &needs_open,
                &most_open,
                &quotas,
                &prefixes,
                &dropped_bodies,
                &dropped_ends,
            ],
            appended,
        )
        .await
}

fn column<'a, T>(
    appends: impl Iterator<Item = &'a Append>,
    value: impl Fn(&'a Append) -> T,
) -> Vec<T> {
    appends.map(value).collect()
}

fn if_open(append: &Append) -> &'static str {
    match append.if_open {
        IfOpen::Remove => "remove",
        IfOpen::Keep => "keep",
        IfOpen::Refuse => "refuse",
        IfOpen::RemoveOlder => "remove_older",
        IfOpen::KeepOlder => "keep_older",
    }
}

fn appended(row: &Row) -> Result<Appended, Error> {
    Ok(match row.try_get("outcome")? {
        "stored" => Appended::Stored(record(row)?),
        "there" => Appended::There(record(row)?),
        "absent" => Appended::Absent,
        _ => Appended::Full,
    })
}

/// Replaces open entries under the lock of the journal's row, in one statement.
async fn replace(client: &ClientWrapper, replace: &Replace) -> Result<Vec<Option<u64>>, Error> {
    let (keys, bodies): (Vec<&str>, Vec<&str>) = replace
        .entries
        .iter()
        .map(|(key, body)| (key.as_str(), body.as_str()))
        .unzip();
    let revisions: Vec<i64> = client
        .query_one_cached(
            "SELECT roomcast_replace($1, $2, $3, $4, $5)",
            &[
                &replace.journal,
                &keys,
                &bodies,
                &replace.created_at.timestamp(),
                &i64::from(replace.most_open),
            ],
            |row| row.try_get(0),
        )
        .await?;
    // The function returns 0 for an entry that it did not store.
    let revision = |number: i64| Some(unsigned(number)).filter(|revision| *revision > 0);
    Ok(revisions.into_iter().map(revision).collect())
}

/// Returns current entries and the revision. One statement reads both, so that they are consistent.
async fn view(client: &ClientWrapper, current: &Current<'_>) -> Result<JournalView, Error> {
    let rows = client
        .query_cached(
            "SELECT j.at, e.revision, e.key, e.body, e.category, e.is_open, e.created_at, e.expires_at
             FROM (SELECT coalesce((SELECT revision FROM journals WHERE name = $1), 0) AS at) j
             LEFT JOIN LATERAL (
                 (SELECT revision, key, body, category, is_open, created_at, expires_at
                  FROM journal_entries
                  WHERE journal = $1 AND is_current AND is_open AND ($2::text IS NULL OR category = $2)
                      AND (expires_at IS NULL OR expires_at > $5) AND revision < $6
                      AND NOT starts_with(body, $8)
                  ORDER BY revision DESC LIMIT $3)
                 UNION
                 (SELECT revision, key, body, category, is_open, created_at, expires_at
                  FROM journal_entries
                  WHERE journal = $1 AND is_current AND ($2::text IS NULL OR category = $2)
                      AND (expires_at IS NULL OR expires_at > $5) AND revision < $6
                      AND NOT ($7 AND is_open) AND NOT starts_with(body, $8)
                  ORDER BY revision DESC LIMIT $4)) e ON true
             ORDER BY e.revision",
            &[
                &current.journal,
                &current.category,
                &count(current.open),
                &count(current.newest),
                &current.now.timestamp(),
                &current.before.map_or(i64::MAX, signed),
                &current.is_closed,
                &current.excluded_prefix(),
            ],
            |row| {
                let number: Option<i64> = row.try_get("revision")?;
                let entry = number.map(|_| record(row)).transpose()?;
                Ok((unsigned(row.try_get("at")?), entry))
            },
        )
        .await?;
    let mut view = JournalView::default();
    for (revision, entry) in rows {
        view.revision = revision;
        view.entries.extend(entry);
    }
    Ok(view)
}

fn count(number: usize) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}
