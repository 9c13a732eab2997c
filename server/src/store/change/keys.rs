//! Requests that name a key, so that one that is sent again is not done again.

use std::collections::HashMap;

use uuid::Uuid;

use crate::store::{Backend, Store, StoreError, Time};

/// One attempt to do what a request asks for.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "made by who stores it")]
pub struct Attempt {
    /// A hash of the caller and its key, which is what the row is found by.
    pub key: String,
    /// A hash of what is asked for.
    pub request: String,
    /// Tells this attempt from others under the same key.
    pub id: Uuid,
    /// When it begins.
    pub now: Time,
    /// When nobody believes any more that it is still being done.
    pub locked_until: Time,
    /// When the key is forgotten.
    pub expires_at: Time,
}

/// What is known under the key of an attempt.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "a caller must say what each outcome means"
)]
pub enum Begun {
    /// Nothing: the attempt may go on, and others wait for it.
    First,
    /// Another attempt is being made.
    Running,
    /// The key was used for something else.
    Other,
    /// The request was done, with this answer.
    Done(KeptAnswer),
}

/// An answer of HTTP that is kept.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made by who stores it")]
pub struct KeptAnswer {
    /// The status.
    pub status: u16,
    /// The body; none if it is not kept.
    pub body: Option<String>,
}

/// A change of the keys.
#[derive(Clone, Debug)]
pub(in crate::store) enum KeyChange {
    Begin(Attempt),
    /// An attempt has ended: with an answer that is kept, or as if it had never been.
    End {
        key: String,
        attempt: Uuid,
        answer: Option<KeptAnswer>,
    },
    /// Forgets what has expired, and the oldest beyond so many.
    Sweep {
        now: Time,
        keep: usize,
    },
}

/// A row as it was found, and what it says to an attempt that did not get it.
pub(in crate::store) fn found(
    attempt: &Attempt,
    request: &str,
    status: Option<u16>,
    body: Option<String>,
) -> Begun {
    match status {
        // Another request under the same key is a mistake of the caller, whatever has become of the
        // first.
        _ if request != attempt.request => Begun::Other,
        None => Begun::Running,
        Some(status) => Begun::Done(KeptAnswer { status, body }),
    }
}

/// The table, in memory.
#[derive(Debug, Default)]
pub(in crate::store) struct Keys {
    rows: HashMap<String, Row>,
    /// Roughly what all of it takes.
    bytes: usize,
}

#[derive(Debug)]
struct Row {
    attempt: Attempt,
    answer: Option<KeptAnswer>,
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
    /// Applies a change if what it adds fits into `room` bytes.
    pub(in crate::store) fn apply(
        &mut self,
        change: KeyChange,
        room: u64,
    ) -> Result<Begun, StoreError> {
        match change {
            KeyChange::Begin(attempt) => return self.begin(attempt, room),
            KeyChange::End {
                key,
                attempt,
                answer,
            } => {
                let Some(mut row) = self.rows.remove(&key) else {
                    return Ok(Begun::First);
                };
                let before = row.size();
                // An attempt that has lost its lease must not end the one that has taken over.
                if row.attempt.id == attempt {
                    self.bytes -= before;
                    let Some(answer) = answer else {
                        return Ok(Begun::First);
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
                    // Only the border is looked for, since sorting all keys would take the lock of
                    // the store for long.
                    let (_, last, _) = ends.select_nth_unstable(beyond - 1);
                    let last = *last;
                    self.rows.retain(|_, row| row.attempt.expires_at > last);
                }
                self.bytes = self.rows.values().map(Row::size).sum();
            }
        }
        Ok(Begun::First)
    }

    fn begin(&mut self, attempt: Attempt, room: u64) -> Result<Begun, StoreError> {
        if let Some(row) = self.rows.get(&attempt.key)
            && row.attempt.expires_at > attempt.now
            // The same attempt comes twice if a connection is lost while it is stored.
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
        Ok(Begun::First)
    }

    pub(in crate::store) fn bytes(&self) -> u64 {
        self.bytes as u64
    }
}

/// What an entry of a table takes beside its contents, roughly.
const ENTRY_BYTES: usize = 64;

impl Store {
    /// Begins to do what a request asks for that names a key, unless that was done before.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn begin_request(&self, attempt: Attempt) -> Result<Begun, StoreError> {
        self.change_keys(KeyChange::Begin(attempt)).await
    }

    /// Keeps the answer to a request that names a key; without one, the key is free again. Nothing happens if
    /// another attempt has the key by now.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn end_request(
        &self,
        key: &str,
        attempt: Uuid,
        answer: Option<KeptAnswer>,
    ) -> Result<(), StoreError> {
        let key = key.to_owned();
        let end = KeyChange::End {
            key,
            attempt,
            answer,
        };
        self.change_keys(end).await.map(drop)
    }

    /// Forgets the keys of requests that have expired, and the oldest beyond `keep`.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn sweep_requests(&self, now: Time, keep: usize) -> Result<(), StoreError> {
        let sweep = KeyChange::Sweep { now, keep };
        self.change_keys(sweep).await.map(drop)
    }

    async fn change_keys(&self, change: KeyChange) -> Result<Begun, StoreError> {
        each!(self, backend => self.patiently(backend.change_keys(change)).await)
    }
}
