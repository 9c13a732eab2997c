//! The statuses of users, stored in values that servers share.
//!
//! Each server emits changes to its own clients. Users are spread over [`SHARDS`] values. A server
//! has a copy of all of them, so that reads need no query. A writer expects the version that it
//! knows, and reads the value again if another server was faster. So all changes of a user have one
//! order.
//!
//! A [`StatusReader`](super::StatusReader) reads the values again and emits any difference from the
//! copy.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use sha2::{Digest as _, Sha256};
use tokio::sync::{Notify, Semaphore, SemaphorePermit};
use tokio::time::timeout;

use crate::metrics::{Counter, Inventoried, Inventory, Metrics};
use crate::service::chat::presence::status::Statuses;
use crate::service::chat::sequencer::conversations::room_of;
use crate::service::chat::sequencer::delivery::user_room;
use crate::service::fault::ServiceError;
use crate::service::rules::emissions::attendance::{STATUS, Status, UserStatus};
use crate::store::{Store, StoreError, Time};
use roomcast::adapter::values::{Changes, Expected, Keyspace, Put, ValueError, Values};
use roomcast::{Namespace, Room, SocketId};

/// The statuses of all users, as known to this server.
pub(in crate::service::chat) struct SharedStatuses {
    /// The shared values, set when the server starts.
    values: OnceLock<Keyspace<Statuses>>,
    shards: Box<[StatusShard]>,
    /// Users whose status must be emitted, with the socket to exclude.
    changed: Mutex<BTreeMap<Arc<str>, Option<SocketId>>>,
    has_changed: Notify,
    metrics: Arc<Metrics>,
}

/// One of the shared values.
struct StatusShard {
    /// One permit, for reading or changing the value in the store.
    permit: Semaphore,
    known: RwLock<ShardSnapshot>,
}

impl StatusShard {
    fn new() -> Self {
        Self {
            permit: Semaphore::new(1),
            known: RwLock::default(),
        }
    }

    /// Waits for the permit. Never returns `None`, since the semaphore is never closed.
    async fn acquire(&self) -> Option<SemaphorePermit<'_>> {
        self.permit.acquire().await.ok()
    }
}

#[derive(Default)]
struct ShardSnapshot {
    version: Option<u64>,
    statuses: Statuses,
}

impl SharedStatuses {
    pub(in crate::service::chat) fn new(metrics: Arc<Metrics>) -> Self {
        Self {
            values: OnceLock::new(),
            shards: (0..SHARDS).map(|_| StatusShard::new()).collect(),
            changed: Mutex::default(),
            has_changed: Notify::new(),
            metrics,
        }
    }

    /// Loads all statuses. Nothing is emitted, since no client is connected yet.
    pub(in crate::service::chat) async fn open(&self, values: &Values) {
        let keyspace = values.keyspace("status", 1, |_, value| Ok(value));
        let keyspace = self.values.get_or_init(|| keyspace);
        let reading = async {
            for (key, shard) in self.shards.iter().enumerate() {
                *shard.known.write() = read(keyspace, key).await?;
            }
            Ok::<_, ValueError>(())
        };
        let read = timeout(OPENING, reading).await;
        if !matches!(read, Ok(Ok(()))) {
            tracing::warn!("could not read user statuses, retrying");
        }
    }

    /// Returns the status of a user, if one is set.
    pub(in crate::service::chat) fn get(&self, user: &str) -> Option<UserStatus> {
        let shard = self.shards.get(shard_of(user))?;
        shard.known.read().statuses.get(user, Time::now())
    }

    /// Sets the status of a user.
    pub(in crate::service::chat) async fn set(
        &self,
        user: &str,
        status: Status,
        text: Option<Arc<str>>,
        from: Option<SocketId>,
    ) -> Result<UserStatus, ServiceError> {
        let setting = self.store(user, status, text.as_ref(), from);
        match timeout(STORE_TIMEOUT, setting).await {
            Ok(Ok(Some(updated))) => Ok(updated),
            Ok(Err(error)) => {
                roomcast::throttled_log!(warn, %error, "could not store a user status");
                Err(unavailable())
            }
            Ok(Ok(None)) | Err(_) => Err(unavailable()),
        }
    }

    /// Removes the status of a user. Returns whether there was one.
    pub(in crate::service::chat) async fn remove(&self, user: &str) -> Result<bool, ServiceError> {
        match timeout(STORE_TIMEOUT, self.store_removal(user)).await {
            Ok(Ok(Some(was_there))) => Ok(was_there),
            Ok(Err(error)) => {
                roomcast::throttled_log!(warn, %error, "could not remove a user status");
                Err(unavailable())
            }
            Ok(Ok(None)) | Err(_) => Err(unavailable()),
        }
    }

    /// Removes the status. Returns `None` if other servers were faster in all attempts.
    async fn store_removal(&self, user: &str) -> Result<Option<bool>, ValueError> {
        let number = shard_of(user);
        let (Some(keyspace), Some(shard)) = (self.values.get(), self.shards.get(number)) else {
            // Without shared values there are no statuses.
            return Ok(Some(false));
        };
        let _permit = shard.acquire().await;
        for _ in 0..TRIES {
            // Another server may have a newer value than the copy.
            self.replace(shard, read(keyspace, number).await?, None);
            let (version, mut statuses) = {
                let known = shard.known.read();
                (known.version, known.statuses.clone())
            };
            if !statuses.remove(user) {
                return Ok(Some(false));
            }
            let expected = version.map_or(Expected::Nothing, Expected::Version);
            let put = keyspace
                .put(&number.to_string(), expected, &statuses)
                .await?;
            if let Put::Stored(version) = put {
                let version = Some(version);
                self.replace(shard, ShardSnapshot { version, statuses }, None);
                return Ok(Some(true));
            }
        }
        Ok(None)
    }

    /// Stores the status. Returns `None` if other servers were faster in all attempts.
    async fn store(
        &self,
        user: &str,
        status: Status,
        text: Option<&Arc<str>>,
        from: Option<SocketId>,
    ) -> Result<Option<UserStatus>, ValueError> {
        let number = shard_of(user);
        let (Some(keyspace), Some(shard)) = (self.values.get(), self.shards.get(number)) else {
            return Ok(None);
        };
        let key = number.to_string();
        let _permit = shard.acquire().await;
        let mut is_read = false;
        for _ in 0..TRIES {
            let (version, mut statuses) = {
                let known = shard.known.read();
                (known.version, known.statuses.clone())
            };
            let now = Time::now();
            let Some(updated) = statuses.set(user, status, text, now) else {
                if is_read {
                    let known = statuses.get(user, now);
                    return Ok(Some(known.unwrap_or_else(|| nothing(user, now))));
                }
                // Another server may have a newer value.
                self.replace(shard, read(keyspace, number).await?, None);
                is_read = true;
                continue;
            };
            let expected = version.map_or(Expected::Nothing, Expected::Version);
            match keyspace.put(&key, expected, &statuses).await? {
                Put::Stored(version) => {
                    let version = Some(version);
                    let evicted = statuses.evicted(&shard.known.read().statuses, now).len();
                    if evicted > 0 {
                        let count = u64::try_from(evicted).unwrap_or(u64::MAX);
                        self.metrics.add(Counter::StatusesForgotten, count);
                        roomcast::throttled_log!(
                            warn,
                            forgotten = evicted,
                            "too many user statuses, some were discarded"
                        );
                    }
                    self.replace(shard, ShardSnapshot { version, statuses }, from.as_ref());
                    return Ok(Some(updated));
                }
                Put::Conflict(_) | _ => {
                    self.replace(shard, read(keyspace, number).await?, None);
                    is_read = true;
                }
            }
        }
        Ok(None)
    }

    /// Replaces the copy of a value, and schedules emissions for users whose status has changed or
    /// was evicted.
    fn replace(&self, shard: &StatusShard, now: ShardSnapshot, from: Option<&SocketId>) {
        // Both locks are held together, so that the emitting task sees both changes or neither, and
        // emits nothing twice.
        let mut changed = self.changed.lock();
        let mut known = shard.known.write();
        let news: Vec<Arc<str>> = {
            let mut news = now.statuses.since(&known.statuses);
            news.extend(now.statuses.evicted(&known.statuses, Time::now()));
            news.into_iter().cloned().collect()
        };
        *known = now;
        drop(known);
        if news.is_empty() {
            return;
        }
        changed.extend(news.into_iter().map(|user| (user, from.cloned())));
        drop(changed);
        self.has_changed.notify_one();
    }

    /// Returns the keys that are announced as changed from now on. `None` before the values are
    /// opened.
    pub(super) fn changes(&self) -> Option<Changes> {
        self.values.get().map(Keyspace::changes)
    }

    /// Waits until a status must be emitted.
    pub(super) async fn wait_for_changes(&self) {
        self.has_changed.notified().await;
    }

    /// Reads a value again when its permit is free.
    pub(super) async fn reload(&self, number: usize) -> Result<(), ValueError> {
        if let (Some(keyspace), Some(shard)) = (self.values.get(), self.shards.get(number)) {
            let _permit = shard.acquire().await;
            self.replace(shard, read(keyspace, number).await?, None);
        }
        Ok(())
    }

    /// Emits all scheduled statuses. If the store does not answer, the rest are emitted later.
    pub(super) async fn emit_changed(
        &self,
        namespace: &Namespace,
        store: &Store,
    ) -> Result<(), StoreError> {
        loop {
            let first = self
                .changed
                .lock()
                .first_key_value()
                .map(|(user, _)| Arc::clone(user));
            let Some(user) = first else {
                return Ok(());
            };
            let ids = store.conversation_ids(&user, MAX_CONVERSATIONS).await?;
            let contacts = contacts(store, &user).await?;
            // This includes changes made in the meantime.
            let (from, status) = {
                let mut changed = self.changed.lock();
                (changed.remove(&user), self.get(&user))
            };
            let Some(from) = from else {
                continue;
            };
            // An evicted status is emitted as the default status.
            let status = status.unwrap_or_else(|| nothing(&user, Time::now()));
            let mut rooms: Vec<Room> = ids.into_iter().map(room_of).collect();
            rooms.push(user_room(&user));
            // Each socket receives it once, even if it is in several of these rooms.
            rooms.extend(contacts.iter().map(|contact| user_room(contact)));
            let all = namespace.local().to(rooms);
            let others = match from {
                Some(socket) => all.except(socket),
                None => all,
            };
            STATUS.emit(others, &status);
        }
    }

    /// Returns the statuses of those users that have set one.
    pub(in crate::service::chat) fn of<'a>(
        &self,
        users: impl IntoIterator<Item = &'a str>,
    ) -> Vec<UserStatus> {
        let users: BTreeSet<&str> = users.into_iter().collect();
        let statuses = users.into_iter().filter_map(|user| self.get(user));
        statuses.take(MAX_LISTED).collect()
    }
}

/// Returns the users who receive a user's status on all their sockets, and whose statuses the user
/// receives.
pub(super) async fn contacts(store: &Store, user: &str) -> Result<Vec<String>, StoreError> {
    store.contacts(user, MAX_MEMBERS, MAX_CONTACTS).await
}

async fn read(keyspace: &Keyspace<Statuses>, number: usize) -> Result<ShardSnapshot, ValueError> {
    let stored = keyspace.get(&number.to_string()).await?;
    Ok(
        stored.map_or_else(ShardSnapshot::default, |stored| ShardSnapshot {
            version: Some(stored.version),
            statuses: stored.value,
        }),
    )
}

/// Returns the status of a user who has set none.
fn nothing(user: &str, now: Time) -> UserStatus {
    UserStatus {
        user_id: user.into(),
        status: Status::default(),
        text: None,
        timestamp: now,
    }
}

/// Returns the number of the value that has a user's status. It is the same at all servers.
fn shard_of(user: &str) -> usize {
    let hash = Sha256::digest(user);
    hash.first().map_or(0, |byte| usize::from(*byte))
}

impl Inventoried for SharedStatuses {
    fn report(&self, inventory: &mut Inventory) {
        let shards = self.shards.iter();
        let count: usize = shards.map(|shard| shard.known.read().statuses.len()).sum();
        inventory.add("statuses", count as u64, None);
        let changed = self.changed.lock().len() as u64;
        inventory.add("changed statuses", changed, None);
    }
}

impl fmt::Debug for SharedStatuses {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SharedStatuses").finish_non_exhaustive()
    }
}

/// Returns the error if statuses cannot be stored.
fn unavailable() -> ServiceError {
    ServiceError::unavailable(Duration::from_secs(1))
}

/// The number of values that users are spread over: one per first byte of a hash.
pub(super) const SHARDS: usize = 256;
/// The maximum number of attempts to change a value that other servers change too.
const TRIES: u32 = 16;
/// The timeout for setting a status.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// The timeout for loading the values at startup.
const OPENING: Duration = Duration::from_secs(10);
/// The maximum number of conversations of a user in which a status is emitted.
const MAX_CONVERSATIONS: usize = 1000;
/// The maximum size of a conversation whose members all receive a status, whether they have joined
/// or not.
const MAX_MEMBERS: usize = 100;
/// The maximum number of users who receive a status as such members.
const MAX_CONTACTS: usize = 1000;
/// The maximum number of statuses in one answer.
const MAX_LISTED: usize = 1000;
