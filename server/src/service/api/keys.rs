//! Idempotency keys: a request with a key is executed once, and each repetition gets the same
//! answer.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::metrics::hex;
use crate::service::fault::ServiceError;
use crate::store::{Attempt, KeyState, Store, StoredResponse, Time};

/// The idempotency keys. Clones share their state.
#[derive(Clone, Debug)]
pub(crate) struct RequestKeys {
    store: Store,
}

/// The decision about a request that has a key.
#[derive(Debug)]
pub(crate) enum BeginOutcome {
    /// The request must be executed, and its answer stored under the held key.
    Mine(HeldKey),
    /// Another attempt is executing the request.
    Running,
    /// The key was used for another request.
    Other,
    /// The request was executed before, with this answer.
    Done(StoredResponse),
}

/// A key that is held for one request.
#[derive(Debug)]
pub(crate) struct HeldKey {
    store: Store,
    key: String,
    attempt: Uuid,
}

impl RequestKeys {
    pub(crate) const fn new(store: Store) -> Self {
        Self { store }
    }

    /// Acquires a caller's key for a request, which its hash identifies.
    pub(crate) async fn begin(
        &self,
        caller: &str,
        key: &str,
        request: String,
    ) -> Result<BeginOutcome, ServiceError> {
        let now = Timestamp::now();
        let later = |span: Duration| {
            let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
            Time::from(now.checked_add(span).unwrap_or(Timestamp::MAX))
        };
        // The caller is part of the key, so that one service can neither block another nor read its
        // answers.
        let key = hash(&[caller.as_bytes(), key.as_bytes()]);
        let attempt = Uuid::new_v4();
        let begun = self.store.begin_request(Attempt {
            key: key.clone(),
            request,
            id: attempt,
            now: now.into(),
            locked_until: later(LOCK),
            expires_at: later(WINDOW),
        });
        Ok(match begun.await? {
            KeyState::First => BeginOutcome::Mine(HeldKey {
                store: self.store.clone(),
                key,
                attempt,
            }),
            KeyState::Running => BeginOutcome::Running,
            KeyState::Other => BeginOutcome::Other,
            KeyState::Done(answer) => BeginOutcome::Done(answer),
        })
    }
}

impl HeldKey {
    /// Returns a name for what this request creates, which is the same in each attempt.
    pub(crate) fn name(&self) -> &str {
        &self.key
    }

    /// Stores the answer of the request. Without an answer, the key becomes free again.
    pub(crate) async fn end(self, answer: Option<StoredResponse>) {
        let ended = self.store.end_request(&self.key, self.attempt, answer);
        if let Err(error) = ended.await {
            // The lock of the key expires, and the next attempt finds what this attempt has
            // created.
            roomcast::throttled_log!(warn, %error, "could not store the response to a request with an idempotency key");
        }
    }
}

/// Returns a hash of several parts as hexadecimal digits.
pub(crate) fn hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // Each length precedes its part, so that no two lists of parts have the same hash.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    hex(hash.finalize())
}

/// Retention time of a key.
const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// Maximum time for which a key stays locked by an attempt that does not end: longer than any
/// attempt lasts.
const LOCK: Duration = Duration::from_secs(60);
