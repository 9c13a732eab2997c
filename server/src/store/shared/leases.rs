//! Leases and presence of the servers that share one store.
//!
//! A server renews its lease. Its presence entries are valid while the lease is; peers remove the
//! entries of a server whose lease has expired. All times are the database's, because the clocks of
//! servers may differ.

#![cfg_attr(
    not(feature = "postgres"),
    allow(
        unused_variables,
        clippy::unused_async,
        reason = "without PostgreSQL no store is shared"
    )
)]

use std::time::Duration;

use uuid::Uuid;

use super::SharedBackend;
use crate::store::statement::{Statement, record, values};
use crate::store::{StoreError, Time};

/// The leases of the servers that share a store. Cloning gives another handle.
#[derive(Clone, Debug)]
pub struct Leases(pub(super) SharedBackend);

/// The presence of a user in a conversation, as one server reports it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PresenceEntry {
    /// The conversation.
    pub conversation_id: Uuid,
    /// The user.
    pub user_id: String,
    /// The user's name.
    pub name: String,
    /// Connections in this conversation; 0 if the user has left or the lease of the user's server
    /// has expired.
    pub connections: u32,
    /// The time since which the user is present.
    pub since: Time,
}

record! { PresenceEntry => conversation_id, user_id, name, connections, since }

impl Leases {
    /// Creates a lease for a server. The id must never have been used before.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn take(&self, node: Uuid, lease: Duration) -> Result<(), StoreError> {
        let take = Statement::new(
            "INSERT INTO nodes (id, expires_at)
             VALUES ($1, clock_timestamp() + $2::int8 * interval '1 millisecond')
             ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at",
            values![node, lease],
        );
        self.0.tidy(take).await.map(drop)
    }

    /// Extends a server's lease. Returns `false` if it has expired.
    ///
    /// Peers may have removed the entries of an expired lease, so the server then needs a new id.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn renew(&self, node: Uuid, lease: Duration) -> Result<bool, StoreError> {
        let renew = Statement::new(
            "UPDATE nodes SET expires_at = clock_timestamp() + $2::int8 * interval '1 millisecond'
             WHERE id = $1 AND expires_at > clock_timestamp()",
            values![node, lease],
        );
        Ok(self.0.tidy(renew).await? > 0)
    }

    /// Ends a server's lease and removes its presence entries.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn end(&self, node: Uuid) -> Result<(), StoreError> {
        let end = Statement::new("DELETE FROM nodes WHERE id = $1", values![node]);
        self.0.tidy(end).await.map(drop)
    }

    /// Removes the entries of servers whose leases expired at least `dead_for` ago. Returns the
    /// number of servers.
    ///
    /// A reader that reads before the removal sees that the users left because their server died.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn remove_expired(&self, dead_for: Duration) -> Result<u64, StoreError> {
        // Rows that another server is removing are skipped, so that neither server waits.
        let remove = Statement::new(
            "DELETE FROM nodes WHERE id IN (SELECT id FROM nodes
                 WHERE expires_at <= clock_timestamp() - $1::int8 * interval '1 millisecond'
                 FOR UPDATE SKIP LOCKED)",
            values![dead_for],
        );
        self.0.tidy(remove).await
    }

    /// Returns the time until the next lease of another server expires, or `None` if there is no
    /// other server.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn next_end(&self, node: Uuid) -> Result<Option<Duration>, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.next_end(node).await,
        }
    }

    /// Publishes presence changes of this server's users, each entry at most once.
    ///
    /// `here` contains only the users whose presence changed. Returns `false` if the lease has
    /// expired; then nothing is stored.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn tell(&self, node: Uuid, here: &[PresenceEntry]) -> Result<bool, StoreError> {
        match self.0 {
            #[cfg(feature = "postgres")]
            SharedBackend::Postgres(ref postgres) => postgres.publish_presence(node, here).await,
        }
    }

    /// Returns the users who are in these conversations on other servers.
    ///
    /// Each user appears once, with the sum of the connections to servers with valid leases,
    /// ordered by conversation and user id. A user whose servers' leases have all expired has 0
    /// connections.
    ///
    /// # Errors
    ///
    /// If it could not be read.
    pub async fn remote_presence(
        &self,
        node: Uuid,
        conversations: &[Uuid],
    ) -> Result<Vec<PresenceEntry>, StoreError> {
        let mut found: Vec<PresenceEntry> = Vec::new();
        // Each statement reads a page, so that its result is bounded.
        loop {
            let last = found.last();
            // The first user id is not empty, so this position is before all rows.
            let (after, user) = last.map_or((Uuid::nil(), ""), |last| {
                (last.conversation_id, last.user_id.as_str())
            });
            let page = Statement::new(
                PRESENCE,
                values![node, conversations.to_vec(), after, user, PAGE_ROWS],
            );
            let page: Vec<PresenceEntry> = self.0.rows(page).await?;
            let is_last = page.len() < PAGE_ROWS;
            found.extend(page);
            if is_last {
                return Ok(found);
            }
        }
    }
}

const PRESENCE: &str = "SELECT p.conversation_id, p.user_id, max(p.name) AS name,
        least(coalesce(sum(p.connections) FILTER (WHERE n.is_alive), 0),
            2147483647)::int4 AS connections,
        coalesce(min(p.since) FILTER (WHERE n.is_alive), min(p.since)) AS since
    FROM presences p
    JOIN (SELECT id, expires_at > statement_timestamp() AS is_alive FROM nodes) n
        ON n.id = p.node_id
    WHERE p.conversation_id = ANY($2) AND p.node_id <> $1
        AND (p.conversation_id, p.user_id) > ($3, $4)
    GROUP BY p.conversation_id, p.user_id
    ORDER BY p.conversation_id, p.user_id LIMIT $5";
/// The number of rows in one page of presence.
const PAGE_ROWS: usize = 100_000;
