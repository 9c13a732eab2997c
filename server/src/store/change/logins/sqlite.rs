//! The SQL of login sessions and revocations.

use rusqlite::types::Type;
use rusqlite::{Connection, Row, params};

use crate::store::change::logins::{Login, LoginChange, LoginOutcome, MAX_OF_USER, Revocation};
use crate::store::sqlite::Sqlite;
use crate::store::sqlite::sql::CachedStatements;
use crate::store::{StoreError, Time};

impl Sqlite {
    pub(in crate::store) async fn change_logins(
        &self,
        change: LoginChange,
    ) -> Result<LoginOutcome, StoreError> {
        self.write(move |connection| apply(connection, &change))
            .await
    }

    pub(in crate::store) async fn login(&self, id_hash: &str) -> Result<Option<Login>, StoreError> {
        let id_hash = id_hash.to_owned();
        self.read(move |connection| login(connection, &id_hash))
            .await
    }

    /// Returns the login sessions of a user, oldest first.
    pub(in crate::store) async fn logins_of(&self, user: &str) -> Result<Vec<Login>, StoreError> {
        let user = user.to_owned();
        self.read(move |connection| {
            connection.query_cached(
                "SELECT * FROM sessions WHERE user_id = ?1 ORDER BY created_at LIMIT ?2",
                params![user, MAX_OF_USER as i64],
                row,
            )
        })
        .await
    }

    /// Returns all revocations.
    pub(in crate::store) async fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        self.read(move |connection| {
            connection.query_cached(
                "SELECT kind, value, until FROM revocations ORDER BY kind, value",
                [],
                |row| {
                    Ok(Revocation {
                        kind: row.get("kind")?,
                        value: row.get("value")?,
                        until: row.get("until")?,
                    })
                },
            )
        })
        .await
    }
}

/// Applies a change.
fn apply(connection: &Connection, change: &LoginChange) -> rusqlite::Result<LoginOutcome> {
    let mut outcome = LoginOutcome::default();
    outcome.changed = match change {
        LoginChange::Insert(login) => connection.execute_cached(
            "INSERT INTO sessions (id_hash, user_id, roles, data, ttl_s, created_at, expires_at)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)
             ON CONFLICT (id_hash) DO UPDATE SET user_id = ?2, roles = ?3, data = ?4,
                 ttl_s = ?5, created_at = ?6, expires_at = ?7",
            params![
                login.id_hash,
                login.user_id,
                serde_json::to_string(&login.roles).unwrap_or_default(),
                login.data,
                i64::try_from(login.ttl_s).unwrap_or(i64::MAX),
                login.created_at,
                login.expires_at,
            ],
        )?,
        LoginChange::Touch {
            id_hash,
            expires_at,
        } => connection.execute_cached(
            "UPDATE sessions SET expires_at = ?2 WHERE id_hash = ?1",
            params![id_hash, expires_at],
        )?,
        LoginChange::Delete { id_hash } => {
            // The row is read first, within the transaction that deletes it.
            outcome.deleted = login(connection, id_hash)?;
            connection.execute_cached("DELETE FROM sessions WHERE id_hash = ?1", [id_hash])?
        }
        LoginChange::Revoke(new) => connection.execute_cached(
            "INSERT INTO revocations (kind, value, until, created_at)
             VALUES (?1, ?2, ?3, ?4) ON CONFLICT (kind, value) DO UPDATE SET until = ?3",
            params![new.kind, new.value, new.until, Time::now()],
        )?,
        LoginChange::Restore { kind, value } => connection.execute_cached(
            "DELETE FROM revocations WHERE kind = ?1 AND value = ?2",
            [kind, value],
        )?,
        LoginChange::Sweep { now } => {
            let logins =
                connection.execute_cached("DELETE FROM sessions WHERE expires_at <= ?1", [now])?;
            let revocations =
                connection.execute_cached("DELETE FROM revocations WHERE until <= ?1", [now])?;
            logins + revocations
        }
    };
    Ok(outcome)
}

/// Returns a login session by the hash of its id.
fn login(connection: &Connection, id_hash: &str) -> rusqlite::Result<Option<Login>> {
    connection.query_opt_cached("SELECT * FROM sessions WHERE id_hash = ?1", [id_hash], row)
}

fn row(row: &Row<'_>) -> rusqlite::Result<Login> {
    let roles: String = row.get("roles")?;
    let broken = |error| rusqlite::Error::FromSqlConversionFailure(0, Type::Text, Box::new(error));
    Ok(Login {
        id_hash: row.get("id_hash")?,
        user_id: row.get("user_id")?,
        roles: serde_json::from_str(&roles).map_err(broken)?,
        data: row.get("data")?,
        ttl_s: u64::try_from(row.get::<_, i64>("ttl_s")?).unwrap_or(0),
        created_at: row.get("created_at")?,
        expires_at: row.get("expires_at")?,
    })
}
