//! The store in a PostgreSQL database: several lanes write, a pool reads.
//!
//! Several servers may use one database: the row of a conversation is locked while a server assigns
//! its next `seq`s. Each server emits what it stores itself, and polls for commits of other
//! servers. Every step has a deadline, and a [`Breaker`](crate::breaker::Breaker) stops requests
//! while the database does not respond.

mod address;
mod connecting;
mod failure;
pub(super) mod group;
mod health;
mod in_doubt;
mod lane;
pub(super) mod reading;
mod remote_commits;
mod search_index;
mod shared;
pub(super) mod sql;
mod texts;

use std::sync::Arc;
use std::time::Duration;

use deadpool_postgres::Pool;
use parking_lot::Mutex;
use tokio::sync::{Semaphore, oneshot, watch};
use tokio::task::JoinHandle;
use uuid::Uuid;

use self::address::Address;
use self::health::Health;
use self::lane::{Lane, Order};
pub(super) use self::reading::{change, read};
pub(super) use self::{
    connecting::{check, examine, migrate, try_out},
    shared::secrets::{cluster_secrets, public_connect_revocation},
};
use super::change::{Committed, Revision};
use super::lane::{self as lane_ends, Commit, Commits, Lanes};
use super::write::Write;
use super::{OpenError, StoreError, StoreUsage};
use crate::config;
use crate::metrics::Metrics;
use crate::supervisor::Supervisor;

/// A handle to a store in a PostgreSQL database.
#[derive(Clone, Debug)]
pub(super) struct Postgres(Arc<PostgresInner>);

#[derive(Debug)]
struct PostgresInner {
    address: Address,
    /// The queues of changes to store.
    lanes: Lanes<Order>,
    running: Mutex<Vec<JoinHandle<()>>>,
    closing: watch::Sender<bool>,
    /// One permit per change that waits in a lane; closed when the store closes.
    queue: Arc<Semaphore>,
    max_changes: usize,
    readers: Pool,
    /// One permit per running or waiting read; closed when the store closes.
    reads: Semaphore,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    patience: Duration,
}

impl Postgres {
    /// Checks a URL of the same database, and returns what makes new connections use its
    /// credentials.
    pub(super) fn prepare_credentials(
        &self,
        url: &str,
        config: &config::Store,
    ) -> Result<Box<dyn FnOnce() + Send>, OpenError> {
        let (own, new) = (self.0.address.clone(), Address::new(url, config)?);
        Ok(Box::new(move || own.replace_credentials(&new)))
    }

    /// Connects, applies migrations, and starts the lanes.
    pub(super) async fn open(
        url: &str,
        config: &config::Store,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Result<(Self, Commits), OpenError> {
        let address = Address::new(url, config)?;
        connecting::set_up(&address, config, config.migrate).await?;

        let (closing, closed) = watch::channel(false);
        let health = Arc::new(Health::new());
        let count = config.writers.clamp(1, MAX_LANES);
        let (lanes, waiting) = Lanes::new(count, config.queue);
        // Each lane has its own commit queue, so that a slow conversation delays one lane and not
        // all.
        let (emitted, commits) = lane_ends::commits(count, config.queue.div_ceil(count));
        // The pools have one extra connection each: the readers for the health probe, the writers
        // to update the search index.
        let writers = address.pool(count.saturating_add(1))?;
        let readers = address.pool(config.readers.saturating_add(1))?;
        // The database's own statement timeout comes first. This timeout is for a database that
        // does not respond at all.
        let patience = config.statement_timeout + CLIENT_TIMEOUT_MARGIN;
        let turn = Arc::new(Semaphore::new(1));
        let (stored, counted) = watch::channel(0);
        let stored = Arc::new(stored);
        let mut running = Vec::new();
        for (waiting, commits) in waiting.into_iter().zip(emitted.into_queues()) {
            let lane = Lane {
                pool: writers.clone(),
                commits,
                health: Arc::clone(&health),
                metrics: Arc::clone(&metrics),
                turn: Arc::clone(&turn),
                stored: Arc::clone(&stored),
                group: config.max_batch,
                patience,
                retry: config.retry_timeout,
                closing: closed.clone(),
            };
            // A lane that has panicked is not restarted: a new task would not know whether its
            // group was stored.
            running.push(supervisor.start_once("store lane", lane.run(waiting)));
        }
        supervisor.start("search index", move || {
            search_index::update_index_periodically(counted.clone(), writers.clone(), patience)
        });
        supervisor.start("database health", {
            let (health, readers) = (Arc::downgrade(&health), readers.clone());
            let interval = config.health_interval;
            move || health::watch(health.clone(), readers.clone(), interval, patience)
        });
        // Waiting reads are bounded too, or they would pile up on a slow database.
        let reads = config.readers.saturating_add(config.max_pending_reads);
        let max_changes = config.queue.clamp(1, Semaphore::MAX_PERMITS);
        let inner = PostgresInner {
            address,
            lanes,
            running: Mutex::new(running),
            closing,
            queue: Arc::new(Semaphore::new(max_changes)),
            max_changes,
            readers,
            reads: Semaphore::new(reads.clamp(1, Semaphore::MAX_PERMITS)),
            health,
            metrics,
            patience,
        };
        Ok((Self(Arc::new(inner)), commits))
    }

    pub(super) fn usage(&self) -> StoreUsage {
        let status = self.0.readers.status();
        StoreUsage {
            connections: status.size.saturating_sub(status.available),
            max_connections: status.max_size,
            waiting_reads: status.waiting,
            changes: self
                .0
                .max_changes
                .saturating_sub(self.0.queue.available_permits()),
            max_changes: self.0.max_changes,
        }
    }

    pub(super) fn submit(&self, write: Write) -> Result<(), StoreError> {
        // A change that could only time out is refused immediately, which keeps the queue free.
        if let Some(wait) = self.0.health.breaker.wait() {
            return Err(StoreError::Suspended(wait));
        }
        // All lanes share one bound, so that memory use does not depend on how conversations are
        // distributed.
        let place = Arc::clone(&self.0.queue).try_acquire_owned()?;
        let lane = self.0.lanes.of(write.conversation_id());
        let order = Order::Write {
            write,
            _place: place,
        };
        Ok(lane.try_send(order)?)
    }

    /// Queues what another server has committed, so that this server emits it.
    pub(super) fn announce(
        &self,
        event: Committed,
        revision: Revision,
        confirm: bool,
    ) -> oneshot::Receiver<()> {
        let conversation = event.conversation_id();
        let (commit, resolved) = Commit::announced(event, revision, confirm);
        // If the lane is full or closed, the next poll finds the change again.
        let _ = self
            .0
            .lanes
            .of(conversation)
            .try_send(Order::Announced(commit));
        resolved
    }

    pub(super) async fn id(&self) -> Result<Uuid, StoreError> {
        read!(self, client => sql::store_id(client))
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.0.health.is_good()
    }

    pub(super) async fn close(&self) {
        self.0.queue.close();
        // The lanes accept no more changes, store the queued ones, and end.
        let _ = self.0.closing.send(true);
        let running = std::mem::take(&mut *self.0.running.lock());
        for lane in running {
            let _ = lane.await;
        }
        self.0.reads.close();
        self.0.readers.close();
    }
}

/// The maximum number of lanes. Each runs one transaction at a time on its own connection.
const MAX_LANES: usize = 64;

/// The additional time for which the client waits after the database's statement timeout.
const CLIENT_TIMEOUT_MARGIN: Duration = Duration::from_secs(1);
