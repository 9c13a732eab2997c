use std::{collections::HashMap, future::ready, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::time::Instant;

use super::{BoxFuture, Expected, MAX_KEYS, Put, StoredValue, ValueError, ValueStore};

/// Values and locks in the memory of this process, for one server or for several servers that share
/// clones. The content is dropped with the last clone.
#[derive(Clone, Debug, Default)]
pub struct Memory(Arc<Mutex<ValuesAndLocks>>);

#[derive(Debug, Default)]
struct ValuesAndLocks {
    last: u64,
    values: HashMap<Arc<str>, StoredValue>,
    /// One entry per requested lock name. When there are too many, expired entries are removed.
    locks: HashMap<Arc<str>, HeldLock>,
}

#[derive(Debug)]
struct HeldLock {
    fence: u64,
    holder: Arc<str>,
    until: Instant,
}

impl ValuesAndLocks {
    fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    fn held(&mut self, name: &str, fence: u64) -> Option<&mut HeldLock> {
        let held = self.locks.get_mut(name)?;
        (held.fence == fence && held.until > Instant::now()).then_some(held)
    }

    fn put(
        &mut self,
        key: &str,
        expected: Expected,
        text: Option<Arc<str>>,
    ) -> Result<Put, ValueError> {
        let known = self.values.get(key).map(|entry| entry.version);
        let is_expected = match expected {
            Expected::Anything => true,
            Expected::Nothing => known.is_none(),
            Expected::Version(version) => known == Some(version),
        };
        if !is_expected {
            return Ok(Put::Conflict(known));
        }
        if text.is_some() && known.is_none() && self.values.len() >= MAX_KEYS {
            return Err(ValueError::Full);
        }
        let version = self.next();
        match text {
            Some(text) => drop(
                self.values
                    .insert(key.into(), StoredValue { version, text }),
            ),
            None => drop(self.values.remove(key)),
        }
        Ok(Put::Stored(version))
    }

    fn lock(
        &mut self,
        name: &str,
        holder: &str,
        lease: Duration,
    ) -> Result<Option<u64>, ValueError> {
        let now = Instant::now();
        // The holder itself acquires the lock again with a new number, because the last response
        // may have been lost.
        let is_held_by_other = |held: &HeldLock| held.until > now && &*held.holder != holder;
        if self.locks.get(name).is_some_and(is_held_by_other) {
            return Ok(None);
        }
        if self.locks.len() >= MAX_KEYS {
            self.locks.retain(|_, held| held.until > now);
            if self.locks.len() >= MAX_KEYS {
                return Err(ValueError::Full);
            }
        }
        let fence = self.next();
        let until = now + lease;
        let held = HeldLock {
            fence,
            holder: holder.into(),
            until,
        };
        self.locks.insert(name.into(), held);
        Ok(Some(fence))
    }
}

impl ValueStore for Memory {
    fn get(&self, key: &str) -> BoxFuture<Result<Option<StoredValue>, ValueError>> {
        let entry = self.0.lock().values.get(key).cloned();
        Box::pin(ready(Ok(entry)))
    }

    fn put(
        &self,
        key: &str,
        expected: Expected,
        text: Option<Arc<str>>,
    ) -> BoxFuture<Result<Put, ValueError>> {
        let put = self.0.lock().put(key, expected, text);
        Box::pin(ready(put))
    }

    fn lock(
        &self,
        name: &str,
        holder: &str,
        lease: Duration,
    ) -> BoxFuture<Result<Option<u64>, ValueError>> {
        let taken = self.0.lock().lock(name, holder, lease);
        Box::pin(ready(taken))
    }

    fn renew(
        &self,
        name: &str,
        fence: u64,
        lease: Duration,
    ) -> BoxFuture<Result<bool, ValueError>> {
        let mut table = self.0.lock();
        let held = table.held(name, fence);
        let is_held = held.is_some();
        if let Some(held) = held {
            held.until = Instant::now() + lease;
        }
        Box::pin(ready(Ok(is_held)))
    }

    fn unlock(&self, name: &str, fence: u64) -> BoxFuture<Result<bool, ValueError>> {
        let mut table = self.0.lock();
        let is_held = table.held(name, fence).is_some();
        if is_held {
            table.locks.remove(name);
        }
        Box::pin(ready(Ok(is_held)))
    }
}
