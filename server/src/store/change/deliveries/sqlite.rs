//! The SQL of webhook deliveries.

use rusqlite::{Connection, params};

use crate::store::StoreError;
use crate::store::change::deliveries::{
    ClaimedDelivery, Delivery, DeliveryChange, DeliveryOutcome,
};
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::sql::{CachedStatements, Id};

impl Sqlite {
    pub(in crate::store) async fn change_deliveries(
        &self,
        change: DeliveryChange,
    ) -> Result<DeliveryOutcome, StoreError> {
        self.write(move |connection| apply(connection, &change))
            .await
    }
}

/// Applies a change.
fn apply(connection: &Connection, change: &DeliveryChange) -> rusqlite::Result<DeliveryOutcome> {
    match change {
        DeliveryChange::Insert { delivery, most } => {
            let inserted = connection.execute_cached(
                "INSERT INTO webhook_deliveries (id, body, created_at, due_at)
                 SELECT ?1, ?2, ?3, ?3
                 WHERE (SELECT count(*) FROM webhook_deliveries WHERE id <> ?1) < ?4
                 ON CONFLICT (id) DO UPDATE SET body = excluded.body",
                params![
                    Id(delivery.id),
                    delivery.body,
                    delivery.created_at,
                    i64::try_from(*most).unwrap_or(i64::MAX)
                ],
            )?;
            return Ok(DeliveryOutcome::stored(inserted > 0));
        }
        DeliveryChange::Take { now, until } => {
            let taken = connection.query_opt_cached(
                "UPDATE webhook_deliveries SET due_at = ?2, attempts = attempts + 1
                 WHERE id = (SELECT id FROM webhook_deliveries WHERE due_at <= ?1
                             ORDER BY due_at, id LIMIT 1)
                 RETURNING id, body, created_at, attempts",
                params![now, until],
                |row| {
                    Ok(ClaimedDelivery {
                        delivery: Delivery {
                            id: row.get::<_, Id>(0)?.0,
                            body: row.get(1)?,
                            created_at: row.get(2)?,
                        },
                        attempts: row.get(3)?,
                    })
                },
            )?;
            return Ok(DeliveryOutcome::taken(taken));
        }
        DeliveryChange::End { id, attempts } => {
            connection.execute_cached(
                "DELETE FROM webhook_deliveries WHERE id = ?1 AND attempts = ?2",
                params![Id(*id), attempts],
            )?;
        }
        DeliveryChange::Postpone {
            id,
            attempts,
            due_at,
        } => {
            connection.execute_cached(
                "UPDATE webhook_deliveries SET due_at = ?3 WHERE id = ?1 AND attempts = ?2",
                params![Id(*id), attempts, due_at],
            )?;
        }
    }
    Ok(DeliveryOutcome::default())
}
