//! Networks that are shut out.

use std::collections::HashMap;

use uuid::Uuid;

use roomcast::network::{Block, Network};

/// A change of the block list.
#[derive(Clone, Debug)]
pub(super) enum BlockChange {
    /// Adds a block; one of the same network gives way.
    Insert(Block),
    /// Removes blocks; those that are not there are none.
    Delete(Vec<Uuid>),
}

/// The table, in memory. It is as large as the block list of the server, which is bounded.
#[derive(Debug, Default)]
pub(super) struct Blocks(HashMap<Network, Block>);

impl Blocks {
    pub(super) fn apply(&mut self, change: BlockChange) {
        match change {
            BlockChange::Insert(block) => {
                self.0.insert(block.cidr, block);
            }
            BlockChange::Delete(ids) => self.0.retain(|_, block| !ids.contains(&block.id)),
        }
    }

    pub(super) fn list(&self) -> Vec<Block> {
        let mut all: Vec<Block> = self.0.values().cloned().collect();
        all.sort_by_key(|block| (block.created_at, block.id));
        all
    }
}
