//! The statuses of users, stored as rows that servers share.
//!
//! Each server emits changes to its own clients: its own changes after the commit, and those of
//! other servers when [`StatusNews`] finds them in the change feed. Servers have no copy of the
//! statuses, since guests could make it grow without bounds.
//!
//! A status belongs to no server, and several servers may change it. Its row decides whether
//! anything changes, and dates the changes of a user in one order. A directory of contacts in
//! memory would be as large as all memberships, so contacts and statuses are read from the store.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _, stream};
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{sleep, timeout};

use crate::auth::is_guest;
use crate::service::chat::handle::Chat;
use crate::service::chat::sequencer::conversations::room_of;
use crate::service::chat::sequencer::delivery::user_room;
use crate::service::fault::ServiceError;
use crate::service::feed::{Applied, Applier, Applying, Entries};
use crate::service::rules::emissions::attendance::{STATUS, UserStatus};
use crate::store::{Change, Feed, NewStatus, Store, StoreError, Time};
use roomcast::{Namespace, Room, SocketId};

/// Stores statuses, and emits each change of a user in the order of the times.
///
/// A user belongs to one shard by the hash of the id. The permit of a shard is held from before a
/// change until it is emitted, so that no other change of the user comes in between.
pub(in crate::service::chat) struct StatusEmitter {
    shards: Box<[StatusShard]>,
}

struct StatusShard {
    /// One permit, for changing and emitting statuses.
    permit: Semaphore,
    emitted: Mutex<EmittedStatuses>,
}

/// The right to change and emit the status of a user.
struct StatusTurn<'a> {
    /// Always a permit, since the semaphore is never closed.
    _permit: Option<SemaphorePermit<'a>>,
    emitted: &'a Mutex<EmittedStatuses>,
}

/// What was emitted last for some users.
///
/// The feed also reports this server's own changes, soon after they were emitted. So it is enough
/// to know the last ones.
#[derive(Default)]
struct EmittedStatuses(BTreeMap<Arc<str>, LastEmitted>);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum LastEmitted {
    /// The status was removed.
    Removed,
    /// A status with this time.
    Set(Time),
}

impl EmittedStatuses {
    fn note(&mut self, user: &Arc<str>, last: LastEmitted) {
        self.0.insert(Arc::clone(user), last);
        if self.0.len() > MAX_EMITTED {
            let oldest = self.0.iter().min_by_key(|(_, last)| **last);
            if let Some(oldest) = oldest.map(|(user, _)| Arc::clone(user)) {
                self.0.remove(&oldest);
            }
        }
    }

    /// Returns whether a status, or its absence, is newer than what was emitted last.
    fn is_news(&self, user: &str, found: Option<&UserStatus>) -> bool {
        match (self.0.get(user), found) {
            (Some(LastEmitted::Set(last)), Some(found)) => found.timestamp > *last,
            (last, None) => last != Some(&LastEmitted::Removed),
            (Some(LastEmitted::Removed) | None, Some(_)) => true,
        }
    }
}

impl StatusEmitter {
    pub(in crate::service::chat) fn new() -> Self {
        Self {
            shards: (0..SHARDS)
                .map(|_| StatusShard {
                    permit: Semaphore::new(1),
                    emitted: Mutex::default(),
                })
                .collect(),
        }
    }

    /// Waits until no other change of the user is in progress.
    async fn turn(&self, user: &str) -> StatusTurn<'_> {
        let hash = Sha256::digest(user);
        let number = hash.first().map_or(0, |byte| usize::from(*byte)) % SHARDS;
        #[expect(clippy::indexing_slicing, reason = "the number is below the length")]
        let shard = &self.shards[number];
        StatusTurn {
            _permit: shard.permit.acquire().await.ok(),
            emitted: &shard.emitted,
        }
    }

    /// Sets the status of a user, and emits it to all other sockets than `from`.
    pub(in crate::service::chat) async fn set(
        &self,
        namespace: &Namespace,
        store: &Store,
        new: NewStatus,
        from: Option<SocketId>,
    ) -> Result<UserStatus, ServiceError> {
        let setting = async {
            let turn = self.turn(&new.user_id).await;
            let status = match store.set_status(new, Time::now()).await? {
                Change::Done(status) => status,
                Change::Unchanged(status) => return Ok(status),
                Change::Absent | Change::Denied | Change::Conflict => {
                    return Err(StoreError::Failed);
                }
            };
            let last = LastEmitted::Set(status.timestamp);
            emit_stored(namespace, store, &status, from, last, &turn).await;
            Ok(status)
        };
        let set = timeout(STORE_TIMEOUT, setting).await;
        let set = set
            .unwrap_or(Err(StoreError::TimedOut))
            .inspect_err(|error| {
                roomcast::throttled_log!(warn, %error, "could not store a user status");
            });
        Ok(set?)
    }

    /// Removes the status of a user, which is emitted as the default status.
    pub(in crate::service::chat) async fn remove(
        &self,
        namespace: &Namespace,
        store: &Store,
        user: &str,
    ) -> Result<bool, ServiceError> {
        let removing = async {
            let turn = self.turn(user).await;
            if !store.remove_status(user).await? {
                return Ok(false);
            }
            let status = UserStatus::unset(user.into(), Time::now());
            let last = LastEmitted::Removed;
            emit_stored(namespace, store, &status, None, last, &turn).await;
            Ok(true)
        };
        let removed = timeout(STORE_TIMEOUT, removing).await;
        let removed = removed.unwrap_or(Err(StoreError::TimedOut));
        Ok(removed.inspect_err(|error| {
            roomcast::throttled_log!(warn, %error, "could not remove a user status");
        })?)
    }

    /// Emits the current status of a user, unless it was emitted before.
    async fn emit_found(
        &self,
        namespace: &Namespace,
        store: &Store,
        user: &str,
        found: Option<UserStatus>,
    ) -> Result<(), StoreError> {
        let turn = self.turn(user).await;
        if !turn.emitted.lock().is_news(user, found.as_ref()) {
            return Ok(());
        }
        let last = match &found {
            Some(status) => LastEmitted::Set(status.timestamp),
            None => LastEmitted::Removed,
        };
        // The removal of a status is emitted as the default status.
        let status = found.unwrap_or_else(|| UserStatus::unset(user.into(), Time::now()));
        emit(namespace, store, &status, None).await?;
        turn.emitted.lock().note(&status.user_id, last);
        Ok(())
    }
}

/// Emits a change that this server has stored. If its recipients cannot be read after some
/// attempts, the change feed reports it again, if there is one.
async fn emit_stored(
    namespace: &Namespace,
    store: &Store,
    status: &UserStatus,
    from: Option<SocketId>,
    last: LastEmitted,
    turn: &StatusTurn<'_>,
) {
    for _ in 0..EMIT_TRIES {
        if emit(namespace, store, status, from.clone()).await.is_ok() {
            turn.emitted.lock().note(&status.user_id, last);
            return;
        }
        sleep(EMIT_DELAY).await;
    }
}

/// Emits a status to the clients of this server that receive it.
async fn emit(
    namespace: &Namespace,
    store: &Store,
    status: &UserStatus,
    from: Option<SocketId>,
) -> Result<(), StoreError> {
    let user = &status.user_id;
    let ids = store.conversation_ids(user, MAX_CONVERSATIONS).await?;
    let contacts = contacts(store, user).await?;
    let mut rooms: Vec<Room> = ids.into_iter().map(room_of).collect();
    rooms.push(user_room(user));
    // Each socket receives it once, even if it is in several of these rooms.
    rooms.extend(contacts.iter().map(|contact| user_room(contact)));
    let all = namespace.local().to(rooms);
    let others = match from {
        Some(socket) => all.except(socket),
        None => all,
    };
    STATUS.emit(others, status);
    Ok(())
}

/// Returns the users who receive a user's status on all their sockets, and whose statuses the user
/// receives.
pub(super) async fn contacts(store: &Store, user: &str) -> Result<Vec<String>, StoreError> {
    store.contacts(user, MAX_MEMBERS, MAX_CONTACTS).await
}

/// Returns the statuses of those users that have set one, at most [`MAX_LISTED`].
pub(in crate::service::chat) async fn statuses_of<'a>(
    store: &Store,
    users: impl IntoIterator<Item = &'a str>,
) -> Result<Vec<UserStatus>, StoreError> {
    let users = users.into_iter().map(str::to_owned).collect();
    store.statuses(users, MAX_LISTED, Time::now()).await
}

/// Returns the time after which a new status expires.
pub(in crate::service::chat) fn retention(user: &str, is_default: bool) -> Duration {
    match (is_default, is_guest(user)) {
        (true, _) => DEFAULT_RETENTION,
        (false, true) => GUEST_RETENTION,
        (false, false) => RETENTION,
    }
}

/// Emits the statuses that other servers have changed.
pub(crate) struct StatusNews {
    chat: Chat,
    namespace: Namespace,
}

impl StatusNews {
    pub(crate) fn new(chat: Chat, namespace: Namespace) -> Self {
        Self { chat, namespace }
    }

    async fn emit(&self, users: impl Iterator<Item = &String>) -> Result<(), StoreError> {
        let (store, emitter) = (&self.chat.0.store, &self.chat.0.statuses);
        let users: Vec<&str> = users.map(String::as_str).collect();
        for users in users.chunks(MAX_LISTED) {
            let found = statuses_of(store, users.iter().copied()).await?;
            let mut found: BTreeMap<Arc<str>, UserStatus> = found
                .into_iter()
                .map(|status| (Arc::clone(&status.user_id), status))
                .collect();
            let users: Vec<_> = users
                .iter()
                .map(|user| ((*user).to_owned(), found.remove(*user)))
                .collect();
            stream::iter(users)
                .map(|(user, found)| async move {
                    let namespace = &self.namespace;
                    emitter.emit_found(namespace, store, &user, found).await
                })
                .buffer_unordered(EMITTERS)
                .try_collect::<()>()
                .await?;
        }
        Ok(())
    }
}

impl Applier for StatusNews {
    fn topic(&self) -> &'static str {
        "user_statuses"
    }

    fn apply<'a>(&'a self, _: &'a Feed, changed: &'a Entries) -> Applying<'a> {
        Box::pin(async move {
            match changed {
                // Clients that connect or join read the current statuses.
                Entries::All => {}
                Entries::These(users) => self.emit(users.iter()).await?,
            }
            Ok(Applied::default())
        })
    }
}

impl fmt::Debug for StatusEmitter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StatusEmitter").finish_non_exhaustive()
    }
}

/// Retention time of the status of a user with an account.
const RETENTION: Duration = Duration::from_secs(365 * 24 * 60 * 60);
/// Retention time of the status of a guest.
const GUEST_RETENTION: Duration = Duration::from_secs(24 * 60 * 60);
/// Retention time of a reset to the default status. Until then no server clock dates the next
/// change earlier: it is far longer than server clocks differ.
const DEFAULT_RETENTION: Duration = Duration::from_secs(60 * 60);
/// The number of locks that users are spread over.
const SHARDS: usize = 64;
/// The maximum number of users in a shard of whom it is known what was emitted last.
const MAX_EMITTED: usize = 64;
/// The timeout for setting a status.
const STORE_TIMEOUT: Duration = Duration::from_secs(10);
/// The maximum number of attempts to emit a status that this server has stored.
const EMIT_TRIES: u32 = 10;
/// The delay between these attempts.
const EMIT_DELAY: Duration = Duration::from_millis(100);
/// The number of statuses of other servers that are emitted concurrently.
const EMITTERS: usize = 4;
/// The maximum number of conversations of a user in which a status is emitted.
const MAX_CONVERSATIONS: usize = 1000;
/// The maximum size of a conversation whose members all receive a status, whether they have joined
/// or not.
const MAX_MEMBERS: usize = 100;
/// The maximum number of users who receive a status as such members.
const MAX_CONTACTS: usize = 1000;
/// The maximum number of statuses in one answer.
const MAX_LISTED: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    fn time(second: u64) -> Time {
        let noon: Time = "2025-01-31T12:00:00Z".parse().unwrap();
        noon.after(Duration::from_secs(second))
    }

    fn status(second: u64) -> UserStatus {
        UserStatus::unset("ann".into(), time(second))
    }

    #[test]
    fn only_later_statuses_and_first_removals_are_news() {
        let mut emitted = EmittedStatuses::default();
        assert!(emitted.is_news("ann", Some(&status(1))));
        assert!(emitted.is_news("ann", None));
        emitted.note(&"ann".into(), LastEmitted::Set(time(1)));
        assert!(!emitted.is_news("ann", Some(&status(0))));
        assert!(!emitted.is_news("ann", Some(&status(1))));
        assert!(emitted.is_news("ann", Some(&status(2))));
        assert!(emitted.is_news("bob", Some(&status(0))));
        assert!(emitted.is_news("ann", None));
        emitted.note(&"ann".into(), LastEmitted::Removed);
        assert!(!emitted.is_news("ann", None));
        assert!(emitted.is_news("ann", Some(&status(0))));
    }

    #[test]
    fn oldest_emitted_statuses_are_forgotten_first() {
        let mut emitted = EmittedStatuses::default();
        for n in 0..=MAX_EMITTED as u64 {
            emitted.note(&format!("user {n}").into(), LastEmitted::Set(time(n)));
        }
        assert_eq!(emitted.0.len(), MAX_EMITTED);
        assert!(emitted.is_news("user 0", Some(&status(0))));
        assert!(!emitted.is_news("user 1", Some(&status(1))));
    }

    #[test]
    fn statuses_of_guests_and_resets_expire_sooner() {
        assert_eq!(retention("ann", false), RETENTION);
        assert_eq!(retention("guest:1", false), GUEST_RETENTION);
        assert_eq!(retention("ann", true), DEFAULT_RETENTION);
        assert_eq!(retention("guest:1", true), DEFAULT_RETENTION);
    }
}
