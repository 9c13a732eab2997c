//! Login sessions, and revocations of credentials that have not expired.

use crate::store::statement::{Statement, record, values};
use crate::store::{Store, StoreError, Time};

/// A login session. It contains only the hash of the id, which its user alone knows.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row, callers construct it")]
pub struct Login {
    /// SHA-256 of the id in hexadecimal digits.
    pub id_hash: String,
    /// The user who logged in.
    pub user_id: String,
    /// The roles that it grants.
    pub roles: Vec<String>,
    /// A JSON object that the creator of the session stores with it.
    pub data: Option<String>,
    /// The lifetime without use, in seconds.
    pub ttl_s: u64,
    /// When it was made.
    pub created_at: Time,
    /// When it ends, if it is not used before then.
    pub expires_at: Time,
}

/// A revocation of credentials that have not expired.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row, callers construct it")]
pub struct Revocation {
    /// `token`, `session`, `user` or `role`.
    pub kind: String,
    /// The `jti`, the hash of the login's id, the user's id, or the role.
    pub value: String,
    /// The time until which it is revoked.
    pub until: Time,
}

record! { Login => id_hash, user_id, roles, data, ttl_s, created_at, expires_at }

record! { Revocation => kind, value, until }

impl Revocation {
    /// Returns a query of the existing revocations among these kinds and values. Only stores that
    /// several servers share need it.
    pub(in crate::store) fn named(names: &[(&str, &str)]) -> Statement {
        let names = names.iter().copied();
        let (kinds, values): (Vec<_>, Vec<_>) = names
            .map(|(kind, value)| (kind.to_owned(), value.to_owned()))
            .unzip();
        Statement::new(
            "SELECT r.kind, r.value, r.until FROM revocations r
             JOIN unnest($1::text[], $2::text[]) AS n (kind, value)
                 ON r.kind = n.kind AND r.value = n.value",
            values![kinds, values],
        )
    }

    /// Returns a query of the revocations after one, ordered by kind and value.
    pub(in crate::store) fn after(last: Option<&Self>, limit: usize) -> Statement {
        let last = last.map(|last| (&*last.kind, &*last.value));
        let (kind, value) = last.unwrap_or_default();
        Statement::new(
            "SELECT kind, value, until FROM revocations WHERE (kind, value) > ($1, $2)
             ORDER BY kind, value LIMIT $3",
            values![kind, value, limit],
        )
    }
}

/// The maximum number of logins of one user that are listed.
const MAX_OF_USER: usize = 100;

impl Store {
    /// Stores a login session. Replaces a session with the same hash.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn insert_login(&self, login: Login) -> Result<(), StoreError> {
        let insert = Statement::new(
            "INSERT INTO sessions (id_hash, user_id, roles, data, ttl_s, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6, $7)
             ON CONFLICT (id_hash) DO UPDATE SET user_id = $2, roles = $3, data = $4, ttl_s = $5,
                 created_at = $6, expires_at = $7",
            values![
                login.id_hash,
                login.user_id,
                login.roles,
                login.data,
                login.ttl_s,
                login.created_at,
                login.expires_at,
            ],
        );
        self.execute(insert).await.map(drop)
    }

    /// Returns a login session, even if it has expired.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn login(&self, id_hash: &str) -> Result<Option<Login>, StoreError> {
        let select = Statement::new(
            "SELECT id_hash, user_id, roles, data, ttl_s, created_at, expires_at FROM sessions
             WHERE id_hash = $1",
            values![id_hash],
        );
        Ok(self.rows(select).await?.pop())
    }

    /// Returns at most 100 login sessions of a user, oldest first.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn logins_of(&self, user: &str) -> Result<Vec<Login>, StoreError> {
        self.rows(Statement::new(
            "SELECT id_hash, user_id, roles, data, ttl_s, created_at, expires_at FROM sessions
             WHERE user_id = $1 ORDER BY created_at LIMIT $2",
            values![user, MAX_OF_USER],
        ))
        .await
    }

    /// Changes the expiry time of a login session. Returns `false` if the session does not exist.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn touch_login(&self, id_hash: &str, expires_at: Time) -> Result<bool, StoreError> {
        let update = Statement::new(
            "UPDATE sessions SET expires_at = $2 WHERE id_hash = $1",
            values![id_hash, expires_at],
        );
        Ok(self.execute(update).await? > 0)
    }

    /// Removes a login session and returns it.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn delete_login(&self, id_hash: &str) -> Result<Option<Login>, StoreError> {
        let delete = Statement::new(
            "DELETE FROM sessions WHERE id_hash = $1
             RETURNING id_hash, user_id, roles, data, ttl_s, created_at, expires_at",
            values![id_hash],
        );
        Ok(self.change_rows(delete).await?.pop())
    }

    /// Stores a revocation. Replaces one of the same kind and value.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn insert_revocation(&self, revocation: Revocation) -> Result<(), StoreError> {
        let Revocation { kind, value, until } = revocation;
        let revoked = self.execute(Statement::new(
            "INSERT INTO revocations (kind, value, until, created_at) VALUES ($1, $2, $3, $4)
             ON CONFLICT (kind, value) DO UPDATE SET until = $3",
            values![kind, value, until, Time::now()],
        ));
        self.then_notify_feed(revoked).await.map(drop)
    }

    /// Removes a revocation. Returns `false` if there is none.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn delete_revocation(&self, kind: &str, value: &str) -> Result<bool, StoreError> {
        let restored = self.execute(Statement::new(
            "DELETE FROM revocations WHERE kind = $1 AND value = $2",
            values![kind, value],
        ));
        Ok(self.then_notify_feed(restored).await? > 0)
    }

    /// Returns all revocations, including expired ones.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        self.rows(Statement::new(
            "SELECT kind, value, until FROM revocations ORDER BY kind, value",
            values![],
        ))
        .await
    }

    /// Removes expired login sessions and revocations. Returns how many.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn sweep_logins(&self, now: Time) -> Result<usize, StoreError> {
        let mut removed = 0;
        for sql in [
            "DELETE FROM sessions WHERE expires_at <= $1",
            "DELETE FROM revocations WHERE until <= $1",
        ] {
            removed += self.execute(Statement::new(sql, values![now])).await?;
        }
        Ok(usize::try_from(removed).unwrap_or(usize::MAX))
    }
}
