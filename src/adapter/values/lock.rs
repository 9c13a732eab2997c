use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

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

impl Lock {
    pub(super) async fn take(
        values: &Values,
        name: &str,
        lease: Duration,
    ) -> Result<Option<Self>, ValueError> {
        check(name)?;
        let lease = lease.clamp(SHORTEST, LONGEST);
        // What the question takes is taken from the lease.
        let until = Instant::now() + lease;
        let joined = values.0.cluster.joined();
        let holder = joined.map_or("this", |joined| joined.registry().name().as_str());
        let taken = values
            .within(values.0.store.lock(name, holder, lease))
            .await?;
        Ok(taken.map(|fence| Self {
            values: values.clone(),
            name: name.into(),
            fence,
            lease,
            until,
        }))
    }

    /// The fencing number: larger than that of everybody who held the lock before.
    #[must_use]
    pub const fn fence(&self) -> u64 {
        self.fence
    }

    /// How long it is held yet, by the clock of this server; zero: maybe not any more.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.until.saturating_duration_since(Instant::now())
    }

    /// Holds it for another lease from now on. `false`: it is lost, somebody else may hold it.
    ///
    /// # Errors
    ///
    /// When the store does not answer. It is held until [`remaining`](Self::remaining) is zero.
    pub async fn renew(&mut self) -> Result<bool, ValueError> {
        let until = Instant::now() + self.lease;
        let store = &self.values.0.store;
        let renewing = store.renew(&self.name, self.fence, self.lease);
        let is_held = self.values.within(renewing).await?;
        self.until = if is_held { until } else { Instant::now() };
        Ok(is_held)
    }

    /// Gives it back. `false`: it was lost before.
    ///
    /// # Errors
    ///
    /// When the store does not answer; then it ends with its lease.
    pub async fn release(self) -> Result<bool, ValueError> {
        let unlocking = self.values.0.store.unlock(&self.name, self.fence);
        self.values.within(unlocking).await
    }
}

const SHORTEST: Duration = Duration::from_millis(10);
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);
