//! Events that services publish inside of their own transactions: rows that every server emits once.
//!
//! The first server that sees a row gives it its place in one order for all servers, so a position is a number, and
//! what is committed late comes late.

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

/// What services publish by the store. Cloning gives another handle.
#[derive(Clone, Debug)]
pub struct Publications(pub(super) SharedBackend);

/// An event that a service has published.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_structs,
    reason = "a row, taken apart by who reads it"
)]
pub struct Publication {
    /// Its place in the order; none is left out, unless it is not kept any more.
    pub position: i64,
    /// Who gets it.
    pub audience: Audience,
    /// The name of the event.
    pub event: String,
    /// Its argument as JSON, if it has one.
    pub payload: Option<String>,
    /// How long ago it was written, by the clock of the database.
    pub age: Duration,
    /// Whether a server has said that it cannot be emitted.
    pub is_refused: bool,
}

/// Who gets a publication.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_enums, reason = "the table has no others")]
pub enum Audience {
    /// The sockets in a room.
    Room(String),
    /// The sockets of a user.
    User(String),
    /// Everyone.
    Everyone,
}

/// Why publications could not be read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(
    clippy::exhaustive_enums,
    reason = "whoever reads must say what each means"
)]
pub enum PublicationFault {
    /// The database does not allow it, or lacks the tables: it has to be mended by people.
    Denied(String),
    /// The store cannot be read at the moment.
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
    /// Gives what is committed its places, and returns the last one that is given.
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

    /// At most `limit` publications behind a position, in their order.
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

    /// Notes why a publication is not emitted; the first reason stays.
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

    /// Where a server of this name goes on: where it was, or behind what is older than `oldest`. The answer is none
    /// if it was never there.
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

    /// Notes how far a server has come.
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

    /// Removes some of what got its place longer ago than `keep`, and of what there is beyond about `most`; what was refused is kept
    /// for a week, and 10,000 of it. Returns `true` if there may be more.
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
