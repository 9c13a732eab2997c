//! The SQL of server leases and presence. Each statement may be repeated.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::store::postgres::sql::{CachedStatements, time};
use crate::store::postgres::{Postgres, read};
use crate::store::{PresenceEntry, StoreError};

impl Postgres {
    pub(in crate::store) async fn take_lease(
        &self,
        node: Uuid,
        lease: Duration,
    ) -> Result<(), StoreError> {
        let lease = milliseconds(lease);
        read!(self, client => client.execute_cached(
            "INSERT INTO nodes (id, expires_at)
             VALUES ($1, clock_timestamp() + $2 * interval '1 millisecond')
             ON CONFLICT (id) DO UPDATE SET expires_at = excluded.expires_at",
            &[&node, &lease],
        ))
        .map(drop)
    }

    /// Extends a lease. An expired lease stays expired, because peers act on it.
    pub(in crate::store) async fn renew_lease(
        &self,
        node: Uuid,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        let lease = milliseconds(lease);
        read!(self, client => client.execute_cached(
            "UPDATE nodes SET expires_at = clock_timestamp() + $2 * interval '1 millisecond'
             WHERE id = $1 AND expires_at > clock_timestamp()",
            &[&node, &lease],
        ))
        .map(|renewed| renewed > 0)
    }

    pub(in crate::store) async fn end_lease(&self, node: Uuid) -> Result<(), StoreError> {
        read!(self, client => client.execute_cached("DELETE FROM nodes WHERE id = $1", &[&node]))
            .map(drop)
    }

    /// Removes servers whose leases expired. Skips rows that another server is removing, so that
    /// neither waits.
    pub(in crate::store) async fn remove_expired_nodes(
        &self,
        dead_for: Duration,
    ) -> Result<u64, StoreError> {
        read!(self, client => client.execute_cached(
            "DELETE FROM nodes WHERE id IN (SELECT id FROM nodes
                 WHERE expires_at <= clock_timestamp() - $1 * interval '1 millisecond'
                 FOR UPDATE SKIP LOCKED)",
            &[&milliseconds(dead_for)],
        ))
    }

    pub(in crate::store) async fn next_end(
        &self,
        node: Uuid,
    ) -> Result<Option<Duration>, StoreError> {
        read!(self, client => client.query_one_cached(
            "SELECT (extract(epoch FROM min(expires_at) - statement_timestamp()))::float8
             FROM nodes WHERE id <> $1 AND expires_at > statement_timestamp()",
            &[&node],
            |row| row.try_get(0),
        ))
        .map(|seconds: Option<f64>| {
            seconds.and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
        })
    }

    /// Stores presence entries. Locks the server's row, so that no entries are stored for a server
    /// that is being removed.
    pub(in crate::store) async fn publish_presence(
        &self,
        node: Uuid,
        here: &[PresenceEntry],
    ) -> Result<bool, StoreError> {
        let conversations: Vec<Uuid> = here.iter().map(|row| row.conversation_id).collect();
        let users: Vec<&str> = here.iter().map(|row| row.user_id.as_str()).collect();
        let names: Vec<&str> = here.iter().map(|row| row.name.as_str()).collect();
        let connections: Vec<i32> = here
            .iter()
            .map(|row| i32::try_from(row.connections).unwrap_or(i32::MAX))
            .collect();
        let since: Vec<Timestamp> = here.iter().map(|row| row.since.timestamp()).collect();
        read!(self, client => client.query_one_cached(
            "WITH node AS MATERIALIZED (
                 SELECT id FROM nodes WHERE id = $1 AND expires_at > clock_timestamp()
                 FOR KEY SHARE),
             told AS MATERIALIZED (
                 SELECT * FROM unnest($2::uuid[], $3::text[], $4::text[], $5::int4[],
                     $6::timestamptz[]) AS t (conversation_id, user_id, name, connections, since)),
             gone AS (
                 DELETE FROM presences p USING node, told t
                 WHERE p.node_id = node.id AND p.conversation_id = t.conversation_id
                     AND p.user_id = t.user_id AND t.connections = 0),
             here AS (
                 INSERT INTO presences
                     (node_id, conversation_id, user_id, name, connections, since)
                 SELECT node.id, t.conversation_id, t.user_id, t.name, t.connections, t.since
                 FROM node, told t WHERE t.connections > 0
                 ON CONFLICT (node_id, conversation_id, user_id) DO UPDATE
                 SET name = excluded.name, connections = excluded.connections,
                     since = excluded.since)
             SELECT EXISTS (SELECT 1 FROM node)",
            &[&node, &conversations, &users, &names, &connections, &since],
            |row| row.try_get(0),
        ))
    }

    /// Reads presence a page at a time, so that each statement has a bounded result.
    pub(in crate::store) async fn remote_presence(
        &self,
        node: Uuid,
        conversations: &[Uuid],
    ) -> Result<Vec<PresenceEntry>, StoreError> {
        let mut found: Vec<PresenceEntry> = Vec::new();
        loop {
            let last = found.last();
            // The first user id is not empty, so this position is before all rows.
            let after = last.map_or((Uuid::nil(), ""), |last| {
                (last.conversation_id, last.user_id.as_str())
            });
            let page = self.presence_page(node, conversations, after).await?;
            let is_last = page.len() < PAGE_ROWS;
            found.extend(page);
            if is_last {
                return Ok(found);
            }
        }
    }

    /// Reads the page of presence after a conversation and user.
    async fn presence_page(
        &self,
        node: Uuid,
        conversations: &[Uuid],
        (conversation, user): (Uuid, &str),
    ) -> Result<Vec<PresenceEntry>, StoreError> {
        let limit = i64::try_from(PAGE_ROWS).unwrap_or(i64::MAX);
        read!(self, client => client.query_cached(
            "SELECT p.conversation_id, p.user_id, max(p.name) AS name,
                 least(coalesce(sum(p.connections) FILTER (WHERE n.is_alive), 0),
                     2147483647)::int4 AS connections,
                 coalesce(min(p.since) FILTER (WHERE n.is_alive), min(p.since)) AS since
             FROM presences p
             JOIN (SELECT id, expires_at > statement_timestamp() AS is_alive FROM nodes) n
                 ON n.id = p.node_id
             WHERE p.conversation_id = ANY($2) AND p.node_id <> $1
                 AND (p.conversation_id, p.user_id) > ($3, $4)
             GROUP BY p.conversation_id, p.user_id
             ORDER BY p.conversation_id, p.user_id LIMIT $5",
            &[&node, &conversations, &conversation, &user, &limit],
            |row| {
                Ok(PresenceEntry {
                    conversation_id: row.try_get("conversation_id")?,
                    user_id: row.try_get("user_id")?,
                    name: row.try_get("name")?,
                    connections: u32::try_from(row.try_get::<_, i32>("connections")?).unwrap_or(0),
                    since: time(row, "since")?,
                })
            },
        ))
    }
}

pub(super) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1000.0
}

/// The number of rows in one page of presence.
const PAGE_ROWS: usize = 100_000;
