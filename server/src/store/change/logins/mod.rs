//! Login sessions, and revocations of credentials that have not expired.

#[cfg(feature = "postgres")]
pub(in crate::store) mod postgres;
#[cfg(feature = "sqlite")]
pub(in crate::store) mod sqlite;

use crate::store::{Backend, Store, StoreError, Time};

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

/// A change of logins and revocations.
#[derive(Clone, Debug)]
pub(in crate::store) enum LoginChange {
    Insert(Login),
    Touch { id_hash: String, expires_at: Time },
    Delete { id_hash: String },
    Revoke(Revocation),
    Restore { kind: String, value: String },
    Sweep { now: Time },
}

/// The outcome of a change.
#[derive(Clone, Debug, Default)]
pub(in crate::store) struct LoginOutcome {
    /// The login that was deleted.
    pub(in crate::store) deleted: Option<Login>,
    /// The number of changed rows.
    pub(in crate::store) changed: usize,
}

/// The maximum number of logins of one user that are listed.
pub(in crate::store) const MAX_OF_USER: usize = 100;

impl Store {
    /// Stores a login session. Replaces a session with the same hash.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn insert_login(&self, login: Login) -> Result<(), StoreError> {
        self.change_logins(LoginChange::Insert(login)).await?;
        Ok(())
    }

    /// Returns a login session, even if it has expired.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn login(&self, id_hash: &str) -> Result<Option<Login>, StoreError> {
        each!(self, backend => backend.login(id_hash).await)
    }

    /// Returns at most 100 login sessions of a user, oldest first.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn logins_of(&self, user: &str) -> Result<Vec<Login>, StoreError> {
        each!(self, backend => backend.logins_of(user).await)
    }

    /// Changes the expiry time of a login session. Returns `false` if the session does not exist.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn touch_login(&self, id_hash: &str, expires_at: Time) -> Result<bool, StoreError> {
        let id_hash = id_hash.to_owned();
        let touch = LoginChange::Touch {
            id_hash,
            expires_at,
        };
        Ok(self.change_logins(touch).await?.changed > 0)
    }

    /// Removes a login session and returns it.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn delete_login(&self, id_hash: &str) -> Result<Option<Login>, StoreError> {
        let id_hash = id_hash.to_owned();
        let outcome = self.change_logins(LoginChange::Delete { id_hash }).await?;
        Ok(outcome.deleted)
    }

    /// Stores a revocation. Replaces one of the same kind and value.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn insert_revocation(&self, revocation: Revocation) -> Result<(), StoreError> {
        let revoked = self.change_logins(LoginChange::Revoke(revocation));
        self.then_notify_feed(revoked).await?;
        Ok(())
    }

    /// Removes a revocation. Returns `false` if there is none.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn delete_revocation(&self, kind: &str, value: &str) -> Result<bool, StoreError> {
        let (kind, value) = (kind.to_owned(), value.to_owned());
        let restored = self.change_logins(LoginChange::Restore { kind, value });
        Ok(self.then_notify_feed(restored).await?.changed > 0)
    }

    /// Returns all revocations, including expired ones.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        each!(self, backend => backend.revocations().await)
    }

    /// Removes expired login sessions and revocations. Returns how many.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn sweep_logins(&self, now: Time) -> Result<usize, StoreError> {
        let outcome = self.change_logins(LoginChange::Sweep { now }).await?;
        Ok(outcome.changed)
    }

    async fn change_logins(&self, change: LoginChange) -> Result<LoginOutcome, StoreError> {
        each!(self, backend => backend.change_logins(change).await)
    }
}
