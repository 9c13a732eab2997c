use std::{fmt, marker::PhantomData, sync::Arc, time::Duration};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use serde_json::{Value, value::RawValue};
use tokio::{
    sync::broadcast::{Receiver, error::RecvError},
    time::{Instant, sleep_until},
};

use super::{Expected, MAX_VALUE, Put, ValueError, Values, check};

type Migrate = fn(u32, Value) -> Result<Value, String>;

/// Values of one type; made by [`Values::keyspace`].
pub struct Keyspace<T> {
    values: Values,
    name: Arc<str>,
    schema: u32,
    migrate: Migrate,
    // A function pointer, so that the keyspace can be shared among threads whatever `T` is.
    of: PhantomData<fn() -> T>,
}

/// A value that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Versioned<T> {
    /// The number of the change that has stored it, for [`Expected::Version`].
    pub version: u64,
    /// The value, in the schema of the keyspace.
    pub value: T,
}

/// What is stored.
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

    /// Removes a value, if what is there is expected.
    ///
    /// # Errors
    ///
    /// See [`ValueError`]. What is [`Unavailable`](ValueError::Unavailable) may have been removed.
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
            // The change is announced after the store has it, so that whoever hears of it reads the new value. If the
            // future is dropped before, those who watch find the change when they look by themselves.
            self.values.announce(&key);
        }
        Ok(put)
    }

    /// Watches a key from now on. What is there now counts as seen.
    ///
    /// # Errors
    ///
    /// See [`ValueError`].
    pub async fn watch(&self, key: &str) -> Result<Watch<T>, ValueError> {
        // Announcements are heard from before the value is read, so that no change falls between the two.
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
    /// Hears from now on which keys are changed, here and at other servers.
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
    /// The value of a key, if there is one.
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

    /// Stores a value, if what is there is expected.
    ///
    /// # Errors
    ///
    /// See [`ValueError`]. What is [`Unavailable`](ValueError::Unavailable) may have been stored.
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

/// Hears which keys of a keyspace are changed; made by [`Keyspace::changes`].
///
/// The adapter announces them, and an announcement may be lost: whoever must know each value looks at all keys now and
/// then as well.
#[derive(Debug)]
pub struct Changes {
    changed: Receiver<Arc<str>>,
    /// Announces for as long as it is there.
    values: Values,
    prefix: String,
}

impl Changes {
    /// The next key that was changed, without the name of the keyspace. `None` says that so many were changed that some
    /// were not kept, and that all keys are to be looked at. Nothing is lost if the future is dropped before.
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

/// Sees the changes of one key.
///
/// A change is announced to the other servers by the adapter, and looked for every five seconds besides, since an
/// announcement may be lost. Of several changes in a row only the last may be seen.
#[derive(Debug)]
pub struct Watch<T> {
    keyspace: Keyspace<T>,
    key: Arc<str>,
    seen: Option<u64>,
    changed: Receiver<Arc<str>>,
}

impl<T: Serialize + DeserializeOwned> Watch<T> {
    /// Waits until something else is there than was seen last, and returns `None` if nothing is. Nothing is lost
    /// if the future is dropped before.
    ///
    /// # Errors
    ///
    /// When what is there cannot be read, once for each change. While the store does not answer, it is
    /// waited for.
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
            // An announcement that came while the value was read is still in the channel, so this returns at once.
            self.wait().await;
        }
    }

    /// Waits until the key is said to have changed, or it is time to look.
    async fn wait(&mut self) {
        let look = Instant::now() + LOOK;
        loop {
            // Dropping `recv` loses nothing, so that it may be raced against the time.
            tokio::select! {
                heard = self.changed.recv() => match heard {
                    Ok(key) if key == self.key => return,
                    Ok(_) => {}
                    Err(RecvError::Lagged(_)) => return,
                    // The server is gone; values may still be read.
                    Err(RecvError::Closed) => return sleep_until(look).await,
                },
                () = sleep_until(look) => return,
            }
        }
    }
}

/// How often a key that is watched is looked at.
const LOOK: Duration = Duration::from_secs(5);
