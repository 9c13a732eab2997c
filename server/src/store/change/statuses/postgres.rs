//! Sets statuses in PostgreSQL. The change may be repeated.

use std::time::Duration;

use super::{NewStatus, TICK, UserStatus};
use crate::store::postgres::Postgres;
use crate::store::statement::{Statement, records, values};
use crate::store::{StoreError, Time};

impl Postgres {
    /// Returns the stored status, or `None` if nothing has changed.
    pub(in crate::store) async fn set_status(
        &self,
        new: NewStatus,
        now: Time,
    ) -> Result<Option<UserStatus>, StoreError> {
        let sql = if new.is_default() { RESET } else { SET };
        let set = values![
            &*new.user_id,
            new.status.as_str(),
            new.text.as_deref(),
            now,
            millis(new.retention),
            millis(TICK),
        ];
        let stored = self.change_rows(Statement::new(sql, set)).await?;
        Ok(records(&stored)?.pop())
    }
}

// One statement locks the row and decides by its current content.
const SET: &str = "INSERT INTO user_statuses AS s (user_id, status, text, set_at, expires_at)
     VALUES ($1, $2, $3, $4::timestamptz, $4 + $5::int8 * interval '1 millisecond')
     ON CONFLICT (user_id) DO UPDATE SET status = $2, text = $3,
         set_at = greatest($4, s.set_at + $6::int8 * interval '1 millisecond'),
         expires_at = greatest($4, s.set_at + $6 * interval '1 millisecond')
             + $5 * interval '1 millisecond'
     WHERE s.expires_at <= $4 OR s.status <> $2 OR s.text IS DISTINCT FROM $3
     RETURNING user_id, status, text, set_at";
// A user without a row has this status already.
const RESET: &str = "UPDATE user_statuses AS s SET status = $2, text = $3,
         set_at = greatest($4::timestamptz, s.set_at + $6::int8 * interval '1 millisecond'),
         expires_at = greatest($4, s.set_at + $6 * interval '1 millisecond')
             + $5::int8 * interval '1 millisecond'
     WHERE user_id = $1 AND expires_at > $4 AND (status <> $2 OR text IS DISTINCT FROM $3)
     RETURNING user_id, status, text, set_at";

fn millis(duration: Duration) -> i64 {
    i64::try_from(duration.as_millis()).unwrap_or(i64::MAX)
}
