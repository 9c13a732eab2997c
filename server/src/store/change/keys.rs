//! Idempotency keys: a request that is sent again under the same key is not executed again.

use std::collections::HashMap;

use uuid::Uuid;

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

/// The in-memory table.
#[derive(Debug, Default)]
pub(in crate::store) struct Keys {
    rows: HashMap<String, Row>,
    /// The approximate size of all rows.
    bytes: usize,
}

#[derive(Debug)]
struct Row {
    attempt: Attempt,
    answer: Option<StoredResponse>,
}

impl Row {
    fn size(&self) -> usize {
        let body = self.answer.as_ref().and_then(|answer| answer.body.as_ref());
        2 * self.attempt.key.len()
            + self.attempt.request.len()
            + body.map_or(0, String::len)
            + size_of::<Self>()
            + ENTRY_BYTES
    }
}

impl Keys {
    /// Applies a change if it needs at most `room` additional bytes.
    pub(in crate::store) fn apply(
        &mut self,
        change: KeyChange,
        room: u64,
    ) -> Result<KeyState, StoreError> {
        match change {
            KeyChange::Begin(attempt) => return self.begin(attempt, room),
            KeyChange::End {
                key,
                attempt,
                answer,
            } => {
                let Some(mut row) = self.rows.remove(&key) else {
                    return Ok(KeyState::First);
                };
                let before = row.size();
                // An attempt whose lease has expired must not end the attempt that took over.
                if row.attempt.id == attempt {
                    self.bytes -= before;
                    let Some(answer) = answer else {
                        return Ok(KeyState::First);
                    };
                    row.answer = Some(answer);
                    if row.size() as u64 > room + before as u64 {
                        return Err(StoreError::Failed);
                    }
                    self.bytes += row.size();
                }
                self.rows.insert(key, row);
            }
            KeyChange::Sweep { now, keep } => {
                self.rows.retain(|_, row| row.attempt.expires_at > now);
                let beyond = self.rows.len().saturating_sub(keep);
                if beyond > 0 {
                    let ends = self.rows.values().map(|row| row.attempt.expires_at);
                    let mut ends: Vec<_> = ends.collect();
                    // Only the cutoff is searched, because sorting all keys would hold the store's
                    // lock for long.
                    let (_, last, _) = ends.select_nth_unstable(beyond - 1);
                    let last = *last;
                    self.rows.retain(|_, row| row.attempt.expires_at > last);
                }
                self.bytes = self.rows.values().map(Row::size).sum();
            }
        }
        Ok(KeyState::First)
    }

    fn begin(&mut self, attempt: Attempt, room: u64) -> Result<KeyState, StoreError> {
        if let Some(row) = self.rows.get(&attempt.key)
            && row.attempt.expires_at > attempt.now
            // The same attempt begins twice if the connection is lost while it is stored.
            && row.attempt.id != attempt.id
            && (row.answer.is_some()
                || row.attempt.locked_until > attempt.now
                || row.attempt.request != attempt.request)
        {
            let status = row.answer.as_ref().map(|answer| answer.status);
            let body = row.answer.as_ref().and_then(|answer| answer.body.clone());
            return Ok(found(&attempt, &row.attempt.request, status, body));
        }
        let key = attempt.key.clone();
        let row = Row {
            attempt,
            answer: None,
        };
        let size = row.size();
        if size as u64 > room {
            return Err(StoreError::Failed);
        }
        let old = self.rows.insert(key, row);
        self.bytes = self.bytes + size - old.as_ref().map_or(0, Row::size);
        Ok(KeyState::First)
    }

    pub(in crate::store) fn bytes(&self) -> u64 {
        self.bytes as u64
    }
}

/// The approximate overhead of a table entry, in bytes.
const ENTRY_BYTES: usize = 64;

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
        each!(self, backend => self.with_answer_timeout(backend.change_keys(change)).await)
    }
}
