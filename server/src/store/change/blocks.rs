//! Blocked networks.

use std::time::SystemTime;

use uuid::Uuid;

use crate::store::statement::{Columns, Record, Statement, values};
use crate::store::{Store, StoreError, Time};
use roomcast::network::{Block, BlockSource};

/// A stored block. `None` if its network is invalid, which only another program can have written.
pub(in crate::store) struct StoredBlock(Option<Block>);

impl Record for StoredBlock {
    fn read<R: Columns>(row: &R) -> Result<Self, R::Error> {
        let cidr: String = row.get("cidr")?;
        let Ok(network) = cidr.parse() else {
            tracing::warn!(cidr, "ignored a stored block whose network is invalid");
            return Ok(Self(None));
        };
        let source: String = row.get("source")?;
        Ok(Self(Some(Block::restored(
            row.get("id")?,
            network,
            row.get("reason")?,
            BlockSource::parse(&source).unwrap_or(BlockSource::Admin),
            row.get::<Time>("created_at")?.into(),
            row.get::<Option<Time>>("expires_at")?.map(SystemTime::from),
        ))))
    }
}

impl StoredBlock {
    /// Returns a query of the existing blocks among these ids.
    pub(in crate::store) fn named(ids: &[Uuid]) -> Statement {
        Statement::new(
            "SELECT id, cidr, reason, source, created_at, expires_at FROM blocks
             WHERE id = ANY($1) ORDER BY created_at, id",
            values![ids.to_vec()],
        )
    }

    /// Returns the valid blocks.
    pub(in crate::store) fn valid(blocks: Vec<Self>) -> Vec<Block> {
        blocks.into_iter().filter_map(|Self(block)| block).collect()
    }
}

impl Store {
    /// Stores a block. Replaces a block of the same network.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn insert_block(&self, block: Block) -> Result<(), StoreError> {
        let inserted = self.execute(Statement::new(
            "INSERT INTO blocks (id, cidr, reason, source, created_at, expires_at)
             VALUES ($1, $2, $3, $4, $5, $6)
             ON CONFLICT (cidr) DO UPDATE SET id = $1, reason = $3, source = $4, created_at = $5,
                 expires_at = $6",
            values![
                block.id,
                block.cidr.to_string(),
                block.reason,
                block.source.name(),
                Time::from(block.created_at),
                block.expires_at.map(Time::from),
            ],
        ));
        self.then_notify_feed(inserted).await.map(drop)
    }

    /// Removes blocks; missing blocks are ignored.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn delete_blocks(&self, ids: Vec<Uuid>) -> Result<(), StoreError> {
        let delete = Statement::new("DELETE FROM blocks WHERE id = ANY($1)", values![ids])
            .for_sqlite("DELETE FROM blocks WHERE id IN (SELECT value FROM json_each($1))");
        self.then_notify_feed(self.execute(delete)).await.map(drop)
    }

    /// Returns all blocks, oldest first, including expired ones.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn blocks(&self) -> Result<Vec<Block>, StoreError> {
        let select = Statement::new(
            "SELECT id, cidr, reason, source, created_at, expires_at FROM blocks
             ORDER BY created_at, id",
            values![],
        );
        self.rows(select).await.map(StoredBlock::valid)
    }
}
