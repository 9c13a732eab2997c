//! The statuses that users set.
//!
//! A status is a row that expires. Of two changes of a user, the later one has the later time, even
//! if the clocks of two servers differ.

#[cfg(feature = "postgres")]
pub(in crate::store) mod postgres;
#[cfg(feature = "sqlite")]
pub(in crate::store) mod sqlite;

use std::sync::Arc;
use std::time::Duration;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Change;
use crate::metrics::Timing;
use crate::store::statement::{Columns, EXPIRE_LOCK, Record, Statement, values};
use crate::store::{Backend, Store, StoreError, Time};

/// The availability that a user sets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
#[schemars(inline)]
#[expect(
    clippy::exhaustive_enums,
    reason = "the protocol of the chat closes the set"
)]
#[expect(missing_docs, reason = "users give the words their meaning")]
pub enum Status {
    #[default]
    Online,
    Away,
    Busy,
    Offline,
}

impl Status {
    /// Returns the word used on the wire and in the database.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Online => "online",
            Self::Away => "away",
            Self::Busy => "busy",
            Self::Offline => "offline",
        }
    }

    /// Returns the status for a word from the database, where a check constraint allows no other
    /// words.
    pub(in crate::store) fn of(word: &str) -> Self {
        match word {
            "away" => Self::Away,
            "busy" => Self::Busy,
            "offline" => Self::Offline,
            _ => Self::Online,
        }
    }
}

/// The status of a user. Of two statuses of a user, the one with the later `timestamp` is current.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[expect(clippy::exhaustive_structs, reason = "a row")]
pub struct UserStatus {
    #[expect(missing_docs, reason = "the reference of the events needs no text")]
    pub user_id: Arc<str>,
    #[expect(missing_docs, reason = "the reference of the events needs no text")]
    pub status: Status,
    /// Absent if the user set no text.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub text: Option<Arc<str>>,
    /// When the status was set. Each change has a later time.
    pub timestamp: Time,
}

impl Record for UserStatus {
    fn read<R: Columns>(row: &R) -> Result<Self, R::Error> {
        let (user_id, status): (String, String) = (row.get("user_id")?, row.get("status")?);
        let text: Option<String> = row.get("text")?;
        Ok(Self {
            user_id: user_id.into(),
            status: Status::of(&status),
            text: text.map(Into::into),
            timestamp: row.get("set_at")?,
        })
    }
}

impl UserStatus {
    /// Returns the status of a user who has set none.
    #[must_use]
    pub fn unset(user_id: Arc<str>, now: Time) -> Self {
        Self {
            user_id,
            status: Status::default(),
            text: None,
            timestamp: now,
        }
    }
}

/// A status to store.
#[derive(Clone, Debug)]
#[expect(clippy::exhaustive_structs, reason = "callers construct it")]
pub struct NewStatus {
    /// The user.
    pub user_id: Arc<str>,
    /// The availability.
    pub status: Status,
    /// The text, if the user set one.
    pub text: Option<Arc<str>>,
    /// The time after which the status expires.
    pub retention: Duration,
}

impl NewStatus {
    /// Returns whether this is the status of a user who has set none.
    #[must_use]
    pub fn is_default(&self) -> bool {
        self.status == Status::default() && self.text.is_none()
    }
}

impl Store {
    /// Stores the status of a user. Its time is `now`, or the time after the stored status if that
    /// is later.
    ///
    /// Returns [`Change::Unchanged`] with the current status if it is the same. A user without a
    /// status has the default one.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn set_status(
        &self,
        new: NewStatus,
        now: Time,
    ) -> Result<Change<UserStatus>, StoreError> {
        let user = Arc::clone(&new.user_id);
        let stored: Option<UserStatus> = each!(self, backend => {
            self.timed_answer(Timing::StoreChange, backend.set_status(new, now)).await?
        });
        if let Some(stored) = stored {
            self.fed.notify_one();
            return Ok(Change::Done(stored));
        }
        let current = self.statuses(vec![user.to_string()], 1, now).await?.pop();
        let unset = || UserStatus::unset(user, now);
        Ok(Change::Unchanged(current.unwrap_or_else(unset)))
    }

    /// Removes the status of a user. Returns whether there was one.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn remove_status(&self, user: &str) -> Result<bool, StoreError> {
        let delete = Statement::new(
            "DELETE FROM user_statuses WHERE user_id = $1",
            values![user],
        );
        let removed = self.execute_timed(delete).await? > 0;
        if removed {
            self.fed.notify_one();
        }
        Ok(removed)
    }

    /// Returns the statuses of those users that have set one which has not expired by `now`, at
    /// most `limit`, ordered by user.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn statuses(
        &self,
        mut users: Vec<String>,
        limit: usize,
        now: Time,
    ) -> Result<Vec<UserStatus>, StoreError> {
        users.sort_unstable();
        users.dedup();
        if users.is_empty() {
            return Ok(Vec::new());
        }
        let select = Statement::new(
            "SELECT user_id, status, text, set_at FROM user_statuses
             WHERE user_id = ANY($1) AND expires_at > $2 ORDER BY user_id LIMIT $3",
            values![users, now, limit],
        )
        .for_sqlite(
            "SELECT user_id, status, text, set_at FROM user_statuses
             WHERE user_id IN (SELECT value FROM json_each($1)) AND expires_at > $2
             ORDER BY user_id LIMIT $3",
        );
        self.with_answer_timeout(self.rows(select)).await
    }

    /// Removes at most `limit` statuses that have expired by `now`, and returns their number.
    /// Removes none while another server is removing expired rows.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn expire_statuses(&self, now: Time, limit: usize) -> Result<u64, StoreError> {
        let delete = Statement::new(
            "WITH mine AS MATERIALIZED (SELECT pg_try_advisory_xact_lock($3) AS locked),
             old AS MATERIALIZED (SELECT user_id FROM user_statuses WHERE expires_at <= $1
                 ORDER BY expires_at LIMIT $2)
             DELETE FROM user_statuses s USING old, mine WHERE mine.locked
                 AND s.user_id = old.user_id AND s.expires_at <= $1",
            values![now, limit, EXPIRE_LOCK],
        )
        .for_sqlite(
            "DELETE FROM user_statuses WHERE user_id IN (
                 SELECT user_id FROM user_statuses WHERE expires_at <= $1
                 ORDER BY expires_at LIMIT $2)",
        );
        self.execute_timed(delete).await
    }
}

/// The minimum time between two changes of a user.
const TICK: Duration = Duration::from_millis(1);
