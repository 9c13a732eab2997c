//! The SQL of blocked networks. Changes may be repeated.

use deadpool_postgres::ClientWrapper;
use std::time::SystemTime;
use tokio_postgres::{Error, Row};
use uuid::Uuid;

use crate::store::change::blocks::BlockChange;
use crate::store::postgres::sql::CachedStatements;
use crate::store::postgres::{Postgres, change, read};
use crate::store::{StoreError, Time};
use roomcast::network::{Block, BlockSource};

impl Postgres {
    pub(in crate::store) async fn change_blocks(
        &self,
        change: BlockChange,
    ) -> Result<(), StoreError> {
        change!(self, client => apply(client, &change))
    }

    /// Returns all blocks, oldest first. Blocks that cannot be parsed are left out; only another
    /// program can have written them.
    pub(in crate::store) async fn blocks(&self) -> Result<Vec<Block>, StoreError> {
        read!(self, client => client.query_cached(
            "SELECT id, cidr, reason, source, created_at, expires_at FROM blocks
             ORDER BY created_at, id",
            &[],
            block,
        ))
        .map(|blocks| blocks.into_iter().flatten().collect())
    }

    /// Returns the existing blocks among these ids.
    pub(in crate::store) async fn blocks_named(
        &self,
        ids: &[Uuid],
    ) -> Result<Vec<Block>, StoreError> {
        read!(self, client => client.query_cached(
            "SELECT id, cidr, reason, source, created_at, expires_at FROM blocks
             WHERE id = ANY($1) ORDER BY created_at, id",
            &[&ids],
            block,
        ))
        .map(|blocks| blocks.into_iter().flatten().collect())
    }
}

/// Applies a change.
async fn apply(client: &ClientWrapper, change: &BlockChange) -> Result<(), Error> {
    match change {
        BlockChange::Insert(block) => {
            let created_at = Time::from(block.created_at).timestamp();
            let expires_at = block.expires_at.map(|time| Time::from(time).timestamp());
            client
                .execute_cached(
                    "INSERT INTO blocks (id, cidr, reason, source, created_at, expires_at)
                     VALUES ($1, $2, $3, $4, $5, $6)
                     ON CONFLICT (cidr) DO UPDATE SET id = $1, reason = $3, source = $4,
                         created_at = $5, expires_at = $6",
                    &[
                        &block.id,
                        &block.cidr.to_string(),
                        &block.reason,
                        &block.source.name(),
                        &created_at,
                        &expires_at,
                    ],
                )
                .await?;
        }
        BlockChange::Delete(ids) => {
            client
                .execute_cached("DELETE FROM blocks WHERE id = ANY($1)", &[ids])
                .await?;
        }
    }
    Ok(())
}

fn block(row: &Row) -> Result<Option<Block>, Error> {
    let cidr: &str = row.try_get("cidr")?;
    let source: &str = row.try_get("source")?;
    let Ok(cidr) = cidr.parse() else {
        tracing::warn!(cidr, "ignored a stored block whose network is invalid");
        return Ok(None);
    };
    Ok(Some(Block::restored(
        row.try_get("id")?,
        cidr,
        row.try_get("reason")?,
        BlockSource::parse(source).unwrap_or(BlockSource::Admin),
        row.try_get::<_, SystemTime>("created_at")?,
        row.try_get("expires_at")?,
    )))
}
