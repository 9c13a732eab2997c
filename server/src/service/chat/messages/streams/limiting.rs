//! How many messages are written at the same time: by a user, and at this server.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::{FULL_DELAY, Streams};
use crate::metrics::{Counter, Inventoried, Inventory};
use crate::service::chat::handle::Chat;
use crate::service::fault::ServiceError;
use crate::store::StoreError;

/// The messages that begin at this moment, which are not counted as written yet.
#[derive(Debug, Default)]
pub(super) struct Beginnings {
    /// The users who begin one. Each begins one after the other.
    users: Mutex<HashMap<Box<str>, Arc<Semaphore>>>,
    /// The number of messages with a reserved place at this server.
    reserved: AtomicUsize,
}

/// The turn of a user who begins a message. It ends when this is dropped.
#[derive(Debug)]
pub(super) struct Turn<'a> {
    streams: &'a Streams,
    user: &'a str,
    /// Has one permit, for all turns of the user.
    turns: Arc<Semaphore>,
    permit: Option<OwnedSemaphorePermit>,
    is_reserved: bool,
}

impl Streams {
    /// Waits until the user begins no other message here. What the store counts then stays exact
    /// until the next message of the user is stored.
    ///
    /// # Errors
    ///
    /// If the others take too long.
    pub(super) async fn take_turn<'a>(&'a self, user: &'a str) -> Result<Turn<'a>, ServiceError> {
        let turns = {
            let mut users = self.beginnings.users.lock();
            let turns = users.entry(user.into());
            Arc::clone(turns.or_insert_with(|| Arc::new(Semaphore::new(1))))
        };
        let mut turn = Turn {
            streams: self,
            user,
            turns,
            permit: None,
            is_reserved: false,
        };
        let permit = timeout(TURN_TIMEOUT, Arc::clone(&turn.turns).acquire_owned()).await;
        turn.permit = permit.ok().and_then(Result::ok);
        if turn.permit.is_none() {
            return Err(ServiceError::unavailable(FULL_DELAY));
        }
        Ok(turn)
    }
}

impl Turn<'_> {
    /// Reserves a place at this server, unless all are taken.
    fn reserve(&mut self) -> bool {
        let reserved = &self.streams.beginnings.reserved;
        let open = self.streams.open.lock();
        // Read and changed under the lock of the table, whose length it completes.
        self.is_reserved = open.len() + reserved.load(Ordering::Relaxed) < self.streams.limits.max;
        if self.is_reserved {
            reserved.fetch_add(1, Ordering::Relaxed);
        }
        self.is_reserved
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let beginnings = &self.streams.beginnings;
        if self.is_reserved {
            beginnings.reserved.fetch_sub(1, Ordering::Relaxed);
        }
        drop(self.permit.take());
        let mut users = beginnings.users.lock();
        // Only this turn and the table have it: no other message waits.
        if Arc::strong_count(&self.turns) == 2 {
            users.remove(self.user);
        }
    }
}

impl Chat {
    /// Reserves a place for a further message of a user, or returns the limit that it exceeds.
    pub(super) async fn find_exceeded(
        &self,
        turn: &mut Turn<'_>,
    ) -> Result<Option<Counter>, StoreError> {
        let mine = self.0.store.count_streams(turn.user).await?;
        let limits = &self.0.streams.limits;
        Ok(
            if usize::try_from(mine).unwrap_or(usize::MAX) >= limits.per_user {
                Some(Counter::StreamsOfUser)
            } else if turn.reserve() {
                None
            } else {
                Some(Counter::StreamsOfServer)
            },
        )
    }
}

impl Inventoried for Beginnings {
    fn report(&self, inventory: &mut Inventory) {
        inventory.map("users who begin messages", &self.users.lock());
    }
}

/// The time that the messages which a user begins before may take.
const TURN_TIMEOUT: Duration = Duration::from_secs(10);
