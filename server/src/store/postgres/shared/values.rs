//! Versioned values and leased locks in PostgreSQL.
//!
//! A number is drawn from the sequence while its row is locked. So a later holder of a lock always
//! has a larger number, whatever the order of the requests.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use roomcast::adapter::values::{Expected, MAX_KEYS, Put, StoredValue};
use tokio_postgres::Error;

use super::leases::milliseconds;
use crate::store::StoreError;
use crate::store::postgres::sql::{CachedStatements, signed};
use crate::store::postgres::{Postgres, read};

impl Postgres {
    pub(in crate::store) async fn value(
        &self,
        key: &str,
    ) -> Result<Option<StoredValue>, StoreError> {
        read!(self, client => get(client, key))
    }

    pub(in crate::store) async fn put_value(
        &self,
        key: &str,
        expected: Expected,
        text: &str,
    ) -> Result<Option<Put>, StoreError> {
        read!(self, client => put(client, key, expected, text))
    }

    pub(in crate::store) async fn remove_value(
        &self,
        key: &str,
        expected: Expected,
    ) -> Result<Put, StoreError> {
        read!(self, client => remove(client, key, expected))
    }

    /// Returns the fencing number of the new holder, or `None` if another holder has the lock.
    pub(in crate::store) async fn lock_shared(
        &self,
        name: &str,
        holder: &str,
        lease: Duration,
    ) -> Result<Option<u64>, StoreError> {
        let lease = milliseconds(lease);
        read!(self, client => client.query_opt_cached(
            "INSERT INTO shared_locks (name, fence, holder, expires_at)
             VALUES ($1, nextval('shared_numbers'), $2,
                 clock_timestamp() + $3 * interval '1 millisecond')
             ON CONFLICT (name) DO UPDATE
             SET fence = nextval('shared_numbers'), holder = excluded.holder,
                 expires_at = clock_timestamp() + $3 * interval '1 millisecond'
             WHERE shared_locks.expires_at <= clock_timestamp()
                 OR shared_locks.holder = excluded.holder
             RETURNING fence",
            &[&name, &holder, &lease],
            |row| row.try_get(0).map(number),
        ))
    }

    pub(in crate::store) async fn renew_shared(
        &self,
        name: &str,
        fence: u64,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let (fence, lease) = (signed(fence), milliseconds(lease));
        read!(self, client => client.execute_cached(
            "UPDATE shared_locks SET expires_at = clock_timestamp() + $3 * interval '1 millisecond'
             WHERE name = $1 AND fence = $2 AND expires_at > clock_timestamp()",
            &[&name, &fence, &lease],
        ))
        .map(|renewed| renewed > 0)
    }

    pub(in crate::store) async fn unlock_shared(
        &self,
        name: &str,
        fence: u64,
    ) -> Result<bool, StoreError> {
        read!(self, client => client.execute_cached(
            "UPDATE shared_locks SET expires_at = '-infinity'
             WHERE name = $1 AND fence = $2 AND expires_at > clock_timestamp()",
            &[&name, &signed(fence)],
        ))
        .map(|unlocked| unlocked > 0)
    }
}

async fn get(client: &ClientWrapper, key: &str) -> Result<Option<StoredValue>, Error> {
    client
        .query_opt_cached(
            "SELECT version, value FROM shared_values WHERE key = $1",
            &[&key],
            |row| {
                let text: &str = row.try_get(1)?;
                Ok(StoredValue {
                    version: number(row.try_get(0)?),
                    text: text.into(),
                })
            },
        )
        .await
}

/// Stores a value. Returns `None` if the maximum number of values is reached.
async fn put(
    client: &ClientWrapper,
    key: &str,
    expected: Expected,
    text: &str,
) -> Result<Option<Put>, Error> {
    // An existing value is updated first. An insertion counts all values, which only a new value
    // needs.
    if expected != Expected::Nothing {
        let version = version_of(expected);
        let stored = client
            .query_opt_cached(
                "UPDATE shared_values SET version = nextval('shared_numbers'), value = $3
                 WHERE key = $1 AND ($2::int8 IS NULL OR version = $2) RETURNING version",
                &[&key, &version, &text],
                |row| row.try_get(0).map(number).map(Put::Stored),
            )
            .await?;
        if stored.is_some() {
            return Ok(stored);
        }
        if version.is_some() {
            // The version is read after the attempt and may be newer still. The caller reads the
            // value again anyway.
            return Ok(Some(Put::Conflict(version_at(client, key).await?)));
        }
    }
    let may_replace = expected == Expected::Anything;
    let most = MAX_KEYS as i64;
    let stored = client
        .query_opt_cached(
            "INSERT INTO shared_values AS known (key, version, value)
             SELECT $1, nextval('shared_numbers'), $3
             WHERE (SELECT count(*) FROM shared_values) < $4
             ON CONFLICT (key) DO UPDATE
             SET version = nextval('shared_numbers'), value = excluded.value WHERE $2
             RETURNING version",
            &[&key, &may_replace, &text, &most],
            |row| row.try_get(0).map(number).map(Put::Stored),
        )
        .await?;
    if stored.is_some() {
        return Ok(stored);
    }
    let known = version_at(client, key).await?;
    Ok(known.map(|version| Put::Conflict(Some(version))))
}

async fn remove(client: &ClientWrapper, key: &str, expected: Expected) -> Result<Put, Error> {
    let version = version_of(expected);
    if expected != Expected::Nothing {
        let removed = client
            .execute_cached(
                "DELETE FROM shared_values
                 WHERE key = $1 AND ($2::int8 IS NULL OR version = $2)",
                &[&key, &version],
            )
            .await?;
        if removed == 0 && version.is_some() {
            return Ok(Put::Conflict(version_at(client, key).await?));
        }
    } else if let Some(known) = version_at(client, key).await? {
        return Ok(Put::Conflict(Some(known)));
    }
    let sql = "SELECT nextval('shared_numbers')";
    client
        .query_one_cached(sql, &[], |row| row.try_get(0).map(number).map(Put::Stored))
        .await
}

async fn version_at(client: &ClientWrapper, key: &str) -> Result<Option<u64>, Error> {
    let known = get(client, key).await?;
    Ok(known.map(|entry| entry.version))
}

fn version_of(expected: Expected) -> Option<i64> {
    match expected {
        Expected::Version(version) => Some(signed(version)),
        Expected::Anything | Expected::Nothing | _ => None,
    }
}

/// Numbers of the sequence are positive.
fn number(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
