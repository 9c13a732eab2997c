//! Blocked networks, on every store.

use std::time::{Duration, SystemTime};

use roomcast::network::{Block, BlockSource};
use roomcast_server::store::Time;

use crate::harness::{Backend, Harness, on_every_backend};

on_every_backend! {
    blocks_are_read_as_stored,
    a_network_has_one_block,
}

fn block(cidr: &str, seconds: Option<u64>, source: BlockSource) -> Block {
    let duration = seconds.map(Duration::from_secs);
    let mut block = Block::new(cidr.parse().unwrap(), duration, "spam; \"why\"", source);
    // Stores have millisecond precision.
    block.created_at = truncate(block.created_at);
    block.expires_at = block.expires_at.map(truncate);
    block
}

fn truncate(time: SystemTime) -> SystemTime {
    Time::from(time).into()
}

async fn blocks_are_read_as_stored(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let mut expected = vec![
        block("192.0.2.0/24", None, BlockSource::Admin),
        block("2001:db8:1:2::/64", Some(60), BlockSource::Automatic),
    ];
    expected.sort_by_key(|block| (block.created_at, block.id));
    for block in &expected {
        store.insert_block(block.clone()).await.unwrap();
    }
    assert_eq!(store.blocks().await.unwrap(), expected);
    let unknown = uuid::Uuid::nil();
    let first = expected.remove(0);
    store.delete_blocks(vec![first.id, unknown]).await.unwrap();
    assert_eq!(store.blocks().await.unwrap(), expected);
}

async fn a_network_has_one_block(backend: Backend) {
    let harness = Harness::new(backend).await;
    let store = &harness.store;
    let first = block("192.0.2.0/24", Some(60), BlockSource::Automatic);
    let second = block("192.0.2.0/24", None, BlockSource::Admin);
    store.insert_block(first).await.unwrap();
    store.insert_block(second.clone()).await.unwrap();
    assert_eq!(store.blocks().await.unwrap(), [second]);
}
