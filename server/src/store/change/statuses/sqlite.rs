//! The SQL of statuses.

use rusqlite::{Connection, Row, params};

use super::{NewStatus, Status, TICK, UserStatus};
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::sql::CachedStatements;
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

    pub(in crate::store) async fn remove_status(&self, user: &str) -> Result<bool, StoreError> {
        let user = user.to_owned();
        self.write(move |connection| {
            let sql = "DELETE FROM user_statuses WHERE user_id = ?1";
            connection
                .execute_cached(sql, [&user])
                .map(|count| count > 0)
        })
        .await
    }

    pub(in crate::store) async fn statuses(
        &self,
        users: Vec<String>,
        limit: usize,
        now: Time,
    ) -> Result<Vec<UserStatus>, StoreError> {
        self.read(move |connection| {
            let found = users.iter().map(|user| {
                connection.query_opt_cached(
                    "SELECT user_id, status, text, set_at FROM user_statuses
                     WHERE user_id = ?1 AND expires_at > ?2",
                    params![user, now],
                    status,
                )
            });
            found.filter_map(Result::transpose).take(limit).collect()
        })
        .await
    }

    pub(in crate::store) async fn expire_statuses(
        &self,
        now: Time,
        limit: usize,
    ) -> Result<u64, StoreError> {
        self.write(move |connection| {
            let removed = connection.execute_cached(
                "DELETE FROM user_statuses WHERE user_id IN (
                     SELECT user_id FROM user_statuses WHERE expires_at <= ?1
                     ORDER BY expires_at LIMIT ?2)",
                params![now, i64::try_from(limit).unwrap_or(i64::MAX)],
            )?;
            Ok(removed as u64)
        })
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
        "SELECT user_id, status, text, set_at, expires_at > ?2 FROM user_statuses
         WHERE user_id = ?1",
        params![new.user_id, now],
        |row| Ok((status(row)?, row.get::<_, bool>(4)?)),
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

fn status(row: &Row<'_>) -> rusqlite::Result<UserStatus> {
    let word: String = row.get("status")?;
    Ok(UserStatus {
        user_id: row.get("user_id")?,
        status: Status::of(&word),
        text: row.get("text")?,
        timestamp: row.get("set_at")?,
    })
}
