//! The block list: permissions, storage and synchronization between servers.

use std::{
    cmp::Reverse,
    collections::HashSet,
    fmt,
    future::poll_fn,
    net::IpAddr,
    sync::Arc,
    task::Poll,
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use schemars::JsonSchema;
use serde::Deserialize;
use tokio::sync::mpsc;
use uuid::Uuid;

use crate::service::rules::bounds::{BlockCursor, Network as NetworkText, REVISION_DIGITS, Reason};
use crate::service::{
    authorization::allowed::Allowed,
    fault::ServiceError,
    feed::{Applied, Applier, Applying, Entries},
    rules::{
        commands::form::{whole_in_query, whole_or_none},
        content::{check_reason, page_limit},
        event::Command,
    },
};
use crate::{
    auth::Permission,
    metrics::{Inventoried, Inventory, Size},
    store::{Feed, Store, StoreError},
};
use roomcast::{
    Io,
    limit::Guard,
    network::{Block, BlockSource, Network},
};

/// The block list. Clones share the same state.
#[derive(Clone)]
pub(crate) struct Blocks {
    guard: Arc<Guard>,
    store: Store,
    io: Io,
    tracked: Arc<Mutex<StoredBlocks>>,
    /// Receives automatic blocks as they are created. `None` if they have another consumer. Not
    /// locked while waiting.
    created: Arc<Mutex<Option<mpsc::Receiver<Block>>>>,
}

/// The query of `GET /api/v1/blocks`.
#[derive(Debug, Default, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct ListBlocks {
    /// The `cursor` of the previous page. Default: the first page.
    #[schemars(with = "Option<BlockCursor>")]
    pub(crate) cursor: Option<String>,
    /// 1 to 200. Default 50.
    #[schemars(range(min = 1, max = 200))]
    #[serde(default, deserialize_with = "whole_in_query")]
    pub(crate) limit: Option<usize>,
}

/// A page of the block list, newest first.
#[derive(Debug)]
pub(crate) struct BlockPage {
    pub(crate) blocks: Vec<Block>,
    /// The position of the last block of this page, if there is another page.
    pub(crate) cursor: Option<String>,
}

/// The body of `POST /api/v1/blocks`.
#[derive(Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewBlock {
    #[schemars(with = "NetworkText")]
    pub(crate) cidr: String,
    /// Duration in seconds, at most ten years. Default: permanent.
    #[schemars(range(min = 1, max = 315_360_000))]
    #[serde(default, deserialize_with = "whole_or_none")]
    pub(crate) seconds: Option<u64>,
    #[schemars(with = "Reason")]
    pub(crate) reason: String,
}

/// The command of `DELETE /api/v1/blocks/{id}`.
#[derive(Debug)]
pub(crate) struct RemoveBlock {
    pub(crate) id: Uuid,
}

impl Command for ListBlocks {
    const PERMISSION: Option<Permission> = Some(Permission::ApiBlocks);
}

impl Command for NewBlock {
    const PERMISSION: Option<Permission> = Some(Permission::ApiBlocks);
}

impl Command for RemoveBlock {
    const PERMISSION: Option<Permission> = Some(Permission::ApiBlocks);
}

/// Blocks known to be stored, if the store is shared. If such a block is no longer in the store, a
/// server removed it. An active block that was never seen in the store may still be waiting to be
/// stored.
#[derive(Debug, Default)]
struct StoredBlocks {
    ids: HashSet<Uuid>,
    /// Blocks that this server stored, or found at its start, since the last read began.
    added: HashSet<Uuid>,
    /// Blocks that this server removed since the last read began.
    removed: HashSet<Uuid>,
}

/// The outcome of applying stored blocks.
#[derive(Debug, Default)]
struct AppliedBlocks {
    /// Networks that were newly blocked.
    networks: Vec<Network>,
    too_many: bool,
}

/// The sort key of a block in the list. It stays when other blocks are added or removed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct BlockPosition {
    /// When the block was created, in milliseconds since 1970.
    created_at: u64,
    id: Uuid,
}

impl BlockPosition {
    fn of(block: &Block) -> Self {
        let since_epoch = block.created_at.duration_since(SystemTime::UNIX_EPOCH);
        let since_epoch = since_epoch.unwrap_or_default().as_millis();
        Self {
            created_at: u64::try_from(since_epoch).unwrap_or(u64::MAX),
            id: block.id,
        }
    }

    fn parse(cursor: &str) -> Option<Self> {
        let (created_at, id) = cursor.rsplit_once('.')?;
        let place = Self {
            created_at: created_at.parse().ok()?,
            id: id.parse().ok()?,
        };
        // Only one spelling of a cursor is accepted.
        let is_short = created_at.len() <= REVISION_DIGITS;
        (is_short && place.to_string() == cursor).then_some(place)
    }
}

impl fmt::Display for BlockPosition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.created_at, self.id)
    }
}

/// The interval between two removals of expired blocks from the store.
const SWEEP: Duration = Duration::from_secs(600);
/// The longest duration of a temporary block, in seconds: ten years.
const MAX_SECONDS: u64 = 10 * 365 * 24 * 60 * 60;

impl StoredBlocks {
    /// Starts a read of the store. Additions and removals by this server from now on are recorded,
    /// because the result may be older.
    fn start_read(&mut self) {
        self.removed = HashSet::new();
        self.ids.extend(std::mem::take(&mut self.added));
    }
}

impl Inventoried for Blocks {
    fn report(&self, inventory: &mut Inventory) {
        let created = self.created.lock();
        let waiting = created.as_ref().map_or(0, mpsc::Receiver::len);
        inventory.size("blocks to store", Size::of::<Block>(waiting, waiting));
        drop(created);
        let tracked = self.tracked.lock();
        let mut sum = Size::default();
        for ids in [&tracked.ids, &tracked.added, &tracked.removed] {
            sum += Size::of::<Uuid>(ids.len(), ids.capacity());
        }
        inventory.size("stored blocks", sum);
    }
}

impl Applier for Blocks {
    fn topic(&self) -> &'static str {
        "blocks"
    }

    fn apply<'a>(&'a self, feed: &'a Feed, changed: &'a Entries) -> Applying<'a> {
        Box::pin(self.apply_changes(feed, changed))
    }
}

impl Blocks {
    pub(crate) fn new(guard: Arc<Guard>, store: Store, io: Io) -> Self {
        let created = guard.automatic_blocks();
        Self {
            guard,
            store,
            io,
            tracked: Arc::default(),
            created: Arc::new(Mutex::new(created)),
        }
    }

    /// Activates the stored blocks again.
    ///
    /// # Errors
    ///
    /// If the blocks cannot be read, or expired or replaced blocks cannot be removed.
    pub(crate) async fn restore(&self) -> Result<(), StoreError> {
        let now = SystemTime::now();
        let mut removed = Vec::new();
        let stored = self.store.blocks().await?;
        self.note(stored.iter().map(|block| block.id));
        for block in stored {
            if block.is_over(now) {
                // Expired and replaced blocks are removed together, after the others are active.
                removed.push(block.id);
            } else if let Ok(replaced) = self.guard.block(block) {
                removed.extend(replaced);
            } else {
                tracing::warn!("the store has more blocks than the limit, some are not in force");
                break;
            }
        }
        self.forget(removed).await
    }

    /// Returns a block, if it is active.
    pub(in crate::service) fn find(&self, id: Uuid) -> Option<Block> {
        let blocks = self.guard.blocks();
        blocks.into_iter().find(|block| block.id == id)
    }

    /// Returns a page of the block list, newest first.
    pub(crate) fn list(&self, allowed: Allowed<ListBlocks>) -> Result<BlockPage, ServiceError> {
        let (_, ListBlocks { cursor, limit }) = allowed.into_parts();
        let limit = page_limit(limit)?;
        let after = cursor.map(|cursor| {
            let none = || ServiceError::invalid("cursor", "is not a cursor of this list");
            BlockPosition::parse(&cursor).ok_or_else(none)
        });
        let after = after.transpose()?;
        let mut blocks = self.guard.blocks();
        blocks.retain(|block| after.is_none_or(|after| BlockPosition::of(block) < after));
        blocks.sort_unstable_by_key(|block| Reverse(BlockPosition::of(block)));
        let has_more = blocks.len() > limit;
        blocks.truncate(limit);
        let last = blocks.last().filter(|_| has_more);
        let cursor = last.map(|last| BlockPosition::of(last).to_string());
        Ok(BlockPage { blocks, cursor })
    }

    /// Blocks a network for some seconds or permanently, and disconnects its clients.
    pub(crate) async fn add(&self, allowed: Allowed<NewBlock>) -> Result<Block, ServiceError> {
        let (by, new) = allowed.into_parts();
        let NewBlock {
            cidr,
            seconds,
            reason,
        } = new;
        let network: Network = cidr
            .parse()
            .map_err(|_| ServiceError::invalid("cidr", "is not an IP address or a network"))?;
        if seconds.is_some_and(|seconds| seconds == 0 || seconds > MAX_SECONDS) {
            return Err(ServiceError::invalid("seconds", "is zero or too many"));
        }
        check_reason(&reason)?;
        let duration = seconds.map(Duration::from_secs);
        let block = Block::new(network, duration, &reason, BlockSource::Admin);
        let removed = self
            .guard
            // The block is active before it is stored, so that blocking does not wait for the
            // database.
            .block(block.clone())
            .map_err(|_| ServiceError::Conflict("the block list is full"))?;
        if removed.contains(&block.id) {
            return Err(ServiceError::Conflict(
                "the configuration already blocks this network",
            ));
        }
        if let Err(error) = self.store.insert_block(block.clone()).await {
            // An unstored block would end with this server, so it is removed and the caller gets
            // the error.
            self.guard.unblock(block.id);
            return Err(error.into());
        }
        tracing::warn!(by = by.subject, %network, reason = block.reason, "blocked");
        self.expel(&[network]);
        // The block is noted only after it is stored. Otherwise a read in between would not find it
        // and treat it as removed.
        self.note([block.id]);
        Ok(block)
    }

    /// Removes a block.
    pub(crate) async fn remove(&self, allowed: Allowed<RemoveBlock>) -> Result<(), ServiceError> {
        let (by, RemoveBlock { id }) = allowed.into_parts();
        let blocks = self.guard.blocks();
        let block = blocks.iter().find(|block| block.id == id);
        let Some(block) = block else {
            return Err(ServiceError::NotFound("no such block"));
        };
        if block.source == BlockSource::Configuration {
            return Err(ServiceError::Conflict(
                "the configuration contains this block",
            ));
        }
        // The row is deleted first: a block that is inactive but still stored would return at the
        // next start.
        self.store.delete_blocks(vec![id]).await?;
        // A block from a read that began earlier must not return.
        let mut tracked = self.tracked.lock();
        // Only servers with a shared store read the changes of other servers.
        if self.store.is_shared() {
            tracked.removed.insert(id);
        }
        self.guard.unblock(id);
        drop(tracked);
        tracing::warn!(by = by.subject, network = %block.cidr, "unblocked");
        Ok(())
    }

    /// Stores automatic blocks as they are created, and removes expired blocks. Runs until dropped,
    /// and can be restarted.
    pub(crate) async fn run(self) {
        let mut sweep = tokio::time::interval(SWEEP);
        loop {
            let created = poll_fn(|cx| match &mut *self.created.lock() {
                Some(created) => created.poll_recv(cx),
                None => Poll::Pending,
            });
            let result = tokio::select! {
                block = created => match block {
                    Some(block) => self.store_queued(block).await,
                    None => return,
                },
                _ = sweep.tick() => self.sweep().await,
            };
            if let Err(error) = result {
                roomcast::throttled_log!(warn, %error, "could not store automatic blocks or remove expired ones");
            }
        }
    }

    /// Notes that blocks are stored. So one that another server removes before this server has read
    /// it becomes inactive.
    fn note(&self, ids: impl IntoIterator<Item = Uuid>) {
        if self.store.is_shared() {
            self.tracked.lock().added.extend(ids);
        }
    }

    /// Applies blocks that other servers added to the store or removed from it.
    async fn apply_changes(&self, feed: &Feed, changed: &Entries) -> Result<Applied, StoreError> {
        // The read is marked before the store query, so that later changes of this server are
        // tracked separately.
        self.tracked.lock().start_read();
        let applied = match changed {
            Entries::These(keys) => {
                let ids = keys.iter().filter_map(|key| key.parse().ok());
                let ids: HashSet<Uuid> = ids.collect();
                let queried: Vec<Uuid> = ids.iter().copied().collect();
                self.apply_stored(feed.blocks(&queried).await?, Some(&ids))
            }
            Entries::All => self.apply_stored(self.store.blocks().await?, None),
        };
        if !applied.networks.is_empty() {
            self.expel(&applied.networks);
        }
        let (own, too_many) = (false, applied.too_many);
        Ok(Applied { own, too_many })
    }

    /// Activates stored blocks. Removes active ones that are not stored: among the queried ids, or
    /// among those known to be stored. Skips what this server removed since the read began.
    fn apply_stored(&self, stored: Vec<Block>, queried: Option<&HashSet<Uuid>>) -> AppliedBlocks {
        // The lock is taken before those of the guard and held to the end. So a removal by this
        // server happens before or after this update, and never in between.
        let mut tracked = self.tracked.lock();
        let now = SystemTime::now();
        let ids: HashSet<Uuid> = stored.iter().map(|block| block.id).collect();
        let removed: Vec<Uuid> = queried
            .unwrap_or(&tracked.ids)
            .difference(&ids)
            .copied()
            .collect();
        for removed in removed {
            tracked.ids.remove(&removed);
            let block = self.guard.unblock(removed);
            if let Some(block) = block.filter(|block| !block.is_over(now)) {
                roomcast::throttled_log!(warn, network = %block.cidr, "unblocked by another server");
            }
        }
        let known: HashSet<Uuid> = self.guard.blocks().iter().map(|block| block.id).collect();
        let mut applied = AppliedBlocks::default();
        for block in stored {
            let (id, network) = (block.id, block.cidr);
            if tracked.removed.contains(&id) {
                continue;
            }
            if tracked.ids.contains(&id) || known.contains(&id) || block.is_over(now) {
                tracked.ids.insert(id);
                continue;
            }
            match self.guard.block(block) {
                // The configuration of this server already blocks it.
                Ok(removed) if removed.contains(&id) => {}
                Ok(_) => {
                    roomcast::throttled_log!(warn, %network, "blocked by another server");
                    applied.networks.push(network);
                }
                Err(_) => {
                    if !applied.too_many {
                        tracing::warn!(
                            "the store has more blocks than the limit, some are not in force"
                        );
                    }
                    applied.too_many = true;
                    continue;
                }
            }
            tracked.ids.insert(id);
        }
        applied
    }

    /// Stores a block and all that are queued after it, and disconnects the clients of their
    /// networks.
    async fn store_queued(&self, first: Block) -> Result<(), StoreError> {
        let mut networks = vec![first.cidr];
        let mut ids = vec![first.id];
        let mut stored = self.store.insert_block(first).await;
        // A flood creates many blocks at the same time. They share one pass over all sockets.
        while let Some(block) = self.next_created() {
            networks.push(block.cidr);
            ids.push(block.id);
            stored = self.store.insert_block(block).await.and(stored);
        }
        self.expel(&networks);
        if stored.is_ok() {
            self.note(ids);
        }
        stored
    }

    fn next_created(&self) -> Option<Block> {
        self.created.lock().as_mut()?.try_recv().ok()
    }

    async fn sweep(&self) -> Result<(), StoreError> {
        let now = SystemTime::now();
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
    fn expel(&self, networks: &[Network]) {
        let is_blocked = |address: IpAddr| networks.iter().any(|network| network.contains(address));
        for namespace in self.io.namespaces() {
            for socket in namespace.local().sockets() {
                if is_blocked(socket.handshake().address().ip()) {
                    socket.close_connection();
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use roomcast::limit::Proxies;

    async fn blocks() -> Blocks {
        let store = Store::in_memory().await;
        let limits = config::Limits::default().addresses();
        let io = Io::builder()
            .guard(&limits, Proxies::default())
            .namespace("/", |namespace| namespace);
        let io = io.build().unwrap();
        let guard = Arc::clone(io.guard().unwrap());
        Blocks::new(guard, store, io)
    }

    fn block(n: usize) -> Block {
        let network = format!("10.{}.{}.{}", n >> 16, (n >> 8) & 255, n & 255);
        Block::new(network.parse().unwrap(), None, "tests", BlockSource::Admin)
    }

    fn in_force(blocks: &Blocks) -> HashSet<Uuid> {
        blocks.guard.blocks().iter().map(|block| block.id).collect()
    }

    #[tokio::test]
    async fn blocks_not_in_the_store_end_only_if_queried_or_known_as_stored() {
        let blocks = blocks().await;
        let (one, two, own) = (block(1), block(2), block(3));
        let stored = vec![one.clone(), two.clone()];
        assert_eq!(blocks.apply_stored(stored.clone(), None).networks.len(), 2);
        assert!(
            blocks.apply_stored(stored, None).networks.is_empty(),
            "known"
        );
        // This block is not yet stored.
        blocks.guard.block(own.clone()).unwrap();
        blocks.apply_stored(vec![], Some(&HashSet::from([one.id])));
        assert_eq!(in_force(&blocks), HashSet::from([two.id, own.id]));
        blocks.apply_stored(vec![], None);
        assert_eq!(in_force(&blocks), HashSet::from([own.id]));
        // This server stored the block, and another one removed it. Only a later read shows that.
        blocks.tracked.lock().added.insert(own.id);
        blocks.apply_stored(vec![], None);
        assert_eq!(in_force(&blocks), HashSet::from([own.id]), "earlier read");
        blocks.tracked.lock().start_read();
        blocks.apply_stored(vec![], None);
        assert!(in_force(&blocks).is_empty());
    }

    #[tokio::test]
    async fn stale_read_does_not_restore_a_removed_block() {
        let blocks = blocks().await;
        let one = block(1);
        blocks.guard.block(one.clone()).unwrap();
        blocks.tracked.lock().start_read();
        let read = vec![one.clone()];
        blocks.tracked.lock().removed.insert(one.id);
        blocks.guard.unblock(one.id);
        let queried = HashSet::from([one.id]);
        assert!(
            blocks
                .apply_stored(read, Some(&queried))
                .networks
                .is_empty()
        );
        assert!(in_force(&blocks).is_empty());
    }

    #[tokio::test]
    async fn excess_block_is_applied_once_the_list_has_room() {
        let blocks = blocks().await;
        let all: Vec<Block> = (0..10_001).map(block).collect();
        let applied = blocks.apply_stored(all.clone(), None);
        assert_eq!((applied.networks.len(), applied.too_many), (10_000, true));
        blocks.guard.unblock(all[7].id);
        let applied = blocks.apply_stored(all.clone(), None);
        assert_eq!(applied.networks, [all[10_000].cidr]);
        assert!(!applied.too_many);
    }
}
