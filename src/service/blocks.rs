//! The block list: who may change it, and how it outlives the server.

use std::{net::IpAddr, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use uuid::Uuid;

use super::{Access, ServiceError};
use crate::{
    auth::{Permission, Principal},
    limit::Guard,
    network::{Block, BlockSource, Network},
    socket::Io,
    store::{Store, StoreError},
};

/// The block list. Cloning gives another handle.
#[derive(Clone)]
pub(crate) struct Blocks {
    guard: Arc<Guard>,
    store: Store,
    access: Access,
    io: Io,
}

/// How often what has ended is taken out of the store.
const SWEEP: Duration = Duration::from_secs(600);
/// The longest that a block with an end may last, in seconds: ten years.
const MAX_SECONDS: u64 = 10 * 365 * 24 * 60 * 60;

impl Blocks {
    pub(crate) fn new(guard: Arc<Guard>, store: Store, access: Access, io: Io) -> Self {
        Self {
            guard,
            store,
            access,
            io,
        }
    }

    /// Puts the stored blocks in force again.
    ///
    /// # Errors
    ///
    /// If they cannot be read.
    pub(crate) async fn restore(&self) -> Result<(), StoreError> {
        let now = jiff::Timestamp::now();
        let mut gone = Vec::new();
        for block in self.store.blocks().await? {
            if block.is_over(now) {
                gone.push(block.id);
            } else if let Ok(replaced) = self.guard.block(block) {
                gone.extend(replaced);
            } else {
                tracing::warn!("there are more stored blocks than can be in force");
                break;
            }
        }
        self.forget(gone).await
    }

    /// The block list, newest first.
    pub(crate) fn list(&self, by: &Principal) -> Result<Vec<Block>, ServiceError> {
        self.access.require_permission(by, Permission::ApiBlocks)?;
        Ok(self.guard.blocks())
    }

    /// Shuts a network out, for some seconds or for good, and disconnects those of it who are there.
    pub(crate) async fn add(
        &self,
        by: &Principal,
        cidr: &str,
        seconds: Option<u64>,
        reason: &str,
    ) -> Result<Block, ServiceError> {
        self.access.require_permission(by, Permission::ApiBlocks)?;
        let network: Network = cidr
            .parse()
            .map_err(|_| ServiceError::invalid("cidr", "is no IP address and no network"))?;
        if seconds.is_some_and(|seconds| seconds == 0 || seconds > MAX_SECONDS) {
            return Err(ServiceError::invalid("seconds", "is zero or too many"));
        }
        if reason.trim().is_empty() || reason.chars().any(char::is_control) {
            let problem = "is empty or has control characters";
            return Err(ServiceError::invalid("reason", problem));
        }
        let duration = seconds.map(Duration::from_secs);
        let block = Block::new(network, duration, reason, BlockSource::Admin);
        let gone = self
            .guard
            .block(block.clone())
            .map_err(|_| ServiceError::Conflict("the block list is full"))?;
        if gone.contains(&block.id) {
            return Err(ServiceError::Conflict(
                "the configuration blocks it already",
            ));
        }
        if let Err(error) = self.store.insert_block(block.clone()).await {
            self.guard.unblock(block.id);
            return Err(error.into());
        }
        tracing::warn!(by = by.subject, %network, reason = block.reason, "blocked");
        self.expel(&[network]).await;
        Ok(block)
    }

    /// Lets a network in again.
    pub(crate) async fn remove(&self, by: &Principal, id: Uuid) -> Result<(), ServiceError> {
        self.access.require_permission(by, Permission::ApiBlocks)?;
        let blocks = self.guard.blocks();
        let block = blocks.iter().find(|block| block.id == id);
        let Some(block) = block else {
            return Err(ServiceError::NotFound("no such block"));
        };
        if block.source == BlockSource::Configuration {
            return Err(ServiceError::Conflict("the configuration blocks it"));
        }
        self.store.delete_blocks(vec![id]).await?;
        self.guard.unblock(id);
        tracing::warn!(by = by.subject, network = %block.cidr, "unblocked");
        Ok(())
    }

    /// Stores the automatic blocks as they are made, and forgets those that have ended. Runs until
    /// it is dropped.
    pub(crate) async fn keep(self) {
        let Some(mut made) = self.guard.automatic_blocks() else {
            return;
        };
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            let kept = tokio::select! {
                block = made.recv() => match block {
                    Some(block) => self.keep_all(block, &mut made).await,
                    None => return,
                },
                _ = sweep.tick() => self.sweep().await,
            };
            if let Err(error) = kept {
                tracing::warn!(%error, "the block list is not stored");
            }
        }
    }

    /// Stores a block and what has come behind it, and disconnects those whom they shut out.
    async fn keep_all(
        &self,
        first: Block,
        made: &mut mpsc::Receiver<Block>,
    ) -> Result<(), StoreError> {
        let mut networks = vec![first.cidr];
        let mut stored = self.store.insert_block(first).await;
        while let Ok(block) = made.try_recv() {
            networks.push(block.cidr);
            stored = self.store.insert_block(block).await.and(stored);
        }
        self.expel(&networks).await;
        stored
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        let now = jiff::Timestamp::now();
        let stored = self.store.blocks().await?;
        let over = stored.iter().filter(|block| block.is_over(now));
        self.forget(over.map(|block| block.id).collect()).await
    }

    async fn forget(&self, ids: Vec<Uuid>) -> Result<(), StoreError> {
        if ids.is_empty() {
            return Ok(());
        }
        self.store.delete_blocks(ids).await
    }

    /// Disconnects the clients of these networks.
    async fn expel(&self, networks: &[Network]) {
        let is_blocked = |address: IpAddr| networks.iter().any(|network| network.contains(address));
        for namespace in self.io.namespaces() {
            for socket in namespace.local().sockets().await {
                if is_blocked(socket.handshake().address().ip()) {
                    socket.disconnect(true);
                }
            }
        }
    }
}
