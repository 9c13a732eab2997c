//! State that the servers of a cluster share: values with versions, and locks with leases.
//!
//! A [`ValueStore`] keeps them: in memory for one server, in Redis where that joins servers, or wherever else
//! one is written for. What they mean is done here, once for all stores: bounds, schemas, watching.

mod keyspace;
mod lock;
mod memory;

use std::{fmt, sync::Arc, time::Duration};

use tokio::{sync::broadcast, time::timeout};

use self::lock::{Attempt, Doubts};
pub use self::{
    keyspace::{Changes, Keyspace, Versioned, Watch},
    lock::Lock,
    memory::Memory,
};
use super::{cluster::Cluster, interface::BoxFuture};

/// Keeps values and locks for all servers of a cluster; given to
/// [`Builder::values`](crate::Builder::values), or by an [adapter](super::Adapter::values).
///
/// All numbers come from one counter that only grows, so that no version and no fencing number ever comes
/// again. What a method does is done at once or not at all, whatever other servers do at the same time.
pub trait ValueStore: Send + Sync + 'static {
    /// What is stored under a key.
    fn get(&self, key: &str) -> BoxFuture<Result<Option<StoredValue>, ValueError>>;

    /// Stores a text under a key, or removes it (`None`), if what is there is expected. A new key is refused
    /// if there are [`MAX_KEYS`] already.
    fn put(
        &self,
        key: &str,
        expected: Expected,
        text: Option<Arc<str>>,
    ) -> BoxFuture<Result<Put, ValueError>>;

    /// Gives a lock that nobody holds to a holder, for so long by the clock of the store, and returns its fencing
    /// number; `None` if somebody else holds it. A holder that has the lock already, and may not know because an answer
    /// was lost, is given it once more, with a new number. No two who ask call themselves alike.
    fn lock(
        &self,
        name: &str,
        holder: &str,
        lease: Duration,
    ) -> BoxFuture<Result<Option<u64>, ValueError>>;

    /// Lets a lock last so long from now on. Returns `false` if it is not held under this number any more.
    fn renew(&self, name: &str, fence: u64, lease: Duration)
    -> BoxFuture<Result<bool, ValueError>>;

    /// Gives a lock back. Returns `false` if it was not held under this number any more.
    fn unlock(&self, name: &str, fence: u64) -> BoxFuture<Result<bool, ValueError>>;
}

/// Something that is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredValue {
    /// The number of the change that has stored it.
    pub version: u64,
    /// The text.
    pub text: Arc<str>,
}

/// What must be there for a change to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Expected {
    /// Whatever is.
    Anything,
    /// Nothing.
    Nothing,
    /// What has this version.
    Version(u64),
}

/// What has become of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Put {
    /// The change is made, and has this version.
    Stored(u64),
    /// Something else is there, with this version, or nothing (`None`). Whoever was first has won: read the
    /// value again, and decide anew.
    Conflict(Option<u64>),
}

/// Why a value cannot be had or stored.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ValueError {
    /// The key, or the name of the lock, is not 1 to 128 visible ASCII characters.
    Key,
    /// The value has more than [`MAX_VALUE`] bytes.
    TooLarge,
    /// There are as many keys as may be.
    Full,
    /// The value cannot be written as JSON.
    Encode(Arc<serde_json::Error>),
    /// What is stored is no value of this type; the text says why.
    Decode(String),
    /// What is stored was written with a schema that is newer than the one that is known here.
    Newer(u32),
    /// The store does not answer; the text says why. Whether a change was made is not known.
    Unavailable(String),
}

impl fmt::Display for ValueError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Key => f.write_str("the key is not 1 to 128 visible ASCII characters"),
            Self::TooLarge => write!(f, "the value has more than {MAX_VALUE} bytes"),
            Self::Full => write!(f, "there are {MAX_KEYS} keys already"),
            Self::Encode(error) => write!(f, "the value cannot be written: {error}"),
            Self::Decode(why) => write!(f, "what is stored cannot be read: {why}"),
            Self::Newer(schema) => write!(f, "what is stored has the newer schema {schema}"),
            Self::Unavailable(why) => write!(f, "the store does not answer: {why}"),
        }
    }
}

/// There is no source, because the text says all that is known.
impl std::error::Error for ValueError {}

/// The state that this server shares with the others of its cluster; see [`Io::values`](crate::Io::values).
/// Cloning is a few reference counts.
#[derive(Clone)]
pub struct Values(Arc<ValuesInner>);

struct ValuesInner {
    store: Box<dyn ValueStore>,
    cluster: Cluster,
    /// The keys that were changed, as far as this server has heard.
    changed: broadcast::Sender<Arc<str>>,
    /// Locks that this server may hold without knowing.
    doubtful: Doubts,
}

impl Values {
    pub(crate) fn new(store: Box<dyn ValueStore>, cluster: Cluster) -> Self {
        Self(Arc::new(ValuesInner {
            store,
            cluster,
            changed: broadcast::Sender::new(ANNOUNCED),
            doubtful: Doubts::default(),
        }))
    }

    /// The values whose keys begin with a name and a colon, all of one type. What was stored with an older
    /// `schema` than this one is migrated when it is read: `migrate` is given the number of the schema that a
    /// value has, and the value, and returns it in the next one, again and again until it has this one. What
    /// is newer is not read ([`ValueError::Newer`]), and so not overwritten by whoever has read it before.
    #[must_use]
    pub fn keyspace<T>(
        &self,
        name: &str,
        schema: u32,
        migrate: fn(u32, serde_json::Value) -> Result<serde_json::Value, String>,
    ) -> Keyspace<T> {
        Keyspace::new(self.clone(), name, schema, migrate)
    }

    /// Takes a lock, if nobody holds it: for so long, unless it is [renewed](Lock::renew) before.
    ///
    /// # Errors
    ///
    /// When the name is none, or the store does not answer.
    pub async fn try_lock(&self, name: &str, lease: Duration) -> Result<Option<Lock>, ValueError> {
        Attempt::new(self, name, lease)?.make().await
    }

    /// Takes a lock, as soon as nobody holds it: it is asked for again three times in a lease, and once a second. That
    /// makes one server of a cluster its leader as well, for as long as it renews it.
    ///
    /// # Errors
    ///
    /// When the name is none. While the store does not answer, it is waited for.
    pub async fn lock(&self, name: &str, lease: Duration) -> Result<Lock, ValueError> {
        let mut attempt = Attempt::new(self, name, lease)?;
        loop {
            // One attempt asks again and again under one name, so that the store knows it if an answer was lost. If this
            // future is dropped, the attempt gives up what it may have got.
            match attempt.make().await {
                Ok(Some(lock)) => return Ok(lock),
                Ok(None) | Err(ValueError::Unavailable(_)) => {}
                Err(error) => return Err(error),
            }
            tokio::time::sleep((lease / 3).clamp(FASTEST, SLOWEST)).await;
        }
    }

    /// Tells those who watch a key, here and elsewhere, that it was changed.
    fn announce(&self, key: &str) {
        self.heard(key);
        if let Some(joined) = self.0.cluster.joined() {
            joined.announce(key);
        }
    }

    /// Another server, or this one, has changed a key.
    pub(crate) fn heard(&self, key: &str) {
        // Sending fails if nobody watches, which is no fault.
        let _ = self.0.changed.send(key.into());
    }

    async fn within<T>(&self, asked: BoxFuture<Result<T, ValueError>>) -> Result<T, ValueError> {
        // The store may have done all the same what it was asked, which `Unavailable` says.
        match timeout(PATIENCE, asked).await {
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

/// Whether a key, or the name of a lock, can be one.
pub(super) fn is_key(key: &str) -> bool {
    (1..=MAX_KEY).contains(&key.len()) && key.bytes().all(|b| b.is_ascii_graphic())
}

/// The most bytes of a key, with the name of its keyspace.
pub const MAX_KEY: usize = 128;
/// The most bytes of a value, as JSON.
pub const MAX_VALUE: usize = 64 << 10;
/// The most keys of a cluster.
pub const MAX_KEYS: usize = 100_000;
/// Changes that those who watch may be behind until they look for themselves.
const ANNOUNCED: usize = 1024;
/// How long a store may take.
const PATIENCE: Duration = Duration::from_secs(5);
const FASTEST: Duration = Duration::from_millis(10);
const SLOWEST: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests;
