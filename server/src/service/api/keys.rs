//! Requests that name a key: each is done once, and answered alike as often as it is sent.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use crate::service::fault::ServiceError;
use crate::store::{Attempt, Begun, KeptAnswer, Store, Time};

/// The keys of requests. Cloning gives another handle.
#[derive(Clone, Debug)]
pub(crate) struct RequestKeys {
    store: Store,
}

/// What is to be done with a request that names a key.
#[derive(Debug)]
pub(crate) enum Turn {
    /// The request is to be done, and its answer to be given to the key that is held.
    Mine(HeldKey),
    /// Another attempt is doing the request.
    Running,
    /// The key was used for something else.
    Other,
    /// The request was done before, with this answer.
    Done(KeptAnswer),
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

    /// Takes a key of a caller for a request, of which `hashes` are the hash and the one by which earlier versions know
    /// it.
    pub(crate) async fn begin(
        &self,
        caller: &str,
        key: &str,
        hashes: [String; 2],
    ) -> Result<Turn, ServiceError> {
        let [hash, before] = hashes;
        let turn = self.begin_as(caller, key, hash).await?;
        if matches!(turn, Turn::Other) {
            return self.begin_as(caller, key, before).await;
        }
        Ok(turn)
    }

    async fn begin_as(
        &self,
        caller: &str,
        key: &str,
        request: String,
    ) -> Result<Turn, ServiceError> {
        let now = Timestamp::now();
        let later = |span: Duration| {
            let span = SignedDuration::try_from(span).unwrap_or(SignedDuration::MAX);
            Time::from(now.checked_add(span).unwrap_or(Timestamp::MAX))
        };
        // The caller is part of the key, so that one service can neither block nor read the answers
        // of another.
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
            Begun::First => Turn::Mine(HeldKey {
                store: self.store.clone(),
                key,
                attempt,
            }),
            Begun::Running => Turn::Running,
            Begun::Other => Turn::Other,
            Begun::Done(answer) => Turn::Done(answer),
        })
    }
}

impl HeldKey {
    /// Names what is made by this request, the same in each attempt.
    pub(crate) fn name(&self) -> &str {
        &self.key
    }

    /// Keeps the answer of the request, or none, so that the key is free again.
    pub(crate) async fn end(self, answer: Option<KeptAnswer>) {
        let ended = self.store.end_request(&self.key, self.attempt, answer);
        if let Err(error) = ended.await {
            // The lease of the key ends, and the next attempt finds what this one has made.
            roomcast::throttled_log!(warn, %error, "the answer to a request with a key is not kept");
        }
    }
}

/// A hash of several parts, in hexadecimal digits.
pub(crate) fn hash(parts: &[&[u8]]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        // Each length goes in front of its part, so that no two lists of parts have one hash.
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    let digits = hash.finalize();
    digits.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// How long a key is known.
const WINDOW: Duration = Duration::from_secs(24 * 60 * 60);
/// How long others wait for an attempt of which nothing is heard: longer than any lasts.
const LOCK: Duration = Duration::from_secs(60);
