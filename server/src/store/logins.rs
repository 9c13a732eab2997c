//! Login sessions, and what was revoked before it expired.

use std::collections::HashMap;

use super::{StoreError, Time};

/// A login session: not the id, which only its owner has, but the hash of it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row, made by who stores it")]
pub struct Login {
    /// SHA-256 of the id in hexadecimal digits.
    pub id_hash: String,
    /// Whose it is.
    pub user_id: String,
    /// The roles it gives.
    pub roles: Vec<String>,
    /// A JSON object that its maker keeps with it.
    pub data: Option<String>,
    /// Seconds that it lives without being used.
    pub ttl_s: u64,
    /// When it was made.
    pub created_at: Time,
    /// When it ends, if it is not used before.
    pub expires_at: Time,
}

/// Something that is not valid any more although it has not expired.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row, made by who stores it")]
pub struct Revocation {
    /// `token`, `session`, `user` or `role`.
    pub kind: String,
    /// The `jti`, the hash of the session's id, the user's id, the role.
    pub value: String,
    /// Until when.
    pub until: Time,
}

/// A change of logins and revocations.
#[derive(Clone, Debug)]
pub(super) enum LoginChange {
    Insert(Login),
    Touch { id_hash: String, expires_at: Time },
    Delete { id_hash: String },
    Revoke(Revocation),
    Restore { kind: String, value: String },
    Sweep { now: Time },
}

/// What a change found.
#[derive(Clone, Debug, Default)]
pub(super) struct LoginOutcome {
    /// The login that was deleted.
    pub(super) deleted: Option<Login>,
    /// How many rows are not what they were.
    pub(super) changed: usize,
}

/// Both tables, in memory.
#[derive(Debug, Default)]
pub(super) struct Logins {
    logins: HashMap<String, Login>,
    revocations: HashMap<(String, String), Time>,
    /// Roughly what all of it takes.
    bytes: usize,
}

impl Logins {
    /// Applies a change if what it adds fits into `room` bytes.
    pub(super) fn apply(
        &mut self,
        change: LoginChange,
        room: u64,
    ) -> Result<LoginOutcome, StoreError> {
        let fits = |bytes: usize| {
            if bytes as u64 > room {
                Err(StoreError::Failed)
            } else {
                Ok(bytes)
            }
        };
        let mut outcome = LoginOutcome::default();
        match change {
            LoginChange::Insert(login) => {
                self.bytes += fits(size_of_login(&login))?;
                let old = self.logins.insert(login.id_hash.clone(), login);
                self.bytes -= old.as_ref().map_or(0, size_of_login);
                outcome.changed = 1;
            }
            LoginChange::Touch {
                id_hash,
                expires_at,
            } => {
                if let Some(login) = self.logins.get_mut(&id_hash) {
                    login.expires_at = expires_at;
                    outcome.changed = 1;
                }
            }
            LoginChange::Delete { id_hash } => {
                outcome.deleted = self.logins.remove(&id_hash);
                self.bytes -= outcome.deleted.as_ref().map_or(0, size_of_login);
                outcome.changed = usize::from(outcome.deleted.is_some());
            }
            LoginChange::Revoke(new) => {
                let size = size_of_revocation(&new.kind, &new.value);
                self.bytes += fits(size)?;
                let old = self.revocations.insert((new.kind, new.value), new.until);
                self.bytes -= old.map_or(0, |_| size);
                outcome.changed = 1;
            }
            LoginChange::Restore { kind, value } => {
                let size = size_of_revocation(&kind, &value);
                let removed = self.revocations.remove(&(kind, value));
                self.bytes -= removed.map_or(0, |_| size);
                outcome.changed = usize::from(removed.is_some());
            }
            LoginChange::Sweep { now } => {
                let rows = self.logins.len() + self.revocations.len();
                self.logins.retain(|_, login| login.expires_at > now);
                self.revocations.retain(|_, until| *until > now);
                outcome.changed = rows - self.logins.len() - self.revocations.len();
                let logins: usize = self.logins.values().map(size_of_login).sum();
                let revocations = self.revocations.keys();
                let revocations: usize = revocations
                    .map(|(kind, value)| size_of_revocation(kind, value))
                    .sum();
                self.bytes = logins + revocations;
            }
        }
        Ok(outcome)
    }

    pub(super) fn bytes(&self) -> u64 {
        self.bytes as u64
    }

    pub(super) fn login(&self, id_hash: &str) -> Option<Login> {
        self.logins.get(id_hash).cloned()
    }

    pub(super) fn of_user(&self, user: &str) -> Vec<Login> {
        let mut logins: Vec<_> = self
            .logins
            .values()
            .filter(|login| login.user_id == user)
            .take(MAX_OF_USER)
            .cloned()
            .collect();
        logins.sort_by_key(|login| login.created_at);
        logins
    }

    pub(super) fn revocations(&self) -> Vec<Revocation> {
        let mut all: Vec<_> = self
            .revocations
            .iter()
            .map(|((kind, value), until)| Revocation {
                kind: kind.clone(),
                value: value.clone(),
                until: *until,
            })
            .collect();
        all.sort_by(|a, b| (&a.kind, &a.value).cmp(&(&b.kind, &b.value)));
        all
    }
}

fn size_of_login(login: &Login) -> usize {
    let roles: usize = login.roles.iter().map(|role| role.len() + 24).sum();
    let texts = 2 * login.id_hash.len() + login.user_id.len();
    let data = login.data.as_ref().map_or(0, String::len);
    texts + data + roles + size_of::<Login>() + ENTRY_BYTES
}

fn size_of_revocation(kind: &str, value: &str) -> usize {
    kind.len() + value.len() + 2 * size_of::<String>() + ENTRY_BYTES
}

/// What an entry of a table takes beside its contents, roughly.
const ENTRY_BYTES: usize = 64;
/// How many sessions of one user are looked at.
pub(super) const MAX_OF_USER: usize = 100;
