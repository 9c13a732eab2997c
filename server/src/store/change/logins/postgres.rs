//! The SQL of login sessions and revocations. Each change may be repeated, except for the result of
//! a deletion.

use deadpool_postgres::ClientWrapper;
use jiff::Timestamp;
use tokio_postgres::{Error, Row};

use crate::store::change::logins::{Login, LoginChange, LoginOutcome, MAX_OF_USER, Revocation};
use crate::store::postgres::sql::CachedStatements;
use crate::store::postgres::{Postgres, change, read};
use crate::store::{StoreError, Time};

impl Postgres {
    pub(in crate::store) async fn change_logins(
        &self,
        change: LoginChange,
    ) -> Result<LoginOutcome, StoreError> {
        change!(self, client => apply(client, &change))
    }

    /// Returns a login session by the hash of its id.
    pub(in crate::store) async fn login(&self, id_hash: &str) -> Result<Option<Login>, StoreError> {
        read!(self, client => client.query_opt_cached(
            "SELECT id_hash, user_id, roles, data, ttl_s, created_at, expires_at FROM sessions
             WHERE id_hash = $1",
            &[&id_hash],
            row,
        ))
    }

    /// Returns the login sessions of a user, oldest first.
    pub(in crate::store) async fn logins_of(&self, user: &str) -> Result<Vec<Login>, StoreError> {
        let limit = i64::try_from(MAX_OF_USER).unwrap_or(i64::MAX);
        read!(self, client => client.query_cached(
            "SELECT id_hash, user_id, roles, data, ttl_s, created_at, expires_at FROM sessions
             WHERE user_id = $1 ORDER BY created_at LIMIT $2",
            &[&user, &limit],
            row,
        ))
    }

    /// Returns all revocations.
    pub(in crate::store) async fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        read!(self, client => client.query_cached(
            "SELECT kind, value, until FROM revocations ORDER BY kind, value",
            &[],
            revocation,
        ))
    }

    /// Returns the existing revocations among these pairs of kind and value.
    pub(in crate::store) async fn revocations_named(
        &self,
        kinds: &[&str],
        values: &[&str],
    ) -> Result<Vec<Revocation>, StoreError> {
        read!(self, client => client.query_cached(
            "SELECT r.kind, r.value, r.until FROM revocations r
             JOIN unnest($1::text[], $2::text[]) AS n (kind, value)
                 ON r.kind = n.kind AND r.value = n.value",
            &[&kinds, &values],
            revocation,
        ))
    }

    /// Returns the revocations after this one, ordered by kind and value.
    pub(in crate::store) async fn revocations_after(
        &self,
        kind: &str,
        value: &str,
        limit: usize,
    ) -> Result<Vec<Revocation>, StoreError> {
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        read!(self, client => client.query_cached(
            "SELECT kind, value, until FROM revocations WHERE (kind, value) > ($1, $2)
             ORDER BY kind, value LIMIT $3",
            &[&kind, &value, &limit],
            revocation,
        ))
    }
}

/// Applies a change.
async fn apply(client: &ClientWrapper, change: &LoginChange) -> Result<LoginOutcome, Error> {
    let mut outcome = LoginOutcome::default();
    let changed = match change {
        LoginChange::Insert(login) => {
            client
                .execute_cached(
                    "INSERT INTO sessions
                         (id_hash, user_id, roles, data, ttl_s, created_at, expires_at)
                     VALUES ($1, $2, $3, $4, $5, $6, $7)
                     ON CONFLICT (id_hash) DO UPDATE SET user_id = $2, roles = $3, data = $4,
                         ttl_s = $5, created_at = $6, expires_at = $7",
                    &[
                        &login.id_hash,
                        &login.user_id,
                        &login.roles,
                        &login.data,
                        &i64::try_from(login.ttl_s).unwrap_or(i64::MAX),
                        &login.created_at.timestamp(),
                        &login.expires_at.timestamp(),
                    ],
                )
                .await?
        }
        LoginChange::Touch {
            id_hash,
            expires_at,
        } => {
            client
                .execute_cached(
                    "UPDATE sessions SET expires_at = $2 WHERE id_hash = $1",
                    &[id_hash, &expires_at.timestamp()],
                )
                .await?
        }
        LoginChange::Delete { id_hash } => {
            outcome.deleted = client
                .query_opt_cached(
                    "DELETE FROM sessions WHERE id_hash = $1
                     RETURNING id_hash, user_id, roles, data, ttl_s, created_at, expires_at",
                    &[id_hash],
                    row,
                )
                .await?;
            u64::from(outcome.deleted.is_some())
        }
        LoginChange::Revoke(new) => {
            let now = Time::now().timestamp();
            client
                .execute_cached(
                    "INSERT INTO revocations (kind, value, until, created_at)
                     VALUES ($1, $2, $3, $4) ON CONFLICT (kind, value) DO UPDATE SET until = $3",
                    &[&new.kind, &new.value, &new.until.timestamp(), &now],
                )
                .await?
        }
        LoginChange::Restore { kind, value } => {
            client
                .execute_cached(
                    "DELETE FROM revocations WHERE kind = $1 AND value = $2",
                    &[kind, value],
                )
                .await?
        }
        LoginChange::Sweep { now } => {
            let swept: i64 = client
                .query_one_cached(
                    "WITH logins AS (DELETE FROM sessions WHERE expires_at <= $1 RETURNING 1),
                         revoked AS (DELETE FROM revocations WHERE until <= $1 RETURNING 1)
                     SELECT (SELECT count(*) FROM logins) + (SELECT count(*) FROM revoked)",
                    &[&now.timestamp()],
                    |row| row.try_get(0),
                )
                .await?;
            u64::try_from(swept).unwrap_or(0)
        }
    };
    outcome.changed = usize::try_from(changed).unwrap_or(usize::MAX);
    Ok(outcome)
}

fn revocation(row: &Row) -> Result<Revocation, Error> {
    Ok(Revocation {
        kind: row.try_get("kind")?,
        value: row.try_get("value")?,
        until: row.try_get::<_, Timestamp>("until")?.into(),
    })
}

fn row(row: &Row) -> Result<Login, Error> {
    Ok(Login {
        id_hash: row.try_get("id_hash")?,
        user_id: row.try_get("user_id")?,
        roles: row.try_get("roles")?,
        data: row.try_get("data")?,
        ttl_s: u64::try_from(row.try_get::<_, i64>("ttl_s")?).unwrap_or(0),
        created_at: row.try_get::<_, Timestamp>("created_at")?.into(),
        expires_at: row.try_get::<_, Timestamp>("expires_at")?.into(),
    })
}
