//! The SQL of idempotency keys. Each change may be repeated.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;

use crate::store::StoreError;
use crate::store::change::keys::{Attempt, KeyChange, KeyState, found};
use crate::store::postgres::sql::CachedStatements;
use crate::store::postgres::{Postgres, change};

impl Postgres {
    pub(in crate::store) async fn change_keys(
        &self,
        change: KeyChange,
    ) -> Result<KeyState, StoreError> {
        change!(self, client => apply(client, &change))
    }
}

/// Applies a change.
async fn apply(client: &ClientWrapper, change: &KeyChange) -> Result<KeyState, Error> {
    match change {
        KeyChange::Begin(attempt) => return begin(client, attempt).await,
        KeyChange::End {
            key,
            attempt,
            answer: Some(answer),
        } => {
            let status = i32::from(answer.status);
            client
                .execute_cached(
                    "UPDATE api_keys SET status = $3, body = $4 WHERE key = $1 AND attempt = $2",
                    &[key, attempt, &status, &answer.body],
                )
                .await?;
        }
        KeyChange::End {
            key,
            attempt,
            answer: None,
        } => {
            client
                .execute_cached(
                    "DELETE FROM api_keys WHERE key = $1 AND attempt = $2",
                    &[key, attempt],
                )
                .await?;
        }
        KeyChange::Sweep { now, keep } => {
            let keep = i64::try_from(*keep).unwrap_or(i64::MAX);
            client
                .execute_cached(
                    "DELETE FROM api_keys WHERE expires_at <= greatest($1,
                         (SELECT expires_at FROM api_keys ORDER BY expires_at DESC LIMIT 1 OFFSET $2))",
                    &[&now.timestamp(), &keep],
                )
                .await?;
        }
    }
    Ok(KeyState::First)
}

async fn begin(client: &ClientWrapper, attempt: &Attempt) -> Result<KeyState, Error> {
    let taken = client
        .execute_cached(
            "INSERT INTO api_keys (key, request, attempt, locked_until, expires_at)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (key) DO UPDATE SET request = $2, attempt = $3, locked_until = $4,
                 expires_at = $5, status = NULL, body = NULL
             WHERE api_keys.expires_at <= $6 OR api_keys.attempt = $3
                 OR (api_keys.status IS NULL AND api_keys.locked_until <= $6
                     AND api_keys.request = $2)",
            &[
                &attempt.key,
                &attempt.request,
                &attempt.id,
                &attempt.locked_until.timestamp(),
                &attempt.expires_at.timestamp(),
                &attempt.now.timestamp(),
            ],
        )
        .await?;
    if taken > 0 {
        return Ok(KeyState::First);
    }
    let state = client
        .query_opt_cached(
            "SELECT request, status, body FROM api_keys WHERE key = $1",
            &[&attempt.key],
            |row| {
                let status: Option<i32> = row.try_get(1)?;
                let status = status.map(|status| u16::try_from(status).unwrap_or_default());
                Ok(found(attempt, row.try_get(0)?, status, row.try_get(2)?))
            },
        )
        .await?;
    // The row may be removed between the two statements. The caller retries and then gets the key.
    Ok(state.unwrap_or(KeyState::Running))
}
