//! Idempotency keys: a request that is sent again under the same key is not executed again.

#[cfg(feature = "postgres")]
pub(in crate::store) mod postgres;
#[cfg(feature = "sqlite")]
pub(in crate::store) mod sqlite;

use uuid::Uuid;

use crate::metrics::Timing;
use crate::store::{Backend, Store, StoreError, Time};

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

/// A change of the keys.
#[derive(Clone, Debug)]
pub(in crate::store) enum KeyChange {
    Begin(Attempt),
    /// Ends an attempt. Stores the response, or removes the key if there is none.
    End {
        key: String,
        attempt: Uuid,
        answer: Option<StoredResponse>,
    },
    /// Removes expired keys, and the oldest beyond `keep`.
    Sweep {
        now: Time,
        keep: usize,
    },
}

/// Returns the outcome for an attempt whose key is taken by the given row.
pub(in crate::store) fn found(
    attempt: &Attempt,
    request: &str,
    status: Option<u16>,
    body: Option<String>,
) -> KeyState {
    match status {
        // A different request under the same key is a caller's mistake, whatever the state of the
        // first.
        _ if request != attempt.request => KeyState::Other,
        None => KeyState::Running,
        Some(status) => KeyState::Done(StoredResponse { status, body }),
    }
}

impl Store {
    /// Begins to execute a request with an idempotency key, unless it was executed before.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn begin_request(&self, attempt: Attempt) -> Result<KeyState, StoreError> {
        self.change_keys(KeyChange::Begin(attempt)).await
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
        let key = key.to_owned();
        let end = KeyChange::End {
            key,
            attempt,
            answer,
        };
        self.change_keys(end).await.map(drop)
    }

    /// Removes expired idempotency keys, and the oldest beyond `keep`.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn sweep_requests(&self, now: Time, keep: usize) -> Result<(), StoreError> {
        let sweep = KeyChange::Sweep { now, keep };
        self.change_keys(sweep).await.map(drop)
    }

    async fn change_keys(&self, change: KeyChange) -> Result<KeyState, StoreError> {
        each!(self, backend => self.timed_answer(Timing::StoreChange, backend.change_keys(change)).await)
    }
}
