//! Sets statuses in SQLite.

use rusqlite::{Connection, params};

use super::{NewStatus, TICK, UserStatus};
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::sql::CachedStatements;
use crate::store::statement::Record;
use crate::store::{StoreError, Time};

impl Sqlite {
    /// Returns the stored status, or `None` if nothing has changed.
    pub(in crate::store) async fn set_status(
        &self,
        new: NewStatus,
        now: Time,
    ) -> Result<Option<UserStatus>, StoreError> {
        self.write(move |connection| set(connection, &new, now))
            .await
    }
}

/// Stores a status. The only writer runs this, so no other change comes in between.
fn set(
    connection: &Connection,
    new: &NewStatus,
    now: Time,
) -> rusqlite::Result<Option<UserStatus>> {
    let before = connection.query_opt_cached(
        "SELECT *, expires_at > ?2 AS is_current FROM user_statuses WHERE user_id = ?1",
        params![new.user_id, now],
        |row| Ok((UserStatus::read(row)?, row.get::<_, bool>("is_current")?)),
    )?;
    let known = before.as_ref().filter(|(_, is_current)| *is_current);
    let is_known = match known {
        Some((before, _)) => before.status == new.status && before.text == new.text,
        None => new.is_default(),
    };
    if is_known {
        return Ok(None);
    }
    let set_at = before.map_or(now, |(before, _)| now.max(before.timestamp.after(TICK)));
    connection.execute_cached(
        "INSERT OR REPLACE INTO user_statuses (user_id, status, text, set_at, expires_at)
         VALUES (?1, ?2, ?3, ?4, ?5)",
        params![
            new.user_id,
            new.status.as_str(),
            new.text,
            set_at,
            set_at.after(new.retention),
        ],
    )?;
    Ok(Some(UserStatus {
        user_id: new.user_id.clone(),
        status: new.status,
        text: new.text.clone(),
        timestamp: set_at,
    }))
}
