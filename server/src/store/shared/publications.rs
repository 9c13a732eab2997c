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
use crate::store::statement::{Columns, Record, Single, Statement, values};

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

/// An event that a service has published to a channel.
#[derive(Clone, Debug, PartialEq, Eq)]
#[expect(clippy::exhaustive_structs, reason = "a row, readers destructure it")]
pub struct ChannelPublication {
    /// Its position in the order.
    pub position: i64,
    /// The name of the channel.
    pub channel: String,
    /// The name of the event.
    pub event: String,
    /// An object with the `id` and the `data` of the event, as JSON.
    pub payload: String,
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
    /// The followers of a channel, to which it is added.
    Channel,
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

impl Record for Publication {
    fn read<R: Columns>(row: &R) -> Result<Self, R::Error> {
        let (target, name): (String, Option<String>) = (row.get("target")?, row.get("name")?);
        let name = name.unwrap_or_default();
        let audience = match &*target {
            "room" => Audience::Room(name),
            "user" => Audience::User(name),
            "channel" => Audience::Channel,
            // A check constraint allows no other target.
            _ => Audience::Everyone,
        };
        Ok(Self {
            position: row.get("position")?,
            audience,
            event: row.get("event")?,
            payload: row.get("payload")?,
            is_refused: row.get("is_refused")?,
        })
    }
}

impl Record for ChannelPublication {
    fn read<R: Columns>(row: &R) -> Result<Self, R::Error> {
        Ok(Self {
            position: row.get("position")?,
            channel: row.get("name")?,
            event: row.get("event")?,
            payload: row.get("payload")?,
        })
    }
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
        let number = Statement::new(
            "SELECT roomcast_number_publications($1) AS value",
            values![NUMBERING_BATCH],
        );
        self.value(number).await
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
        self.rows(Statement::new(
            "SELECT position, target, name, event, payload::text AS payload,
                 refused IS NOT NULL AS is_refused
             FROM publications WHERE position > $1 ORDER BY position LIMIT $2",
            values![position, limit],
        ))
        .await
    }

    /// Returns at most `limit` of the oldest events for channels that are not yet events of their
    /// channels, in order.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn not_stored(
        &self,
        limit: usize,
    ) -> Result<Vec<ChannelPublication>, PublicationFault> {
        self.rows(Statement::new(
            "SELECT position, name, event, payload::text AS payload FROM publications
             WHERE target = 'channel' AND NOT is_stored AND refused IS NULL
                 AND position IS NOT NULL
             ORDER BY position LIMIT $1",
            values![limit],
        ))
        .await
    }

    /// Records that all events for channels up to a position, except refused ones, are events of
    /// their channels.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn note_stored(&self, through: i64) -> Result<(), PublicationFault> {
        let note = Statement::new(
            "UPDATE publications SET is_stored = true
             WHERE target = 'channel' AND NOT is_stored AND refused IS NULL AND position <= $1",
            values![through],
        );
        self.rows::<Single<i64>>(note).await.map(drop)
    }

    /// Records why a publication is not emitted. The first recorded reason remains.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn refuse(&self, position: i64, reason: &str) -> Result<(), PublicationFault> {
        let refuse = Statement::new(
            "UPDATE publications SET refused = left($2, 200)
             WHERE position = $1 AND refused IS NULL AND NOT is_stored",
            values![position, reason],
        );
        self.rows::<Single<i64>>(refuse).await.map(drop)
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
        // If the database has lost rows, the recorded position may be past its end; then the server
        // resumes at the end.
        let place = Statement::new(
            "SELECT least(h.position, greatest(n.position, (
                 SELECT max(p.position) FROM publications p
                 WHERE p.numbered_at < clock_timestamp()
                     - $2::int8 * interval '1 millisecond'))) AS value
             FROM publication_nodes n CROSS JOIN publication_head h WHERE n.node = $1",
            values![node, oldest],
        );
        let found = self.rows(place).await?.pop();
        Ok(found.map(|Single(position)| position))
    }

    /// Records the position that a server has reached.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn note_place(&self, node: &str, position: i64) -> Result<(), PublicationFault> {
        let note = Statement::new(
            "INSERT INTO publication_nodes (node, position, told_at)
             VALUES ($1, $2, clock_timestamp())
             ON CONFLICT (node) DO UPDATE SET position = $2, told_at = clock_timestamp()",
            values![node, position],
        );
        self.rows::<Single<i64>>(note).await.map(drop)
    }

    /// Removes some of the publications numbered longer than `keep` ago, and those beyond about
    /// `most`.
    ///
    /// Events for channels are retained until they are stored there, and refused publications for a
    /// week, at most 10,000 of them. Returns `true` if there may be more to remove.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn forget(&self, keep: Duration, most: i64) -> Result<bool, PublicationFault> {
        // Rows that another server is removing are skipped.
        let forget = Statement::new(
            "WITH old AS MATERIALIZED (
                 SELECT id FROM publications
                 WHERE position IS NOT NULL AND refused IS NULL
                     AND (target <> 'channel' OR is_stored) AND (
                     numbered_at < clock_timestamp() - $1::int8 * interval '1 millisecond'
                     OR position <= (SELECT position FROM publication_head) - $2)
                 ORDER BY position LIMIT $3 FOR UPDATE SKIP LOCKED),
             refused AS MATERIALIZED (
                 SELECT id FROM publications
                 WHERE refused IS NOT NULL AND (
                     numbered_at < clock_timestamp() - interval '7 days'
                     OR position <= (
                         SELECT position FROM publications WHERE refused IS NOT NULL
                         ORDER BY position DESC OFFSET 10000 LIMIT 1))
                 ORDER BY position LIMIT $3 FOR UPDATE SKIP LOCKED),
             gone AS (
                 DELETE FROM publications p USING (TABLE old UNION ALL TABLE refused) o
                 WHERE p.id = o.id RETURNING 1),
             used AS MATERIALIZED (
                 SELECT key FROM publication_keys WHERE used_at < clock_timestamp() - interval '24 hours'
                 LIMIT $3 FOR UPDATE SKIP LOCKED),
             free AS (DELETE FROM publication_keys k USING used WHERE k.key = used.key RETURNING 1),
             nodes AS (
                 DELETE FROM publication_nodes WHERE told_at < clock_timestamp() - interval '1 day')
             SELECT greatest((SELECT count(*) FROM gone), (SELECT count(*) FROM free)) AS value",
            values![keep, most, MAX_REMOVED],
        );
        Ok(self.value(forget).await? >= MAX_REMOVED)
    }

    /// Returns the number in the only row of a statement.
    async fn value(&self, statement: Statement) -> Result<i64, PublicationFault> {
        let found = self.rows(statement).await?.pop();
        let Single(value) = found.ok_or(StoreError::Failed)?;
        Ok(value)
    }

    /// Runs a statement once. Each may be repeated.
    async fn rows<T: Record>(&self, statement: Statement) -> Result<Vec<T>, PublicationFault> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => {
                let rows = postgres.publication_rows(&statement).await?;
                Ok(crate::store::statement::records(&rows)?)
            }
        }
    }
}

/// The maximum number of rows of each kind that one statement removes.
const MAX_REMOVED: i64 = 10_000;
