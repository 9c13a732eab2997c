//! Where conversations and messages are kept.
//!
//! [`Store`] is one of a closed set of backends with the same behaviour, proven by one test-suite.
//! Its methods are named after what the services need. Writing goes through a lane
//! ([`Commits`]): it stores in order and hands each stored message to whoever emits it. Reading
//! goes past the lane and sees what is committed.
//!
//! Permissions are the services' business, but membership is decided here, in the same transaction
//! as what depends on it: a conversation that is unknown and one that is foreign look alike.

mod blocks;
mod error;
mod lane;
mod logins;
mod memory;
#[cfg(feature = "sqlite")]
mod migrate;
mod rows;
#[cfg(feature = "sqlite")]
mod sqlite;
mod time;

use std::path::PathBuf;
use std::sync::Arc;

use uuid::Uuid;

use self::blocks::BlockChange;
use self::logins::{LoginChange, LoginOutcome};

pub use error::{OpenError, StoreError};
pub use lane::{Commit, Commits};
pub use logins::{Login, Revocation};
pub use rows::{
    Conversation, Insert, Membership, Message, MessageKind, Messages, NewConversation, NewMessage,
    Origin, PAGE_BYTES, Page,
};
pub use time::Time;

use crate::config;
use crate::metrics::Metrics;
use crate::network::Block;

/// A store of conversations and messages. Cloning gives another handle to the same store.
#[derive(Clone, Debug)]
pub struct Store(Backend);

#[derive(Clone, Debug)]
enum Backend {
    Memory(memory::Memory),
    #[cfg(feature = "sqlite")]
    Sqlite(sqlite::Sqlite),
}

/// Calls one method on whichever backend it is.
macro_rules! each {
    ($store:expr, $backend:ident => $call:expr) => {
        match &$store.0 {
            Backend::Memory($backend) => $call,
            #[cfg(feature = "sqlite")]
            Backend::Sqlite($backend) => $call,
        }
    };
}

impl Store {
    /// Opens the store that the configuration names, makes or migrates its tables, and returns it
    /// with the end at which its commits come out.
    ///
    /// # Errors
    ///
    /// If the URL is not usable, or the database cannot be opened, migrated or written.
    pub fn open(
        config: &config::Store,
        metrics: Arc<Metrics>,
    ) -> Result<(Self, Commits), OpenError> {
        let (backend, commits) = match Location::parse(&config.url)? {
            Location::Memory => {
                let (memory, commits) = memory::Memory::new(config, metrics);
                (Backend::Memory(memory), commits)
            }
            #[cfg(feature = "sqlite")]
            Location::Sqlite(path) => {
                let (sqlite, commits) = sqlite::Sqlite::open(path, config, metrics)?;
                (Backend::Sqlite(sqlite), commits)
            }
            #[cfg(not(feature = "sqlite"))]
            Location::Sqlite(_) => {
                return Err(OpenError::Absent {
                    backend: "SQLite",
                    remedy: "build with the feature `sqlite`",
                });
            }
        };
        Ok((Self(backend), commits))
    }

    /// Whether a store could be opened with this configuration, without touching it.
    ///
    /// # Errors
    ///
    /// If the URL is not usable.
    pub fn check(config: &config::Store) -> Result<(), OpenError> {
        Location::parse(&config.url).map(|_| ())
    }

    /// Stores a message and waits until it is emitted.
    ///
    /// The message is on its way when the future is first polled: dropping it later only forgoes the
    /// answer.
    ///
    /// # Errors
    ///
    /// If it could not be stored; then it is not, and will not be.
    pub async fn insert_message(
        &self,
        message: NewMessage,
        origin: Origin,
    ) -> Result<Insert, StoreError> {
        let (reply, answer) = lane::request();
        each!(self, backend => backend.submit_message(message, origin, reply)?);
        answer.wait().await
    }

    /// Stores a conversation, if there is none of that id, and returns the one that there is.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn insert_conversation(
        &self,
        conversation: NewConversation,
    ) -> Result<Conversation, StoreError> {
        let (reply, answer) = lane::request();
        each!(self, backend => backend.submit_conversation(conversation, reply)?);
        answer.wait().await
    }

    /// A conversation as `user` sees it; none if it is unknown or foreign.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn membership(
        &self,
        conversation: Uuid,
        user: &str,
    ) -> Result<Option<Membership>, StoreError> {
        each!(self, backend => backend.membership(conversation, user).await)
    }

    /// Whether `user` is a member of a conversation.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn is_member(&self, conversation: Uuid, user: &str) -> Result<bool, StoreError> {
        each!(self, backend => backend.is_member(conversation, user).await)
    }

    /// A page of at most `limit` messages; none if the conversation is unknown or foreign to `user`.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn messages(
        &self,
        conversation: Uuid,
        user: &str,
        page: Page,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        each!(self, backend => backend.messages(conversation, user, page, limit).await)
    }

    /// Stores a login session; one of the same hash is replaced.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn insert_login(&self, login: Login) -> Result<(), StoreError> {
        self.change_logins(LoginChange::Insert(login)).await?;
        Ok(())
    }

    /// A login session, whether it has ended or not.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn login(&self, id_hash: &str) -> Result<Option<Login>, StoreError> {
        each!(self, backend => backend.login(id_hash).await)
    }

    /// The login sessions of a user, the oldest first, at most a hundred.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn logins_of(&self, user: &str) -> Result<Vec<Login>, StoreError> {
        each!(self, backend => backend.logins_of(user).await)
    }

    /// Moves the end of a login session. `false`: there is none any more.
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

    /// Takes a login session away and returns it.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn delete_login(&self, id_hash: &str) -> Result<Option<Login>, StoreError> {
        let id_hash = id_hash.to_owned();
        let outcome = self.change_logins(LoginChange::Delete { id_hash }).await?;
        Ok(outcome.deleted)
    }

    /// Stores a revocation; one of the same is replaced.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn insert_revocation(&self, revocation: Revocation) -> Result<(), StoreError> {
        self.change_logins(LoginChange::Revoke(revocation)).await?;
        Ok(())
    }

    /// Takes a revocation back. `false`: there is none.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn delete_revocation(&self, kind: &str, value: &str) -> Result<bool, StoreError> {
        let (kind, value) = (kind.to_owned(), value.to_owned());
        let restored = self.change_logins(LoginChange::Restore { kind, value });
        Ok(restored.await?.changed > 0)
    }

    /// All revocations, those that have ended included.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        each!(self, backend => backend.revocations().await)
    }

    /// Forgets login sessions and revocations that have ended; says how many.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn sweep_logins(&self, now: Time) -> Result<usize, StoreError> {
        let outcome = self.change_logins(LoginChange::Sweep { now }).await?;
        Ok(outcome.changed)
    }

    /// Stores a block; one of the same network is replaced.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn insert_block(&self, block: Block) -> Result<(), StoreError> {
        self.change_blocks(BlockChange::Insert(block)).await
    }

    /// Takes blocks away; those that are not there are none.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn delete_blocks(&self, ids: Vec<Uuid>) -> Result<(), StoreError> {
        self.change_blocks(BlockChange::Delete(ids)).await
    }

    /// All blocks, the oldest first, those that have ended included.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn blocks(&self) -> Result<Vec<Block>, StoreError> {
        each!(self, backend => backend.blocks().await)
    }

    async fn change_blocks(&self, change: BlockChange) -> Result<(), StoreError> {
        let (reply, answer) = lane::request();
        each!(self, backend => backend.submit_blocks(change, reply)?);
        answer.wait().await
    }

    async fn change_logins(&self, change: LoginChange) -> Result<LoginOutcome, StoreError> {
        let (reply, answer) = lane::request();
        each!(self, backend => backend.submit_logins(change, reply)?);
        answer.wait().await
    }

    /// Whether the last change could be stored.
    #[must_use]
    pub fn is_healthy(&self) -> bool {
        each!(self, backend => backend.is_healthy())
    }

    /// Stores what is waiting, takes nothing more, and returns when the store is closed.
    ///
    /// The commits must be drained meanwhile.
    pub async fn close(&self) {
        each!(self, backend => backend.close().await);
    }
}

/// What a store's URL names.
#[derive(Debug, PartialEq, Eq)]
enum Location {
    Memory,
    Sqlite(PathBuf),
}

impl Location {
    fn parse(url: &str) -> Result<Self, OpenError> {
        const EXPECTED: OpenError = OpenError::Url("expected `memory:` or `sqlite:PATH`");
        if url.starts_with("postgres:") || url.starts_with("postgresql:") {
            return Err(OpenError::Absent {
                backend: "PostgreSQL",
                remedy: "use `sqlite:PATH` or `memory:`",
            });
        }
        match url.split_once(':') {
            Some(("memory", "")) => Ok(Self::Memory),
            Some(("sqlite", path)) => match path.strip_prefix("//").unwrap_or(path) {
                "" => Err(EXPECTED),
                ":memory:" => Err(OpenError::Url("for a store in memory use `memory:`")),
                path => Ok(Self::Sqlite(path.into())),
            },
            Some(_) | None => Err(EXPECTED),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_names_a_backend() {
        for (url, expected) in [
            ("memory:", Location::Memory),
            ("sqlite:roomcast.db", Location::Sqlite("roomcast.db".into())),
            (
                "sqlite:/var/lib/chat.db",
                Location::Sqlite("/var/lib/chat.db".into()),
            ),
            (
                "sqlite:///var/lib/chat.db",
                Location::Sqlite("/var/lib/chat.db".into()),
            ),
        ] {
            assert_eq!(Location::parse(url), Ok(expected), "{url}");
        }
    }

    #[test]
    fn a_url_that_names_nothing_is_refused_without_being_repeated() {
        for url in [
            "",
            "memory",
            "memory:x",
            "sqlite:",
            "sqlite://",
            "sqlite::memory:",
            "mysql://u:secret@h",
        ] {
            let error = Location::parse(url).unwrap_err();
            assert!(matches!(error, OpenError::Url(_)), "{url}: {error}");
            assert!(!error.to_string().contains("secret"));
        }
        assert!(matches!(
            Location::parse("postgres://u:secret@h/d"),
            Err(OpenError::Absent {
                backend: "PostgreSQL",
                ..
            })
        ));
    }
}
