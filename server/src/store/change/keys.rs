//! Idempotency keys: a request that is sent again under the same key is not executed again.
//!
//! A key is a row with a lease. The attempt that holds the lease ends it. If its server crashes,
//! the next attempt begins after the lease and finds what the first one created, because that is
//! named after the key.

use uuid::Uuid;

use crate::metrics::Timing;
use crate::store::statement::{Statement, record, values};
use crate::store::{Store, StoreError, Time};

/// An attempt to execute a request.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "callers construct it")]
pub struct Attempt {
    /// A hash of the caller and its key; identifies the row.
    pub key: String,
    /// A hash of the request.
    pub request: String,
    /// Identifies this attempt among the attempts under the same key.
    pub id: Uuid,
    /// When the attempt begins.
    pub now: Time,
    /// When the attempt is presumed dead.
    pub locked_until: Time,
    /// When the key expires.
    pub expires_at: Time,
}

/// The state of a key when an attempt begins.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "callers must handle every outcome")]
pub enum KeyState {
    /// The key is unused: this attempt may proceed, and others wait for it.
    First,
    /// Another attempt is running.
    Running,
    /// The key was used for a different request.
    Other,
    /// The request was executed, with this response.
    Done(StoredResponse),
}

/// A stored HTTP response.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "callers construct it")]
pub struct StoredResponse {
    /// The status code.
    pub status: u16,
    /// The body; `None` if it is not stored.
    pub body: Option<String>,
}

/// The row of a key that another attempt has.
struct TakenKey {
    request: String,
    status: Option<u16>,
    body: Option<String>,
}

record! { TakenKey => request, status, body }

impl TakenKey {
    /// Returns the outcome for an attempt to execute this request.
    fn state_for(self, request: &str) -> KeyState {
        match self.status {
            // A different request under the same key is a caller's mistake, whatever the state of
            // the first.
            _ if self.request != request => KeyState::Other,
            None => KeyState::Running,
            Some(status) => KeyState::Done(StoredResponse {
                status,
                body: self.body,
            }),
        }
    }
}

impl Store {
    /// Begins to execute a request with an idempotency key, unless it was executed before.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn begin_request(&self, attempt: Attempt) -> Result<KeyState, StoreError> {
        self.timed_answer(Timing::StoreChange, self.take_key(attempt))
            .await
    }

    async fn take_key(&self, attempt: Attempt) -> Result<KeyState, StoreError> {
        let take = Statement::new(
            "INSERT INTO api_keys (key, request, attempt, locked_until, expires_at)
             VALUES ($1, $2, $3, $4, $5)
             ON CONFLICT (key) DO UPDATE SET request = $2, attempt = $3, locked_until = $4,
                 expires_at = $5, status = NULL, body = NULL
             WHERE api_keys.expires_at <= $6 OR api_keys.attempt = $3
                 OR (api_keys.status IS NULL AND api_keys.locked_until <= $6
                     AND api_keys.request = $2)",
            values![
                &*attempt.key,
                &*attempt.request,
                attempt.id,
                attempt.locked_until,
                attempt.expires_at,
                attempt.now,
            ],
        );
        if self.execute(take).await? > 0 {
            return Ok(KeyState::First);
        }
        let select = Statement::new(
            "SELECT request, status, body FROM api_keys WHERE key = $1",
            values![attempt.key],
        );
        let taken: Option<TakenKey> = self.rows(select).await?.pop();
        // The row may be removed between the two statements. The caller retries and then gets the
        // key.
        Ok(taken.map_or(KeyState::Running, |key| key.state_for(&attempt.request)))
    }

    /// Stores the response to a request with an idempotency key. Without a response, frees the key.
    ///
    /// Has no effect if another attempt has the key by now.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn end_request(
        &self,
        key: &str,
        attempt: Uuid,
        answer: Option<StoredResponse>,
    ) -> Result<(), StoreError> {
        let end = match answer {
            Some(StoredResponse { status, body }) => Statement::new(
                "UPDATE api_keys SET status = $3, body = $4 WHERE key = $1 AND attempt = $2",
                values![key, attempt, status, body],
            ),
            None => Statement::new(
                "DELETE FROM api_keys WHERE key = $1 AND attempt = $2",
                values![key, attempt],
            ),
        };
        self.execute_timed(end).await.map(drop)
    }

    /// Removes expired idempotency keys, and the oldest beyond `keep`.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn sweep_requests(&self, now: Time, keep: usize) -> Result<(), StoreError> {
        let sweep = Statement::new(
            "DELETE FROM api_keys WHERE expires_at <= greatest($1,
                 (SELECT expires_at FROM api_keys ORDER BY expires_at DESC LIMIT 1 OFFSET $2))",
            values![now, keep],
        )
        .for_sqlite(
            "DELETE FROM api_keys WHERE expires_at <= max($1, coalesce(
                 (SELECT expires_at FROM api_keys ORDER BY expires_at DESC LIMIT 1 OFFSET $2), $1))",
        );
        self.execute_timed(sweep).await.map(drop)
    }
}
