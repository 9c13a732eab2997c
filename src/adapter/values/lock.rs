use std::{collections::VecDeque, sync::Arc, time::Duration};

use parking_lot::Mutex;
use tokio::{
    runtime::Handle,
    time::{Instant, sleep},
};

use super::{ValueError, Values, check};

/// A lock that this server holds, until its lease is over; dropping it gives nothing back.
///
/// A server may stand still for longer than its lease and not know it. So whatever the lock protects is told
/// the [fencing number](Self::fence), and refuses a number that is smaller than one that it has seen: who held the
/// lock later has a larger one.
#[derive(Debug)]
pub struct Lock {
    values: Values,
    name: Arc<str>,
    fence: u64,
    lease: Duration,
    /// By the clock of this server; by that of the store it lasts longer.
    until: Instant,
}

/// Tries to get a lock, as often as it is asked for. It has a name that nobody else has, so that the store knows it
/// again: what it got with an answer that was lost it gets once more.
pub(super) struct Attempt {
    values: Values,
    name: Arc<str>,
    holder: Arc<str>,
    lease: Duration,
    /// The lock may be held without anybody knowing of it.
    is_doubtful: bool,
}

impl Attempt {
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
            is_doubtful: false,
        })
    }

    pub(super) async fn make(&mut self) -> Result<Option<Lock>, ValueError> {
        // The lease is counted from before the question, so that it ends here before it ends at the store.
        let until = Instant::now() + self.lease;
        self.is_doubtful = true;
        let store = &self.values.0.store;
        let taking = store.lock(&self.name, &self.holder, self.lease);
        let taken = self.values.within(taking).await?;
        self.is_doubtful = false;
        Ok(taken.map(|fence| Lock {
            values: self.values.clone(),
            name: Arc::clone(&self.name),
            fence,
            lease: self.lease,
            until,
        }))
    }
}

impl Drop for Attempt {
    fn drop(&mut self) {
        // An attempt that is dropped while the store is asked may hold the lock without anybody knowing. Without a
        // runtime nothing can be asked, and the lock ends with its lease.
        if self.is_doubtful
            && let Ok(runtime) = Handle::try_current()
        {
            let doubtful = Doubtful {
                name: Arc::clone(&self.name),
                holder: Arc::clone(&self.holder),
                over: Instant::now() + self.lease,
            };
            if self.values.0.doubtful.add(doubtful) {
                let giving = Giving(self.values.clone());
                runtime.spawn(giving.run());
            }
        }
    }
}

/// A lock that an attempt may have got without knowing.
#[derive(Debug)]
struct Doubtful {
    name: Arc<str>,
    holder: Arc<str>,
    /// When it has ended by itself.
    over: Instant,
}

/// The locks of a server of which it does not know whether it has got them. One task gives all of them up, however many
/// attempts fail while the store is away.
#[derive(Debug, Default)]
pub(super) struct Doubts(Mutex<DoubtsInner>);

#[derive(Debug, Default)]
struct DoubtsInner {
    /// At most [`MOST`]; what finds no room ends with its lease.
    locks: VecDeque<Doubtful>,
    is_running: bool,
}

impl Doubts {
    /// Notes one more. Returns `true` if the task is to be started that gives them up.
    fn add(&self, doubtful: Doubtful) -> bool {
        let mut inner = self.0.lock();
        if inner.locks.len() >= MOST {
            let now = Instant::now();
            inner.locks.retain(|lock| lock.over > now);
        }
        if inner.locks.len() < MOST {
            inner.locks.push_back(doubtful);
        }
        !std::mem::replace(&mut inner.is_running, true)
    }

    /// The next one, as long as there are any.
    fn next(&self) -> Option<Doubtful> {
        let mut inner = self.0.lock();
        let now = Instant::now();
        while let Some(next) = inner.locks.pop_front() {
            if next.over > now {
                return Some(next);
            }
        }
        // Under the lock under which it was found empty, so that whoever adds one after that starts a task.
        inner.is_running = false;
        None
    }
}

/// The task that gives them up.
struct Giving(Values);

impl Giving {
    async fn run(self) {
        let values = &self.0;
        let doubts = &values.0.doubtful;
        while let Some(lock) = doubts.next() {
            // The store gives the lock to its own holder again, with this short lease in place of the long one.
            let taking = values.0.store.lock(&lock.name, &lock.holder, SHORTEST);
            if values.within(taking).await.is_err() {
                doubts.0.lock().locks.push_back(lock);
                sleep(PAUSE).await;
            }
        }
    }
}

impl Drop for Giving {
    fn drop(&mut self) {
        // A store that panics ends the task, and so does the end of its runtime: the next attempt starts another one.
        self.0.0.doubtful.0.lock().is_running = false;
    }
}

impl Lock {
    /// The fencing number: larger than that of everybody who held the lock before.
    #[must_use]
    pub const fn fence(&self) -> u64 {
        self.fence
    }

    /// How long the lock is still held, by the clock of this server; zero if it may be lost.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Holds the lock for another lease from now on. Returns `false` if it is lost, and somebody else may hold it.
    ///
    /// # Errors
    ///
    /// When the store does not answer. The lock is held until [`remaining`](Self::remaining) is zero.
    pub async fn renew(&mut self) -> Result<bool, ValueError> {
        let until = Instant::now() + self.lease;
        let store = &self.values.0.store;
        let renewing = store.renew(&self.name, self.fence, self.lease);
        let is_held = self.values.within(renewing).await?;
        self.until = if is_held { until } else { Instant::now() };
        Ok(is_held)
    }

    /// Gives the lock back. Returns `false` if it was lost before.
    ///
    /// # Errors
    ///
    /// When the store does not answer; the lock then ends with its lease.
    pub async fn release(self) -> Result<bool, ValueError> {
        let unlocking = self.values.0.store.unlock(&self.name, self.fence);
        self.values.within(unlocking).await
    }
}

/// The locks that are remembered for being given up.
pub(super) const MOST: usize = 1024;
/// The pause between two attempts to end a lock while the store does not answer.
const PAUSE: Duration = Duration::from_secs(1);
const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
