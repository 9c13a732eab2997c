//! Webhook deliveries that wait for their first or next attempt.

#[cfg(feature = "postgres")]
pub(in crate::store) mod postgres;
#[cfg(feature = "sqlite")]
pub(in crate::store) mod sqlite;

use uuid::Uuid;

use crate::metrics::Timing;
use crate::store::{Backend, Store, StoreError, Time};

/// A webhook request to deliver.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "callers construct it")]
pub struct Delivery {
    /// The id of the delivery, which is the same in all attempts.
    pub id: Uuid,
    /// The body of the request.
    pub body: String,
    /// When it was stored.
    pub created_at: Time,
}

/// A delivery that a server has taken. No other server takes it until its lease ends.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "the stores construct it")]
pub struct ClaimedDelivery {
    /// What is delivered.
    pub delivery: Delivery,
    /// The number of times it was taken, including this time.
    pub attempts: u32,
}

/// A change of the delivery queue.
#[derive(Clone, Debug)]
pub(in crate::store) enum DeliveryChange {
    /// Stores a delivery, unless `most` are waiting.
    Insert { delivery: Delivery, most: usize },
    /// Takes the delivery that has been due longest. It is due again at `until`.
    Take { now: Time, until: Time },
    /// Removes a delivery that was made or abandoned. Has no effect if another server has taken it
    /// since.
    End { id: Uuid, attempts: u32 },
    /// Schedules another attempt. Has no effect if another server has taken the delivery since.
    Postpone {
        id: Uuid,
        attempts: u32,
        due_at: Time,
    },
}

/// The outcome of a change.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct DeliveryOutcome {
    /// Whether the delivery was stored, if the change is an insertion.
    pub(in crate::store) is_stored: bool,
    pub(in crate::store) taken: Option<ClaimedDelivery>,
}

impl DeliveryOutcome {
    pub(in crate::store) fn stored(is_stored: bool) -> Self {
        Self {
            is_stored,
            taken: None,
        }
    }

    pub(in crate::store) fn taken(taken: Option<ClaimedDelivery>) -> Self {
        Self {
            is_stored: false,
            taken,
        }
    }
}

impl Store {
    /// Stores a webhook delivery, which is due immediately. Returns `false` if `most` are already
    /// waiting.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn insert_delivery(
        &self,
        delivery: Delivery,
        most: usize,
    ) -> Result<bool, StoreError> {
        let insert = DeliveryChange::Insert { delivery, most };
        Ok(self.change_deliveries(insert).await?.is_stored)
    }

    /// Takes the delivery that has been due longest, if any is due. It is due again at `until`,
    /// unless it is ended or postponed before.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn take_delivery(
        &self,
        now: Time,
        until: Time,
    ) -> Result<Option<ClaimedDelivery>, StoreError> {
        let take = DeliveryChange::Take { now, until };
        Ok(self.change_deliveries(take).await?.taken)
    }

    /// Removes a delivery that was made or abandoned, or schedules another attempt at `due_at`.
    ///
    /// Has no effect if the delivery was taken again in the meantime.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn end_delivery(
        &self,
        taken: &ClaimedDelivery,
        due_at: Option<Time>,
    ) -> Result<(), StoreError> {
        let (id, attempts) = (taken.delivery.id, taken.attempts);
        let end = match due_at {
            Some(due_at) => DeliveryChange::Postpone {
                id,
                attempts,
                due_at,
            },
            None => DeliveryChange::End { id, attempts },
        };
        self.change_deliveries(end).await.map(drop)
    }

    async fn change_deliveries(
        &self,
        change: DeliveryChange,
    ) -> Result<DeliveryOutcome, StoreError> {
        each!(self, backend => self.timed_answer(Timing::StoreChange, backend.change_deliveries(change)).await)
    }
}
