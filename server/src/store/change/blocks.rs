//! Blocked networks.

use std::collections::HashMap;

use uuid::Uuid;

use crate::store::{Backend, Store, StoreError};
use roomcast::network::{Block, Network};

/// A change of the block list.
#[derive(Clone, Debug)]
pub(in crate::store) enum BlockChange {
    /// Adds a block, and replaces a block of the same network.
    Insert(Block),
    /// Removes blocks; missing blocks are ignored.
    Delete(Vec<Uuid>),
}

/// The in-memory table. The server's block list bounds its size.
#[derive(Debug, Default)]
pub(in crate::store) struct Blocks(HashMap<Network, Block>);

impl Blocks {
    pub(in crate::store) fn apply(&mut self, change: BlockChange) {
        match change {
            BlockChange::Insert(block) => {
                self.0.insert(block.cidr, block);
            }
            BlockChange::Delete(ids) => self.0.retain(|_, block| !ids.contains(&block.id)),
        }
    }

    pub(in crate::store) fn list(&self) -> Vec<Block> {
        let mut all: Vec<Block> = self.0.values().cloned().collect();
        all.sort_by_key(|block| (block.created_at, block.id));
        all
    }
}

impl Store {
    /// Stores a block. Replaces a block of the same network.
    ///
    /// # Errors
    ///
    /// If it could not be stored.
    pub async fn insert_block(&self, block: Block) -> Result<(), StoreError> {
        self.change_blocks(BlockChange::Insert(block)).await
    }

    /// Removes blocks; missing blocks are ignored.
    ///
    /// # Errors
    ///
    /// If that could not be stored.
    pub async fn delete_blocks(&self, ids: Vec<Uuid>) -> Result<(), StoreError> {
        self.change_blocks(BlockChange::Delete(ids)).await
    }

    /// Returns all blocks, oldest first, including expired ones.
    ///
    /// # Errors
    ///
    /// If they could not be read.
    pub async fn blocks(&self) -> Result<Vec<Block>, StoreError> {
        each!(self, backend => backend.blocks().await)
    }

    async fn change_blocks(&self, change: BlockChange) -> Result<(), StoreError> {
        self.then_notify_feed(async { each!(self, backend => backend.change_blocks(change).await) })
            .await
    }
}
