use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep_until},
};

use super::{Expected, MAX_VALUE, Put, ValueError, Values, check};

type Migrate = fn(u32, Value) -> Result<Value, String>;

/// Values of one type; created by [`Values::keyspace`].
pub struct Keyspace<T> {
    values: Values,
    name: Arc<str>,
    schema: u32,
    migrate: Migrate,
    // A function pointer, so that a keyspace is `Send` and `Sync` for all `T`.
    of: PhantomData<fn() -> T>,
}

/// A value and its version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The number of the change that stored the value, for [`Expected::Version`].
    pub version: u64,
    /// The value, in the schema of the keyspace.
    pub value: T,
}

/// The stored form of a value.
#[derive(Serialize, Deserialize)]
struct Written<'a> {
    schema: u32,
    #[serde(borrow)]
    value: &'a RawValue,
}

impl<T> Keyspace<T> {
    pub(super) fn new(values: Values, name: &str, schema: u32, migrate: Migrate) -> Self {
        Self {
            values,
            name: name.into(),
            schema,
            migrate,
            of: PhantomData,
        }
    }

    fn key(&self, key: &str) -> Result<Arc<str>, ValueError> {
        let key = format!("{}:{key}", self.name);
        check(&key)?;
        Ok(key.into())
    }

    /// Removes a value if the current value matches `expected`.
    ///
    /// # Errors
    ///
    /// See [`ValueError`]. After [`Unavailable`](ValueError::Unavailable), the value may have been
    /// removed.
    pub async fn remove(&self, key: &str, expected: Expected) -> Result<Put, ValueError> {
        self.change(key, expected, None).await
    }

    async fn change(
        &self,
        key: &str,
        expected: Expected,
        text: Option<Arc<str>>,
    ) -> Result<Put, ValueError> {
        let key = self.key(key)?;
        let putting = self.values.0.store.put(&key, expected, text);
        let put = self.values.within(putting).await?;
        if let Put::Stored(_) = put {
            // The change is announced after the store has it, so that receivers read the new value.
            // If the future is dropped before the announcement, watchers find the change by
            // polling.
            self.values.announce(&key);
        }
        Ok(put)
    }

    /// Watches a key from now on. The current value counts as seen.
    ///
    /// # Errors
    ///
    /// See [`ValueError`].
    pub async fn watch(&self, key: &str) -> Result<Watch<T>, ValueError> {
        // The subscription starts before the value is read, so that no change is missed in between.
        let (changed, key) = (self.values.0.changed.subscribe(), self.key(key)?);
        let known = self.values.within(self.values.0.store.get(&key)).await?;
        Ok(Watch {
            keyspace: self.clone(),
            key,
            seen: known.map(|entry| entry.version),
            changed,
        })
    }
}

impl<T> Keyspace<T> {
    /// Returns a stream of the keys that are changed from now on, by this server or its peers.
    #[must_use]
    pub fn changes(&self) -> Changes {
        Changes {
            changed: self.values.0.changed.subscribe(),
            values: self.values.clone(),
            prefix: format!("{}:", self.name),
        }
    }
}

impl<T: Serialize + DeserializeOwned> Keyspace<T> {
    /// Returns the value of a key, or `None` if the key does not exist.
    ///
    /// # Errors
    ///
    /// See [`ValueError`].
    pub async fn get(&self, key: &str) -> Result<Option<Versioned<T>>, ValueError> {
        let getting = self.values.0.store.get(&self.key(key)?);
        match self.values.within(getting).await? {
            Some(entry) => Ok(Some(Versioned {
                version: entry.version,
                value: self.read(&entry.text)?,
            })),
            None => Ok(None),
        }
    }

    /// Stores a value if the current value matches `expected`.
    ///
    /// # Errors
    ///
    /// See [`ValueError`]. After [`Unavailable`](ValueError::Unavailable), the value may have been
    /// stored.
    pub async fn put(&self, key: &str, expected: Expected, value: &T) -> Result<Put, ValueError> {
        let encode = |error| ValueError::Encode(Arc::new(error));
        let value = serde_json::value::to_raw_value(value).map_err(encode)?;
        let schema = self.schema;
        let written = Written {
            schema,
            value: &value,
        };
        let text = serde_json::to_string(&written).map_err(encode)?;
        if text.len() > MAX_VALUE {
            return Err(ValueError::TooLarge);
        }
        self.change(key, expected, Some(text.into())).await
    }

    fn read(&self, text: &str) -> Result<T, ValueError> {
        let decode = |error: serde_json::Error| ValueError::Decode(error.to_string());
        if text.len() > MAX_VALUE {
            return Err(ValueError::TooLarge);
        }
        let written: Written<'_> = serde_json::from_str(text).map_err(decode)?;
        if written.schema > self.schema {
            return Err(ValueError::Newer(written.schema));
        }
        if written.schema == self.schema {
            return serde_json::from_str(written.value.get()).map_err(decode);
        }
        let mut value = serde_json::from_str(written.value.get()).map_err(decode)?;
        for schema in written.schema..self.schema {
            value = (self.migrate)(schema, value).map_err(ValueError::Decode)?;
        }
        serde_json::from_value(value).map_err(decode)
    }
}

impl<T> Clone for Keyspace<T> {
    fn clone(&self) -> Self {
        Self {
            values: self.values.clone(),
            name: Arc::clone(&self.name),
            ..*self
        }
    }
}

impl<T> fmt::Debug for Keyspace<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keyspace")
            .field("name", &self.name)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

/// The changed keys of a keyspace; created by [`Keyspace::changes`].
///
/// The adapter announces changes, and an announcement may be lost. A caller that must know every
/// value must also read all keys periodically.
#[derive(Debug)]
pub struct Changes {
    changed: Receiver<Arc<str>>,
    /// Keeps the sender of announcements alive.
    values: Values,
    prefix: String,
}

impl Changes {
    /// Waits for the next changed key, without the name of the keyspace. Returns `None` after
    /// announcements were dropped because there were too many. The caller must then read all keys.
    /// This future is cancel safe.
    pub async fn next(&mut self) -> Option<String> {
        loop {
            match self.changed.recv().await {
                Ok(key) => {
                    if let Some(key) = key.strip_prefix(&self.prefix) {
                        return Some(key.to_owned());
                    }
                }
                Err(RecvError::Lagged(_)) => return None,
                Err(RecvError::Closed) => self.changed = self.values.0.changed.subscribe(),
            }
        }
    }
}

/// A watch on one key.
///
/// The adapter announces a change to the other servers. The watch also polls every five seconds,
/// because an announcement may be lost. Of several successive changes, it may only return the last.
#[derive(Debug)]
pub struct Watch<T> {
    keyspace: Keyspace<T>,
    key: Arc<str>,
    seen: Option<u64>,
    changed: Receiver<Arc<str>>,
}

impl<T: Serialize + DeserializeOwned> Watch<T> {
    /// Waits until the value differs from the last seen value. Returns `None` if the key was
    /// removed. This future is cancel safe.
    ///
    /// # Errors
    ///
    /// If the value cannot be read, once per change. While the store does not respond, this keeps
    /// waiting.
    pub async fn changed(&mut self) -> Result<Option<Versioned<T>>, ValueError> {
        loop {
            let values = &self.keyspace.values;
            match values.within(values.0.store.get(&self.key)).await {
                Ok(entry) => {
                    let version = entry.as_ref().map(|entry| entry.version);
                    if version != self.seen {
                        self.seen = version;
                        let read = |entry: super::StoredValue| {
                            let value = self.keyspace.read(&entry.text)?;
                            let version = entry.version;
                            Ok(Versioned { version, value })
                        };
                        return entry.map(read).transpose();
                    }
                }
                Err(ValueError::Unavailable(_)) => {}
                Err(error) => return Err(error),
            }
            // An announcement during the read is still in the channel, so this returns immediately.
            self.wait().await;
        }
    }

    /// Waits for an announcement of this key, or until the next poll is due.
    async fn wait(&mut self) {
        let look = Instant::now() + POLL_INTERVAL;
        loop {
            // `recv` is cancel safe, so it may race against the timer.
            tokio::select! {
                change = self.changed.recv() => match change {
                    Ok(key) if key == self.key => return,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return,
                    // The server is closed, but values can still be read.
                    Err(RecvError::Closed) => return sleep_until(look).await,
                },
                () = sleep_until(look) => return,
            }
        }
    }
}

/// The interval at which a watched key is polled.
const POLL_INTERVAL: Duration = Duration::from_secs(5);
