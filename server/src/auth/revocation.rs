//! Revocations: credentials that are invalid although they have not expired.

use std::{collections::HashMap, fmt};

use jiff::Timestamp;
use parking_lot::RwLock;
use sha2::{Digest as _, Sha256};
use tokio::sync::watch;

use super::{
    Principal,
    guest::is_guest,
    rbac::{GUEST, roles_of},
};
use crate::metrics::hex;

/// The subject of a revocation.
#[derive(Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Revoked {
    /// The token with this `jti`.
    Token(String),
    /// The login with this [hash](secret_hash), and every token with its `sid`.
    Login(String),
    /// All credentials and sockets of the user with this id.
    User(String),
    /// All credentials and sockets with this role. `guest` is the role of all guests.
    Role(String),
}

impl Revoked {
    /// Returns the revocation of the login with this id.
    #[must_use]
    pub fn login(id: &str) -> Self {
        Self::Login(secret_hash(id))
    }

    /// Returns the kind of the subject: `token`, `session`, `user` or `role`.
    #[must_use]
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Token(_) => "token",
            Self::Login(_) => "session",
            Self::User(_) => "user",
            Self::Role(_) => "role",
        }
    }

    /// Returns the value that identifies the subject within its kind.
    #[must_use]
    pub fn value(&self) -> &str {
        match self {
            Self::Token(value) | Self::Login(value) | Self::User(value) | Self::Role(value) => {
                value
            }
        }
    }

    /// Creates a subject from [`kind`](Self::kind) and [`value`](Self::value). Returns `None` for
    /// an unknown kind.
    #[must_use]
    pub fn from_parts(kind: &str, value: String) -> Option<Self> {
        Some(match kind {
            "token" => Self::Token(value),
            "session" => Self::Login(value),
            "user" => Self::User(value),
            "role" => Self::Role(value),
            _ => return None,
        })
    }

    /// Returns whether the revocation applies to a principal.
    #[must_use]
    pub fn covers(&self, principal: &Principal) -> bool {
        match self {
            Self::Token(id) => principal.token_id.as_ref() == Some(id),
            Self::Login(hash) => principal.session.as_ref() == Some(hash),
            Self::User(id) => principal.subject == *id,
            Self::Role(role) => roles_of(principal).any(|own| own == role),
        }
    }

    /// Returns whether the subject is a guest or the role of guests. Guests have no credentials
    /// that expire, so only the revocation refuses them.
    pub(crate) fn is_of_guests(&self) -> bool {
        match self {
            Self::User(id) => is_guest(id),
            Self::Role(role) => role == GUEST,
            Self::Token(_) | Self::Login(_) => false,
        }
    }
}

/// Shows the names of users and roles, and omits the ids of tokens and logins.
impl fmt::Debug for Revoked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Token(_) => f.write_str("Token(…)"),
            // Ids of tokens and hashes of logins are omitted because they would identify a person
            // in the log.
            Self::Login(_) => f.write_str("Session(…)"),
            Self::User(id) => f.debug_tuple("User").field(id).finish(),
            Self::Role(role) => f.debug_tuple("Role").field(role).finish(),
        }
    }
}

/// All revocations, each until the revoked credentials would have expired anyway.
///
/// An entry refuses new connections. [`Io::revalidate`](roomcast::Io::revalidate) disconnects
/// existing ones.
#[derive(Debug, Default)]
pub struct Revocations {
    entries: RwLock<Entries>,
    /// Tells tasks that a revocation was added.
    added: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Entries {
    tokens: HashMap<String, Timestamp>,
    logins: HashMap<String, Timestamp>,
    users: HashMap<String, Timestamp>,
    roles: HashMap<String, Timestamp>,
}

impl Entries {
    fn len(&self) -> usize {
        self.all().iter().map(|map| map.len()).sum()
    }

    fn all(&self) -> [&HashMap<String, Timestamp>; 4] {
        [&self.tokens, &self.logins, &self.users, &self.roles]
    }

    fn kind(&self, revoked: &Revoked) -> &HashMap<String, Timestamp> {
        match revoked {
            Revoked::Token(_) => &self.tokens,
            Revoked::Login(_) => &self.logins,
            Revoked::User(_) => &self.users,
            Revoked::Role(_) => &self.roles,
        }
    }

    fn of(&mut self, revoked: &Revoked) -> &mut HashMap<String, Timestamp> {
        match revoked {
            Revoked::Token(_) => &mut self.tokens,
            Revoked::Login(_) => &mut self.logins,
            Revoked::User(_) => &mut self.users,
            Revoked::Role(_) => &mut self.roles,
        }
    }
}

impl Revocations {
    /// Creates an empty list.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Revokes a subject until the given time. A second call for the same subject replaces the
    /// time.
    ///
    /// # Errors
    ///
    /// Returns [`TooManyRevocations`] if there are already [`MAX_REVOCATIONS`] other entries.
    pub fn insert(&self, revoked: &Revoked, until: Timestamp) -> Result<(), TooManyRevocations> {
        let mut entries = self.entries.write();
        // The list is bounded because every server holds all of it in memory. Active entries are
        // never evicted.
        let is_full = entries.len() >= MAX_REVOCATIONS;
        let map = entries.of(revoked);
        match map.get_mut(revoked.value()) {
            Some(time) => *time = until,
            None if is_full => return Err(TooManyRevocations),
            None => {
                map.insert(revoked.value().to_owned(), until);
            }
        }
        drop(entries);
        self.added.send_replace(());
        Ok(())
    }

    /// Returns a receiver that learns of each later [`insert`](Self::insert).
    pub(crate) fn added(&self) -> watch::Receiver<()> {
        self.added.subscribe()
    }

    /// Removes a revocation. Returns `false` if there was none.
    pub fn remove(&self, revoked: &Revoked) -> bool {
        let mut entries = self.entries.write();
        entries.of(revoked).remove(revoked.value()).is_some()
    }

    /// Returns all revoked subjects, including expired entries.
    pub(crate) fn all(&self) -> Vec<Revoked> {
        let entries = self.entries.read();
        let tokens = entries.tokens.keys().cloned().map(Revoked::Token);
        let logins = entries.logins.keys().cloned().map(Revoked::Login);
        let users = entries.users.keys().cloned().map(Revoked::User);
        let roles = entries.roles.keys().cloned().map(Revoked::Role);
        tokens.chain(logins).chain(users).chain(roles).collect()
    }

    /// Returns until when a subject is revoked, also if that time has passed.
    pub(crate) fn until(&self, revoked: &Revoked) -> Option<Timestamp> {
        let entries = self.entries.read();
        entries.kind(revoked).get(revoked.value()).copied()
    }

    /// Returns whether a subject is currently revoked.
    #[must_use]
    pub fn has(&self, revoked: &Revoked) -> bool {
        let entries = self.entries.read();
        let until = entries.kind(revoked).get(revoked.value());
        until.is_some_and(|until| *until > Timestamp::now())
    }

    /// Returns whether a revocation currently applies to a principal.
    #[must_use]
    pub fn covers(&self, principal: &Principal) -> bool {
        self.covering(principal).is_some()
    }

    /// Returns the revocation that currently applies to a principal, if any.
    #[must_use]
    pub fn covering(&self, principal: &Principal) -> Option<Revoked> {
        let entries = self.entries.read();
        // Most servers have no revocations, and every admission calls this.
        if entries.len() == 0 {
            return None;
        }
        let now = Timestamp::now();
        let holds = |map: &HashMap<String, Timestamp>, value: &str| {
            map.get(value).is_some_and(|until| *until > now)
        };
        let token = principal.token_id.as_ref();
        if let Some(id) = token.filter(|id| holds(&entries.tokens, id)) {
            return Some(Revoked::Token(id.clone()));
        }
        let login = principal.session.as_ref();
        if let Some(hash) = login.filter(|hash| holds(&entries.logins, hash)) {
            return Some(Revoked::Login(hash.clone()));
        }
        if holds(&entries.users, &principal.subject) {
            return Some(Revoked::User(principal.subject.clone()));
        }
        let role = roles_of(principal).find(|role| holds(&entries.roles, role));
        role.map(|role| Revoked::Role(role.to_owned()))
    }

    /// Removes expired entries.
    pub fn sweep(&self) {
        let now = Timestamp::now();
        let mut entries = self.entries.write();
        let Entries {
            tokens,
            logins,
            users,
            roles,
        } = &mut *entries;
        for map in [tokens, logins, users, roles] {
            map.retain(|_, until| *until > now);
            if map.len() < map.capacity() / 4 {
                map.shrink_to(map.len() * 2);
            }
        }
    }

    /// Returns the number of entries.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.read().len()
    }

    /// Returns whether there are no entries.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Maximum number of revocations.
pub const MAX_REVOCATIONS: usize = 100_000;

/// The list already has [`MAX_REVOCATIONS`] entries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TooManyRevocations;

impl fmt::Display for TooManyRevocations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "the revocation list is full: set `auth.jwt.max_lifetime` so that entries expire",
        )
    }
}

impl std::error::Error for TooManyRevocations {}

/// Returns the stored form of a secret such as a login id: its SHA-256 hash in hexadecimal. The
/// secret has 256 random bits, so a fast hash without a salt is sufficient.
#[must_use]
pub fn secret_hash(id: &str) -> String {
    hex(Sha256::digest(id))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn ann() -> Principal {
        let mut ann = Principal::new("ann").with_role("user").with_role("coach");
        ann.token_id = Some("t1".into());
        ann.session = Some(secret_hash("s1"));
        ann
    }

    #[test]
    fn token_login_user_or_role_suffices_for_a_revocation() {
        for revoked in [
            Revoked::Token("t1".into()),
            Revoked::login("s1"),
            Revoked::User("ann".into()),
            Revoked::Role("coach".into()),
        ] {
            let revocations = Revocations::new();
            assert!(!revocations.covers(&ann()));
            let until = Timestamp::now() + Duration::from_secs(60);
            revocations.insert(&revoked, until).unwrap();
            assert!(revoked.covers(&ann()), "{revoked:?}");
            assert_eq!(revocations.covering(&ann()), Some(revoked.clone()));
            assert!(!revocations.covers(&Principal::new("bob").with_role("user")));
            assert!(revocations.has(&revoked));
            assert!(!revocations.has(&Revoked::User("bob".into())));
            assert!(revocations.remove(&revoked) && !revocations.covers(&ann()));
        }
    }

    #[test]
    fn revoking_the_guest_role_covers_all_guests() {
        let role = Revoked::Role("guest".into());
        let (ann, bob) = (Principal::guest("guest:1", "Ann"), Principal::new("bob"));
        let revocations = Revocations::new();
        let until = Timestamp::now() + Duration::from_secs(60);
        revocations.insert(&role, until).unwrap();
        assert!(role.covers(&ann) && !role.covers(&bob));
        assert_eq!(revocations.covering(&ann), Some(role));
        assert!(!revocations.covers(&bob));
        assert!(revocations.covers(&bob.with_role("guest")));
    }

    #[test]
    fn revocation_expires_at_its_time_and_is_swept() {
        let revocations = Revocations::new();
        let now = Timestamp::now();
        let past = now - Duration::from_secs(1);
        revocations
            .insert(&Revoked::User("ann".into()), past)
            .unwrap();
        revocations
            .insert(&Revoked::User("bob".into()), now + Duration::from_secs(60))
            .unwrap();
        assert!(!revocations.covers(&ann()));
        revocations.sweep();
        assert_eq!(revocations.len(), 1);
        assert!(revocations.covers(&Principal::new("bob")));
    }

    #[test]
    fn full_revocation_list_still_extends_existing_entries() {
        let revocations = Revocations::new();
        let until = Timestamp::now() + Duration::from_secs(60);
        for n in 0..MAX_REVOCATIONS {
            let token = Revoked::Token(format!("{n}"));
            revocations.insert(&token, until).unwrap();
        }
        let ann = Revoked::User("ann".into());
        assert_eq!(revocations.insert(&ann, until), Err(TooManyRevocations));
        assert_eq!(
            revocations.insert(&Revoked::Token("7".into()), until),
            Ok(())
        );
    }

    #[test]
    fn revoked_token_and_login_ids_are_not_printed() {
        let shown = format!(
            "{:?}{:?}",
            Revoked::Token("t1".into()),
            Revoked::login("s1")
        );
        assert_eq!(shown, "Token(…)Session(…)");
        assert!(!secret_hash("s1").contains("s1"));
    }
}
