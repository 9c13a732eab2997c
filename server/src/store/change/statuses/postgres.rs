//! The SQL of statuses. Changes may be repeated.

use std::time::Duration;

use deadpool_postgres::ClientWrapper;
use tokio_postgres::{Error, Row};

use super::{NewStatus, Status, TICK, UserStatus};
use crate::store::postgres::sql::{CachedStatements, EXPIRE_LOCK, time};
use crate::store::postgres::{Postgres, change, read};
use crate::store::{StoreError, Time};

impl Postgres {
    /// Returns the stored status, or `None` if nothing has changed.
    pub(in crate::store) async fn set_status(
        &self,
        new: NewStatus,
        now: Time,
    ) -> Result<Option<UserStatus>, StoreError> {
        change!(self, client => set(client, &new, now))
    }

    pub(in crate::store) async fn remove_status(&self, user: &str) -> Result<bool, StoreError> {
        let removed = change!(self, client => client
            .execute_cached("DELETE FROM user_statuses WHERE user_id = $1", &[&user]));
        removed.map(|count| count > 0)
    }

    pub(in crate::store) async fn statuses(
        &self,
        users: Vec<String>,
        limit: usize,
        now: Time,
    ) -> Result<Vec<UserStatus>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        read!(self, client => client.query_cached(
            "SELECT user_id, status, text, set_at FROM user_statuses
             WHERE user_id = ANY($1) AND expires_at > $2 ORDER BY user_id LIMIT $3",
            &[&users, &now.timestamp(), &limit],
            status,
        ))
    }

    /// Removes expired statuses, unless another server is removing expired rows.
    pub(in crate::store) async fn expire_statuses(
        &self,
        now: Time,
        limit: usize,
    ) -> Result<u64, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        change!(self, client => client.execute_cached(
            "WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($1) AS locked),
             old AS MATERIALIZED (SELECT user_id FROM user_statuses WHERE expires_at <= $2
                 ORDER BY expires_at LIMIT $3)
             DELETE FROM user_statuses s USING old, mine WHERE mine.locked
                 AND s.user_id = old.user_id AND s.expires_at <= $2",
            &[&EXPIRE_LOCK, &now.timestamp(), &limit],
        ))
    }
}

async fn set(
    client: &ClientWrapper,
    new: &NewStatus,
    now: Time,
) -> Result<Option<UserStatus>, Error> {
    // One statement locks the row and decides by its current content.
    const SET: &str = "INSERT INTO user_statuses AS s (user_id, status, text, set_at, expires_at)
         VALUES ($1, $2, $3, $4::timestamptz, $4 + $5::int8 * interval '1 millisecond')
         ON CONFLICT (user_id) DO UPDATE SET status = $2, text = $3,
             set_at = greatest($4, s.set_at + $6::int8 * interval '1 millisecond'),
             expires_at = greatest($4, s.set_at + $6 * interval '1 millisecond')
                 + $5 * interval '1 millisecond'
         WHERE s.expires_at <= $4 OR s.status <> $2 OR s.text IS DISTINCT FROM $3
         RETURNING user_id, status, text, set_at";
    // A user without a row has this status already.
    const RESET: &str = "UPDATE user_statuses AS s SET status = $2, text = $3,
             set_at = greatest($4::timestamptz, s.set_at + $6::int8 * interval '1 millisecond'),
             expires_at = greatest($4, s.set_at + $6 * interval '1 millisecond')
                 + $5::int8 * interval '1 millisecond'
         WHERE user_id = $1 AND expires_at > $4 AND (status <> $2 OR text IS DISTINCT FROM $3)
         RETURNING user_id, status, text, set_at";
    let sql = if new.is_default() { RESET } else { SET };
    client
        .query_opt_cached(
            sql,
            &[
                &&*new.user_id,
                &new.status.as_str(),
                &new.text.as_deref(),
                &now.timestamp(),
                &millis(new.retention),
                &millis(TICK),
            ],
            status,
        )
        .await
}

fn status(row: &Row) -> Result<UserStatus, Error> {
    let text: Option<&str> = row.try_get("text")?;
    Ok(UserStatus {
        user_id: row.try_get::<_, &str>("user_id")?.into(),
        status: Status::of(row.try_get("status")?),
        text: text.map(Into::into),
        timestamp: time(row, "set_at")?,
    })
}

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
