//! Blocked networks.

#[cfg(feature = "postgres")]
pub(in crate::store) mod postgres;
#[cfg(feature = "sqlite")]
pub(in crate::store) mod sqlite;

use uuid::Uuid;

use crate::store::{Backend, Store, StoreError};
use roomcast::network::Block;

/// A change of the block list.
#[derive(Clone, Debug)]
pub(in crate::store) enum BlockChange {
    /// Adds a block, and replaces a block of the same network.
    Insert(Block),
    /// Removes blocks; missing blocks are ignored.
    Delete(Vec<Uuid>),
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
