use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use super::{ValueError, Values, check};

/// A lock that this server holds until its lease expires. Dropping it does not release the lock.
///
/// A server may stall for longer than its lease without noticing. The protected resource must
/// therefore receive the [fencing number](Self::fence), and reject a number smaller than the
/// largest it has seen. A later holder has a larger number.
#[derive(Debug)]
pub struct Lock {
    values: Values,
    name: Arc<str>,
    fence: u64,
    lease: Duration,
    /// When the lease expires by the clock of this server. By the clock of the store, it expires
    /// later.
    until: Instant,
}

/// An attempt to acquire a lock, which can be repeated. It has a unique holder name. If a response
/// was lost, the store recognizes the holder and grants the lock again.
pub(super) struct LockAttempt {
    values: Values,
    name: Arc<str>,
    holder: Arc<str>,
    lease: Duration,
    /// Whether the lock may be held although no response has arrived.
    is_in_doubt: bool,
}

impl LockAttempt {
    pub(super) fn new(values: &Values, name: &str, lease: Duration) -> Result<Self, ValueError> {
        check(name)?;
        let unknown = |error| ValueError::Unavailable(format!("nothing is random: {error}"));
        let random = getrandom::u64().map_err(unknown)?;
        let joined = values.0.cluster.joined();
        let node = joined.map_or("this", |joined| joined.registry().name().as_str());
        Ok(Self {
            values: values.clone(),
            name: name.into(),
            holder: format!("{node} {random:016x}").into(),
            lease: lease.clamp(SHORTEST, LONGEST),
            is_in_doubt: false,
        })
    }

    pub(super) async fn make(&mut self) -> Result<Option<Lock>, ValueError> {
        // The lease is counted from before the request, so that it expires here before it expires
        // at the store.
        let until = Instant::now() + self.lease;
        self.is_in_doubt = true;
        let store = &self.values.0.store;
        let taking = store.lock(&self.name, &self.holder, self.lease);
        let taken = self.values.within(taking).await?;
        self.is_in_doubt = false;
        Ok(taken.map(|fence| Lock {
            values: self.values.clone(),
            name: Arc::clone(&self.name),
            fence,
            lease: self.lease,
            until,
        }))
    }
}

impl Drop for LockAttempt {
    fn drop(&mut self) {
        // An attempt that is dropped during a request may hold the lock. Without a runtime the lock
        // cannot be released, and expires with its lease.
        if self.is_in_doubt
            && let Ok(runtime) = Handle::try_current()
        {
            let in_doubt = InDoubtLock {
                name: Arc::clone(&self.name),
                holder: Arc::clone(&self.holder),
                over: Instant::now() + self.lease,
            };
            if self.values.0.in_doubt.add(in_doubt) {
                let giving = ReleaseTask(self.values.clone());
                runtime.spawn(giving.run());
            }
        }
    }
}

/// A lock that an attempt may have acquired without knowing.
#[derive(Debug)]
struct InDoubtLock {
    name: Arc<str>,
    holder: Arc<str>,
    /// When its lease has expired.
    over: Instant,
}

/// The locks that this server may hold without knowing. One task releases all of them, however many
/// attempts fail while the store is unavailable.
#[derive(Debug, Default)]
pub(super) struct InDoubtLocks(Mutex<DoubtsInner>);

#[derive(Debug, Default)]
struct DoubtsInner {
    /// At most [`MAX_IN_DOUBT`] locks. Further locks expire with their leases.
    locks: VecDeque<InDoubtLock>,
    is_running: bool,
}

impl InDoubtLocks {
    /// Adds a lock. Returns `true` if the caller must start the task that releases the locks.
    fn add(&self, in_doubt: InDoubtLock) -> bool {
        let mut inner = self.0.lock();
        if inner.locks.len() >= MAX_IN_DOUBT {
            let now = Instant::now();
            inner.locks.retain(|lock| lock.over > now);
        }
        if inner.locks.len() < MAX_IN_DOUBT {
            inner.locks.push_back(in_doubt);
        }
        !std::mem::replace(&mut inner.is_running, true)
    }

    /// Returns the next lock, or `None` if none is left.
    fn next(&self) -> Option<InDoubtLock> {
        let mut inner = self.0.lock();
        let now = Instant::now();
        while let Some(next) = inner.locks.pop_front() {
            if next.over > now {
                return Some(next);
            }
        }
        // This is set under the lock under which the queue was found empty. The next call of `add`
        // then starts a new task.
        inner.is_running = false;
        None
    }
}

/// The task that releases these locks.
struct ReleaseTask(Values);

impl ReleaseTask {
    async fn run(self) {
        let values = &self.0;
        let doubts = &values.0.in_doubt;
        while let Some(lock) = doubts.next() {
            // The store grants the lock to its own holder again, with this short lease instead of
            // the long one.
            let taking = values.0.store.lock(&lock.name, &lock.holder, SHORTEST);
            if values.within(taking).await.is_err() {
                doubts.0.lock().locks.push_back(lock);
                sleep(RETRY_DELAY).await;
            }
        }
    }
}

impl Drop for ReleaseTask {
    fn drop(&mut self) {
        // The task also ends if the store panics or the runtime shuts down. The next attempt then
        // starts a new task.
        self.0.0.in_doubt.0.lock().is_running = false;
    }
}

impl Lock {
    /// Returns the fencing number, which is larger than the number of every earlier holder.
    #[must_use]
    pub const fn fence(&self) -> u64 {
        self.fence
    }

    /// Returns how long the lock is still held, by the clock of this server. Zero means that it may
    /// be lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Extends the lock by another lease from now. Returns `false` if the lock is lost and another
    /// holder may have it.
    ///
    /// # Errors
    ///
    /// If the store does not respond. The lock is then held until [`remaining`](Self::remaining) is
    /// zero.
    pub async fn renew(&mut self) -> Result<bool, ValueError> {
        let until = Instant::now() + self.lease;
        let store = &self.values.0.store;
        let renewing = store.renew(&self.name, self.fence, self.lease);
        let is_held = self.values.within(renewing).await?;
        self.until = if is_held { until } else { Instant::now() };
        Ok(is_held)
    }

    /// Releases the lock. Returns `false` if it was already lost.
    ///
    /// # Errors
    ///
    /// If the store does not respond. The lock then expires with its lease.
    pub async fn release(self) -> Result<bool, ValueError> {
        let unlocking = self.values.0.store.unlock(&self.name, self.fence);
        self.values.within(unlocking).await
    }
}

/// The maximum number of locks that are queued for release.
pub(super) const MAX_IN_DOUBT: usize = 1024;
/// The delay before the next attempt to release a lock while the store does not respond.
const RETRY_DELAY: Duration = Duration::from_secs(1);
/// The minimum lease.
const SHORTEST: Duration = Duration::from_millis(10);
/// The maximum lease.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
