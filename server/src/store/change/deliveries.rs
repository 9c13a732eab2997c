//! Deliveries of webhooks that wait to be made, or made again.

use std::collections::HashMap;

use uuid::Uuid;

use crate::store::{Backend, Store, StoreError, Time};

/// What is to be delivered.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made by who stores it")]
pub struct Delivery {
    /// The id of the delivery, which is the same in all attempts.
    pub id: Uuid,
    /// The body of the request.
    pub body: String,
    /// When it was stored.
    pub created_at: Time,
}

/// A delivery that is being made. Until `until` nobody else takes it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "made by the stores")]
pub struct TakenDelivery {
    /// What is delivered.
    pub delivery: Delivery,
    /// How often it was taken, this time included.
    pub attempts: u32,
}

/// A change of the deliveries.
#[derive(Clone, Debug)]
pub(in crate::store) enum DeliveryChange {
    /// Stores a delivery, unless so many wait.
    Insert { delivery: Delivery, most: usize },
    /// Takes the one that is due for the longest time. It is due again at `until`.
    Take { now: Time, until: Time },
    /// The delivery was made, or is given up. Nothing happens if it was taken by somebody else
    /// meanwhile.
    End { id: Uuid, attempts: u32 },
    /// The delivery is made again later, unless somebody else has taken it meanwhile.
    Postpone {
        id: Uuid,
        attempts: u32,
        due_at: Time,
    },
}

/// What became of a change.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct DeliveryOutcome {
    /// Whether it is stored, for one that is inserted.
    pub(in crate::store) is_stored: bool,
    pub(in crate::store) taken: Option<TakenDelivery>,
}

impl DeliveryOutcome {
    pub(in crate::store) fn stored(is_stored: bool) -> Self {
        Self {
            is_stored,
            taken: None,
        }
    }

    pub(in crate::store) fn taken(taken: Option<TakenDelivery>) -> Self {
        Self {
            is_stored: false,
            taken,
        }
    }
}

/// The table, in memory.
#[derive(Debug, Default)]
pub(in crate::store) struct Deliveries {
    rows: HashMap<Uuid, Row>,
    /// Roughly what all of it takes.
    bytes: usize,
}

#[derive(Debug)]
struct Row {
    delivery: Delivery,
    due_at: Time,
    attempts: u32,
}

impl Row {
    fn size(&self) -> usize {
        self.delivery.body.len() + size_of::<Self>() + ENTRY_BYTES
    }
}

impl Deliveries {
    /// Applies a change if what it adds fits into `room` bytes.
    pub(in crate::store) fn apply(
        &mut self,
        change: DeliveryChange,
        room: u64,
    ) -> Result<DeliveryOutcome, StoreError> {
        match change {
            DeliveryChange::Insert { delivery, most } => {
                let is_new = !self.rows.contains_key(&delivery.id);
                if is_new && self.rows.len() >= most {
                    return Ok(DeliveryOutcome::stored(false));
                }
                let row = Row {
                    due_at: delivery.created_at,
                    delivery,
                    attempts: 0,
                };
                if row.size() as u64 > room {
                    return Err(StoreError::Failed);
                }
                let size = row.size();
                let old = self.rows.insert(row.delivery.id, row);
                self.bytes = self.bytes + size - old.as_ref().map_or(0, Row::size);
                return Ok(DeliveryOutcome::stored(true));
            }
            DeliveryChange::Take { now, until } => {
                let due = self.rows.values_mut().filter(|row| row.due_at <= now);
                let taken = due.min_by_key(|row| (row.due_at, row.delivery.id));
                return Ok(DeliveryOutcome::taken(taken.map(|row| {
                    row.attempts += 1;
                    row.due_at = until;
                    TakenDelivery {
                        delivery: row.delivery.clone(),
                        attempts: row.attempts,
                    }
                })));
            }
            DeliveryChange::End { id, attempts } => {
                if self.row(id, attempts).is_some()
                    && let Some(row) = self.rows.remove(&id)
                {
                    self.bytes -= row.size();
                }
            }
            DeliveryChange::Postpone {
                id,
                attempts,
                due_at,
            } => {
                if let Some(row) = self.row(id, attempts) {
                    row.due_at = due_at;
                }
            }
        }
        Ok(DeliveryOutcome::default())
    }

    fn row(&mut self, id: Uuid, attempts: u32) -> Option<&mut Row> {
        let row = self.rows.get_mut(&id);
        // The number of attempts tells whether somebody else has taken the delivery since.
        row.filter(|row| row.attempts == attempts)
    }

    pub(in crate::store) fn bytes(&self) -> u64 {
        self.bytes as u64
    }
}

/// What an entry of a table takes beside its contents, roughly.
const ENTRY_BYTES: usize = 64;

impl Store {
    /// Stores a delivery of a webhook, which is due at once. Returns `false` if `most` wait already.
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

    /// Takes the delivery that is due for the longest time, if one is. It is due again at `until`, unless it is ended or postponed before.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn take_delivery(
        &self,
        now: Time,
        until: Time,
    ) -> Result<Option<TakenDelivery>, StoreError> {
        let take = DeliveryChange::Take { now, until };
        Ok(self.change_deliveries(take).await?.taken)
    }

    /// Forgets a delivery that was made or is given up, or with `due_at` has it made again. Nothing happens if it was
    /// taken again meanwhile.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn end_delivery(
        &self,
        taken: &TakenDelivery,
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
        each!(self, backend => self.patiently(backend.change_deliveries(change)).await)
    }
}
