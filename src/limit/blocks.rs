//! The block list: networks whose clients are refused.

use std::{collections::HashMap, fmt, net::IpAddr, time::SystemTime};

use uuid::Uuid;

use crate::network::{Block, BlockSource, Network};

/// The block list. A lookup takes one step for each prefix length in use.
#[derive(Debug, Default)]
pub(super) struct Blocks {
    by_network: HashMap<Network, Block>,
    by_id: HashMap<Uuid, Network>,
    /// The number of blocks for each prefix length in use, in ascending order of lengths.
    lengths: Vec<(u8, usize)>,
}

/// Maximum number of blocks.
const MAX_BLOCKS: usize = 10_000;

/// The error for a full block list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooManyBlocks;

impl fmt::Display for TooManyBlocks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the block list is full: it has {MAX_BLOCKS} networks")
    }
}

impl std::error::Error for TooManyBlocks {}

impl Blocks {
    /// Returns the block that applies to an address. Narrower networks take precedence.
    pub(super) fn find(&self, address: IpAddr, now: impl FnOnce() -> SystemTime) -> Option<&Block> {
        let prefixes = Network::prefixes(address);
        let mut found = self
            .lengths
            .iter()
            .rev()
            .filter(|(prefix, _)| prefixes.contains(prefix))
            .filter_map(|(prefix, _)| self.by_network.get(&Network::at(address, *prefix)))
            .peekable();
        // The clock is read only if a block matches, because nearly all addresses match none.
        found.peek()?;
        let now = now();
        found.find(|block| !block.is_over(now))
    }

    /// Adds a block. It replaces a block of the same network, unless that has a source of higher
    /// rank. Returns the ids of removed blocks, or the new block's id if it was rejected.
    pub(super) fn insert(&mut self, block: Block) -> Result<Vec<Uuid>, TooManyBlocks> {
        let mut removed = Vec::new();
        let old = self.by_network.get(&block.cidr);
        if old.is_some_and(|old| rank(old.source) > rank(block.source)) {
            return Ok(vec![block.id]);
        }
        if old.is_none() && self.by_network.len() >= MAX_BLOCKS {
            removed.push(self.make_room().ok_or(TooManyBlocks)?);
        }
        removed.extend(self.remove_network(block.cidr));
        let prefix = block.cidr.prefix();
        let place = self.lengths.partition_point(|(other, _)| *other < prefix);
        match self.lengths.get_mut(place) {
            Some((other, count)) if *other == prefix => *count += 1,
            Some(_) | None => self.lengths.insert(place, (prefix, 1)),
        }
        self.by_id.insert(block.id, block.cidr);
        self.by_network.insert(block.cidr, block);
        Ok(removed)
    }

    /// Removes the automatic block that ends first.
    fn make_room(&mut self) -> Option<Uuid> {
        let automatic = self
            .by_network
            .values()
            .filter(|block| block.source == BlockSource::Automatic);
        let network = automatic.min_by_key(|block| block.expires_at)?.cidr;
        self.remove_network(network)
    }

    /// Removes a block.
    pub(super) fn remove(&mut self, id: Uuid) -> Option<Block> {
        let network = *self.by_id.get(&id)?;
        let block = self.by_network.get(&network).cloned();
        self.remove_network(network);
        block
    }

    fn remove_network(&mut self, network: Network) -> Option<Uuid> {
        let block = self.by_network.remove(&network)?;
        self.by_id.remove(&block.id);
        self.lengths.retain_mut(|(prefix, count)| {
            *count -= usize::from(*prefix == network.prefix());
            *count > 0
        });
        Some(block.id)
    }

    /// Removes the blocks that have ended and returns their ids.
    pub(super) fn sweep(&mut self, now: SystemTime) -> Vec<Uuid> {
        let over: Vec<Uuid> = self
            .by_network
            .values()
            .filter(|block| block.is_over(now))
            .map(|block| block.id)
            .collect();
        for id in &over {
            self.remove(*id);
        }
        over
    }

    /// Returns all blocks, newest first.
    pub(super) fn list(&self) -> Vec<Block> {
        let mut all: Vec<Block> = self.by_network.values().cloned().collect();
        all.sort_by_key(|block| (std::cmp::Reverse(block.created_at), block.id));
        all
    }

    pub(super) fn len(&self) -> usize {
        self.by_network.len()
    }
}

/// Returns the precedence of a source.
fn rank(source: BlockSource) -> u8 {
    match source {
        BlockSource::Automatic => 0,
        BlockSource::Admin => 1,
        BlockSource::Configuration => 2,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn block(cidr: &str, seconds: Option<u64>, source: BlockSource) -> Block {
        let duration = seconds.map(Duration::from_secs);
        Block::new(cidr.parse().unwrap(), duration, "why", source)
    }

    fn find(blocks: &Blocks, address: &str) -> Option<String> {
        let found = blocks.find(address.parse().unwrap(), SystemTime::now)?;
        Some(found.cidr.to_string())
    }

    #[test]
    fn an_address_falls_under_the_narrowest_block_that_has_not_ended() {
        let mut blocks = Blocks::default();
        for block in [
            block("192.0.0.0/8", None, BlockSource::Admin),
            block("192.0.2.0/24", None, BlockSource::Admin),
            block("192.0.2.7", Some(0), BlockSource::Automatic),
            block("2001:db8::/32", None, BlockSource::Admin),
        ] {
            assert_eq!(blocks.insert(block), Ok(vec![]));
        }
        assert_eq!(find(&blocks, "192.0.2.7").unwrap(), "192.0.2.0/24");
        assert_eq!(find(&blocks, "192.9.9.9").unwrap(), "192.0.0.0/8");
        assert_eq!(find(&blocks, "::ffff:192.9.9.9").unwrap(), "192.0.0.0/8");
        assert_eq!(find(&blocks, "2001:db8::1").unwrap(), "2001:db8::/32");
        assert_eq!(find(&blocks, "193.0.2.7"), None);
        assert_eq!(find(&blocks, "::1"), None);
    }

    #[test]
    fn removed_or_expired_block_does_not_apply() {
        let mut blocks = Blocks::default();
        let one = block("192.0.2.0/24", None, BlockSource::Admin);
        let over = block("198.51.100.0/24", Some(0), BlockSource::Automatic);
        let (id, over_id) = (one.id, over.id);
        blocks.insert(one).unwrap();
        blocks.insert(over).unwrap();
        assert_eq!(blocks.sweep(SystemTime::now()), vec![over_id]);
        assert_eq!(blocks.remove(id).unwrap().id, id);
        assert_eq!(blocks.remove(id), None);
        assert_eq!(find(&blocks, "192.0.2.7"), None);
        assert_eq!((blocks.len(), blocks.lengths.len()), (0, 0));
    }

    #[test]
    fn a_network_is_blocked_once_and_a_configured_block_stays() {
        let mut blocks = Blocks::default();
        let first = block("192.0.2.0/24", None, BlockSource::Admin);
        let second = block("192.0.2.9/24", Some(9), BlockSource::Admin);
        let first_id = first.id;
        blocks.insert(first).unwrap();
        assert_eq!(blocks.insert(second.clone()), Ok(vec![first_id]));
        assert_eq!(blocks.list(), vec![second]);
        let fixed = block("192.0.2.0/24", None, BlockSource::Configuration);
        blocks.insert(fixed.clone()).unwrap();
        let late = block("192.0.2.0/24", Some(9), BlockSource::Automatic);
        assert_eq!(blocks.insert(late.clone()), Ok(vec![late.id]));
        assert_eq!(blocks.list(), vec![fixed]);
    }

    #[test]
    fn full_list_evicts_only_automatic_blocks() {
        let mut blocks = Blocks::default();
        let address = |n: usize| format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255);
        for n in 0..MAX_BLOCKS {
            let source = if n == 0 {
                BlockSource::Automatic
            } else {
                BlockSource::Admin
            };
            blocks.insert(block(&address(n), Some(60), source)).unwrap();
        }
        let more = |blocks: &mut Blocks, n| {
            blocks.insert(block(&address(n), Some(60), BlockSource::Admin))
        };
        assert_eq!(more(&mut blocks, MAX_BLOCKS).unwrap().len(), 1);
        assert_eq!(more(&mut blocks, MAX_BLOCKS + 1), Err(TooManyBlocks));
        assert_eq!(blocks.len(), MAX_BLOCKS);
    }
}
