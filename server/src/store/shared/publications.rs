//! Events that services publish within their own transactions, as rows that every server emits
//! once.
//!
//! The first server that reads a row assigns its position in one order for all servers. So a
//! position is a number, and a row that is committed late gets a late position.

#![cfg_attr(
    not(feature = "postgres"),
    allow(
        unused_variables,
        dead_code,
        clippy::unused_async,
        reason = "without PostgreSQL no store is shared"
    )
)]

use std::fmt;
use std::time::Duration;

use super::SharedBackend;
use crate::store::StoreError;

/// The maximum number of publications that one transaction numbers.
pub(crate) const NUMBERING_BATCH: i32 = 1000;

/// Events that services publish through the store. Cloning gives another handle.
#[derive(Clone, Debug)]
pub struct Publications(pub(super) SharedBackend);

/// An event that a service has published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row, readers destructure it")]
pub struct Publication {
    /// Its position in the order. Positions have no gaps, except for publications that have been
    /// removed.
    pub position: i64,
    /// The recipients.
    pub audience: Audience,
    /// The name of the event.
    pub event: String,
    /// Its argument as JSON, if it has one.
    pub payload: Option<String>,
    /// Whether a server has recorded that it cannot be emitted.
    pub is_refused: bool,
}

/// The recipients of a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the table has no others")]
pub enum Audience {
    /// All sockets in a room.
    Room(String),
    /// All sockets of a user.
    User(String),
    /// All sockets.
    Everyone,
}

/// The reason why publications could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "readers must handle every variant")]
pub enum PublicationFault {
    /// The database denies access or lacks the tables; an operator must fix it.
    Denied(String),
    /// The store is currently unavailable.
    Store(StoreError),
}

impl fmt::Display for PublicationFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Denied(reason) => f.write_str(reason),
            Self::Store(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for PublicationFault {}

impl From<StoreError> for PublicationFault {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

impl Publications {
    /// Assigns positions to committed publications and returns the last assigned position.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn number(&self) -> Result<i64, PublicationFault> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.number_publications().await,
        }
    }

    /// Returns at most `limit` publications after a position, in order.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn after(
        &self,
        position: i64,
        limit: usize,
    ) -> Result<Vec<Publication>, PublicationFault> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => {
                postgres.publications_after(position, limit).await
            }
        }
    }

    /// Records why a publication is not emitted. The first recorded reason remains.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn refuse(&self, position: i64, reason: &str) -> Result<(), PublicationFault> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => {
                postgres.refuse_publication(position, reason).await
            }
        }
    }

    /// Returns the position at which the server of this name resumes, or `None` if the name is
    /// unknown.
    ///
    /// This is its recorded position, or the position of the last publication older than `oldest`
    /// if that is later.
    ///
    /// # Errors
    ///
    /// If that could not be read.
    pub async fn place_of(
        &self,
        node: &str,
        oldest: Duration,
    ) -> Result<Option<i64>, PublicationFault> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.publication_place(node, oldest).await,
        }
    }

    /// Records the position that a server has reached.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn note_place(&self, node: &str, position: i64) -> Result<(), PublicationFault> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => {
                postgres.note_publication_place(node, position).await
            }
        }
    }

    /// Removes some of the publications numbered longer than `keep` ago, and those beyond about
    /// `most`.
    ///
    /// Refused publications are retained for a week, at most 10,000 of them. Returns `true` if
    /// there may be more to remove.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn forget(&self, keep: Duration, most: i64) -> Result<bool, PublicationFault> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.forget_publications(keep, most).await,
        }
    }
}
