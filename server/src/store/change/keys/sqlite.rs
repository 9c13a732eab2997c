//! The SQL of idempotency keys.

use rusqlite::{Connection, params};

use crate::store::StoreError;
use crate::store::change::keys::{Attempt, KeyChange, KeyState, found};
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::sql::CachedStatements;

impl Sqlite {
    pub(in crate::store) async fn change_keys(
        &self,
        change: KeyChange,
    ) -> Result<KeyState, StoreError> {
        self.write(move |connection| apply(connection, &change))
            .await
    }
}

/// Applies a change.
fn apply(connection: &Connection, change: &KeyChange) -> rusqlite::Result<KeyState> {
    match change {
        KeyChange::Begin(attempt) => return begin(connection, attempt),
        KeyChange::End {
            key,
            attempt,
            answer: Some(answer),
        } => {
            connection.execute_cached(
                "UPDATE api_keys SET status = ?3, body = ?4 WHERE key = ?1 AND attempt = ?2",
                params![key, attempt.to_string(), answer.status, answer.body],
            )?;
        }
        KeyChange::End {
            key,
            attempt,
            answer: None,
        } => {
            connection.execute_cached(
                "DELETE FROM api_keys WHERE key = ?1 AND attempt = ?2",
                params![key, attempt.to_string()],
            )?;
        }
        KeyChange::Sweep { now, keep } => {
            connection.execute_cached("DELETE FROM api_keys WHERE expires_at <= ?1", [now])?;
            connection.execute_cached(
                "DELETE FROM api_keys WHERE expires_at <=
                     (SELECT expires_at FROM api_keys ORDER BY expires_at DESC LIMIT 1 OFFSET ?1)",
                [i64::try_from(*keep).unwrap_or(i64::MAX)],
            )?;
        }
    }
    Ok(KeyState::First)
}

fn begin(connection: &Connection, attempt: &Attempt) -> rusqlite::Result<KeyState> {
    let id = attempt.id.to_string();
    let taken = connection.execute_cached(
        "INSERT INTO api_keys (key, request, attempt, locked_until, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT (key) DO UPDATE SET request = ?2, attempt = ?3, locked_until = ?4,
             expires_at = ?5, status = NULL, body = NULL
         WHERE expires_at <= ?6 OR attempt = ?3
             OR (status IS NULL AND locked_until <= ?6 AND request = ?2)",
        params![
            attempt.key,
            attempt.request,
            id,
            attempt.locked_until,
            attempt.expires_at,
            attempt.now
        ],
    )?;
    if taken > 0 {
        return Ok(KeyState::First);
    }
    let row = connection.query_opt_cached(
        "SELECT request, status, body FROM api_keys WHERE key = ?1",
        [&attempt.key],
        |row| {
            let request: String = row.get(0)?;
            Ok(found(attempt, &request, row.get(1)?, row.get(2)?))
        },
    )?;
    // The row cannot disappear within a transaction. If it did, a retry would resolve it.
    Ok(row.unwrap_or(KeyState::Running))
}
