//! The SQL of webhook deliveries. Each change may be repeated.
//!
//! If taking a delivery is repeated, the lease of the first attempt simply expires.

use deadpool_postgres::ClientWrapper;
use tokio_postgres::Error;

use crate::store::StoreError;
use crate::store::change::deliveries::{
    ClaimedDelivery, Delivery, DeliveryChange, DeliveryOutcome,
};
use crate::store::postgres::sql::{CachedStatements, time};
use crate::store::postgres::{Postgres, change};

impl Postgres {
    pub(in crate::store) async fn change_deliveries(
        &self,
        change: DeliveryChange,
    ) -> Result<DeliveryOutcome, StoreError> {
        change!(self, client => apply(client, &change))
    }
}

/// Applies a change.
async fn apply(client: &ClientWrapper, change: &DeliveryChange) -> Result<DeliveryOutcome, Error> {
    match change {
        DeliveryChange::Insert { delivery, most } => {
            let created_at = delivery.created_at.timestamp();
            let most = i64::try_from(*most).unwrap_or(i64::MAX);
            let inserted = client
                .execute_cached(
                    "INSERT INTO webhook_deliveries (id, body, created_at, due_at)
                     SELECT $1, $2, $3, $3
                     WHERE (SELECT count(*) FROM webhook_deliveries WHERE id <> $1) < $4
                     ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                    &[&delivery.id, &delivery.body, &created_at, &most],
                )
                .await?;
            return Ok(DeliveryOutcome::stored(inserted > 0));
        }
        DeliveryChange::Take { now, until } => {
            // Concurrent servers take different deliveries.
            let taken = client
                .query_opt_cached(
                    "UPDATE webhook_deliveries SET due_at = $2, attempts = attempts + 1
                     WHERE id = (SELECT id FROM webhook_deliveries WHERE due_at <= $1
                                 ORDER BY due_at, id LIMIT 1 FOR UPDATE SKIP LOCKED)
                     RETURNING id, body, created_at, attempts",
                    &[&now.timestamp(), &until.timestamp()],
                    |row| {
                        let attempts: i32 = row.try_get(3)?;
                        Ok(ClaimedDelivery {
                            delivery: Delivery {
                                id: row.try_get(0)?,
                                body: row.try_get(1)?,
                                created_at: time(row, "created_at")?,
                            },
                            attempts: u32::try_from(attempts).unwrap_or_default(),
                        })
                    },
                )
                .await?;
            return Ok(DeliveryOutcome::taken(taken));
        }
        DeliveryChange::End { id, attempts } => {
            let attempts = i32::try_from(*attempts).unwrap_or(i32::MAX);
            client
                .execute_cached(
                    "DELETE FROM webhook_deliveries WHERE id = $1 AND attempts = $2",
                    &[id, &attempts],
                )
                .await?;
        }
        DeliveryChange::Postpone {
            id,
            attempts,
            due_at,
        } => {
            let attempts = i32::try_from(*attempts).unwrap_or(i32::MAX);
            client
                .execute_cached(
                    "UPDATE webhook_deliveries SET due_at = $3 WHERE id = $1 AND attempts = $2",
                    &[id, &attempts, &due_at.timestamp()],
                )
                .await?;
        }
    }
    Ok(DeliveryOutcome::default())
}
