//! The SQL of server leases and presence. Each statement may be repeated.

use std::time::Duration;

use jiff::Timestamp;
use uuid::Uuid;

use crate::store::postgres::sql::CachedStatements;
use crate::store::postgres::{Postgres, read};
use crate::store::{PresenceEntry, StoreError};

impl Postgres {
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
}
