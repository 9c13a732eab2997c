//! Webhook deliveries that wait for their first or next attempt.

use uuid::Uuid;

use crate::metrics::Timing;
use crate::store::statement::{Columns, Record, Statement, values};
use crate::store::{Store, StoreError, Time};

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

impl Record for ClaimedDelivery {
    fn read<R: Columns>(row: &R) -> Result<Self, R::Error> {
        Ok(Self {
            delivery: Delivery {
                id: row.get("id")?,
                body: row.get("body")?,
                created_at: row.get("created_at")?,
            },
            attempts: row.get("attempts")?,
        })
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
        let insert = Statement::new(
            "INSERT INTO webhook_deliveries (id, body, created_at, due_at)
             SELECT $1, $2, $3, $3
             WHERE (SELECT count(*) FROM webhook_deliveries WHERE id <> $1) < $4
             ON CONFLICT (id) DO UPDATE SET body = excluded.body",
            values![delivery.id, delivery.body, delivery.created_at, most],
        );
        Ok(self.execute_timed(insert).await? > 0)
    }

    /// Takes the delivery that has been due longest, if any is due. It is due again at `until`,
    /// unless it is ended or postponed before.
    ///
    /// # Errors
    ///
    /// If that could not be stored. The lease of a delivery that was taken then expires.
    pub async fn take_delivery(
        &self,
        now: Time,
        until: Time,
    ) -> Result<Option<ClaimedDelivery>, StoreError> {
        // Concurrent servers take different deliveries.
        let take = Statement::new(
            "UPDATE webhook_deliveries SET due_at = $2, attempts = attempts + 1
             WHERE id = (SELECT id FROM webhook_deliveries WHERE due_at <= $1
                         ORDER BY due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
             RETURNING id, body, created_at, attempts",
            values![now, until],
        )
        .for_sqlite(
            "UPDATE webhook_deliveries SET due_at = $2, attempts = attempts + 1
             WHERE id = (SELECT id FROM webhook_deliveries WHERE due_at <= $1
                         ORDER BY due_at, id LIMIT 1)
             RETURNING id, body, created_at, attempts",
        );
        let taken = self.timed_answer(Timing::StoreChange, self.change_rows(take));
        Ok(taken.await?.pop())
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
            Some(due_at) => Statement::new(
                "UPDATE webhook_deliveries SET due_at = $3 WHERE id = $1 AND attempts = $2",
                values![id, attempts, due_at],
            ),
            None => Statement::new(
                "DELETE FROM webhook_deliveries WHERE id = $1 AND attempts = $2",
                values![id, attempts],
            ),
        };
        self.execute_timed(end).await.map(drop)
    }
}
