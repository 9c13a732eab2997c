//! Shared state of the servers of a cluster: values with versions, and locks with leases.
//!
//! A [`ValueStore`] stores them: in memory for one server, in Redis or PostgreSQL if that joins the
//! servers, or in a custom store. This module implements their semantics for all stores: limits, schemas, and
//! watching. It must not depend on a particular store.
//!
//! Every store compares and sets atomically, so servers need no consensus protocol among
//! themselves. An adapter need not have a store. Without one, an application that requests values
//! gets an error: values in the memory of each server would not be shared.

mod keyspace;
mod lock;
mod memory;

use std::{fmt, sync::Arc, time::Duration};

use tokio::{sync::broadcast, time::timeout};

use self::lock::{InDoubtLocks, LockAttempt};
pub use self::{
    keyspace::{Changes, Keyspace, Versioned, Watch},
    lock::Lock,
    memory::Memory,
};
use super::{cluster::Cluster, interface::BoxFuture};

/// Stores values and locks for all servers of a cluster; set with
/// [`Builder::values`](crate::Builder::values), or by an [adapter](super::Adapter::values).
///
/// All numbers come from one counter that only increases, so versions and fencing numbers are never
/// reused. Every method is atomic, whatever other servers do concurrently.
pub trait ValueStore: Send + Sync + 'static {
    /// Returns the value of a key.
    fn get(&self, key: &str) -> BoxFuture<Result<Option<StoredValue>, ValueError>>;

    /// Stores a text under a key, or removes the key (`None`), if the current value matches
    /// `expected`. Refuses a new key if [`MAX_KEYS`] keys exist.
    fn put(
        &self,
        key: &str,
        expected: Expected,
        text: Option<Arc<str>>,
    ) -> BoxFuture<Result<Put, ValueError>>;

    /// Acquires a free lock for `holder` and the time `lease`, by the clock of the store. Returns
    /// its fencing number, or `None` if another holder has the lock. A holder that already has it,
    /// and may not know because a response was lost, acquires it again with a new number. No two
    /// callers use the same `holder`.
    fn lock(
        &self,
        name: &str,
        holder: &str,
        lease: Duration,
    ) -> BoxFuture<Result<Option<u64>, ValueError>>;

    /// Extends a lock to the time `lease` from now. Returns `false` if it is no longer held under
    /// this number.
    fn renew(&self, name: &str, fence: u64, lease: Duration)
    -> BoxFuture<Result<bool, ValueError>>;

    /// Releases a lock. Returns `false` if it was no longer held under this number.
    fn unlock(&self, name: &str, fence: u64) -> BoxFuture<Result<bool, ValueError>>;
}

/// A stored value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredValue {
    /// The number of the change that stored it.
    pub version: u64,
    /// The text.
    pub text: Arc<str>,
}

/// The precondition of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// None: the change always applies.
    Anything,
    /// The key does not exist.
    Nothing,
    /// The value has this version.
    Version(u64),
}

/// The result of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Put {
    /// The change was made, and has this version.
    Stored(u64),
    /// The current value has another version, or does not exist (`None`). An earlier writer won:
    /// read the value again before you retry.
    Conflict(Option<u64>),
}

/// The reason why a value cannot be read or stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ValueError {
    /// The key, or the name of the lock, is not 1 to 128 visible ASCII characters.
    Key,
    /// The value has more than [`MAX_VALUE`] bytes.
    TooLarge,
    /// The maximum number of keys exists.
    Full,
    /// The value cannot be encoded as JSON.
    Encode(Arc<serde_json::Error>),
    /// The stored value does not have this type. The text gives the reason.
    Decode(String),
    /// The stored value has a newer schema than this server supports.
    Newer(u32),
    /// The store does not respond; the text gives the reason. A change may have been made.
    Unavailable(String),
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("the key is not 1 to 128 visible ASCII characters"),
            Self::TooLarge => write!(f, "the value has more than {MAX_VALUE} bytes"),
            Self::Full => write!(f, "the keyspace is full: it has {MAX_KEYS} keys"),
            Self::Encode(error) => write!(f, "the value cannot be encoded: {error}"),
            Self::Decode(why) => write!(f, "the stored value cannot be decoded: {why}"),
            Self::Newer(schema) => write!(f, "the stored value has the newer schema {schema}"),
            Self::Unavailable(why) => write!(f, "the store does not answer: {why}"),
        }
    }
}

/// `source` is `None`, because the text contains all details.
impl std::error::Error for ValueError {}

/// The reason why [`Io::values`](crate::Io::values) returns no values.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum NoValueStore {
    /// The server is not built yet.
    NotBuilt,
    /// The [adapter](super::Adapter::values) stores no values, and
    /// [`Builder::values`](crate::Builder::values) sets no store.
    Unsupported,
}

impl fmt::Display for NoValueStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotBuilt => "the server is not built yet: get its values after `Builder::build`",
            Self::Unsupported => {
                "the adapter does not support values and locks: set a store with `Builder::values`"
            }
        })
    }
}

impl std::error::Error for NoValueStore {}

/// The state that this server shares with its cluster; see [`Io::values`](crate::Io::values).
/// Cloning is a few reference counts.
#[derive(Clone)]
pub struct Values(Arc<ValuesInner>);

struct ValuesInner {
    store: Box<dyn ValueStore>,
    cluster: Cluster,
    /// The changed keys, as far as this server has received the announcements.
    changed: broadcast::Sender<Arc<str>>,
    /// Locks that this server may hold without knowing.
    in_doubt: InDoubtLocks,
}

impl Values {
    pub(crate) fn new(store: Box<dyn ValueStore>, cluster: Cluster) -> Self {
        Self(Arc::new(ValuesInner {
            store,
            cluster,
            changed: broadcast::Sender::new(ANNOUNCED),
            in_doubt: InDoubtLocks::default(),
        }))
    }

    /// Returns the values whose keys begin with `name` and a colon, all of type `T`.
    ///
    /// A value with an older `schema` is migrated when it is read: `migrate` receives the schema
    /// number of the value and the value, and returns it in the next schema. It is called
    /// repeatedly until the value has this schema. A value with a newer schema is not read
    /// ([`ValueError::Newer`]), so a caller that reads before it writes cannot overwrite it.
    #[must_use]
    pub fn keyspace<T>(
        &self,
        name: &str,
        schema: u32,
        migrate: fn(u32, serde_json::Value) -> Result<serde_json::Value, String>,
    ) -> Keyspace<T> {
        Keyspace::new(self.clone(), name, schema, migrate)
    }

    /// Acquires a lock if it is free. It is held for the time `lease`, unless it is
    /// [renewed](Lock::renew) earlier.
    ///
    /// # Errors
    ///
    /// If the name is invalid, or if the store does not respond.
    pub async fn try_lock(&self, name: &str, lease: Duration) -> Result<Option<Lock>, ValueError> {
        LockAttempt::new(self, name, lease)?.make().await
    }

    /// Waits until a lock is free and acquires it. It retries three times per lease, but at least
    /// once a second. A server that keeps renewing a lock can act as the leader of the cluster.
    ///
    /// # Errors
    ///
    /// If the name is invalid. While the store does not respond, this keeps waiting.
    pub async fn lock(&self, name: &str, lease: Duration) -> Result<Lock, ValueError> {
        let mut attempt = LockAttempt::new(self, name, lease)?;
        loop {
            // All iterations use one attempt, so that the store recognizes the holder if a response
            // was lost. If this future is dropped, the attempt releases a lock that it may have
            // acquired.
            match attempt.make().await {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) | Err(ValueError::Unavailable(_)) => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep((lease / 3).clamp(FASTEST, SLOWEST)).await;
        }
    }

    /// Notifies watchers of a key, on this server and its peers.
    fn announce(&self, key: &str) {
        self.notify_watchers(key);
        if let Some(joined) = self.0.cluster.joined() {
            joined.announce(key);
        }
    }

    /// Notifies watchers on this server that a key has changed.
    pub(crate) fn notify_watchers(&self, key: &str) {
        // Sending fails if there are no watchers, which is not an error.
        let _ = self.0.changed.send(key.into());
    }

    async fn within<T>(
        &self,
        operation: BoxFuture<Result<T, ValueError>>,
    ) -> Result<T, ValueError> {
        // The store may still have performed the operation. `Unavailable` documents this.
        match timeout(STORE_TIMEOUT, operation).await {
            Ok(answer) => answer,
            Err(_) => Err(ValueError::Unavailable("it takes too long".to_owned())),
        }
    }
}

impl fmt::Debug for Values {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Values").finish_non_exhaustive()
    }
}

fn check(key: &str) -> Result<(), ValueError> {
    if is_key(key) {
        Ok(())
    } else {
        Err(ValueError::Key)
    }
}

/// Returns whether a text is a valid key or name of a lock.
pub(super) fn is_key(key: &str) -> bool {
    (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
}

/// The maximum length of a key in bytes, including the name of its keyspace.
pub const MAX_KEY: usize = 128;
/// The maximum size of a value in bytes, as JSON.
pub const MAX_VALUE: usize = 64 << 10;
/// The maximum number of keys of a cluster.
pub const MAX_KEYS: usize = 100_000;
/// Maximum number of announced changes that a watcher may lag. Beyond that, it reads the store.
const ANNOUNCED: usize = 1024;
/// The timeout of an operation of the store.
const STORE_TIMEOUT: Duration = Duration::from_secs(5);
/// The minimum delay between attempts to acquire a lock.
const FASTEST: Duration = Duration::from_millis(10);
/// The maximum delay between attempts to acquire a lock.
const SLOWEST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
