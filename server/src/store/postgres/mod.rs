//! The store in a PostgreSQL database: some lanes write, a pool reads.
//!
//! Several servers may work on one database: the row of a conversation is locked while one hands
//! out its next `seq`s. Each server emits what it has stored itself; what others have stored it
//! finds when it looks. Every step has a deadline, and a [`Breaker`](crate::breaker::Breaker) keeps
//! all away from a database that does not answer.

mod address;
mod blocks;
mod doubt;
mod failure;
mod group;
mod health;
mod keys;
mod lane;
mod logins;
mod missed;
mod queries;
mod shared;
mod texts;

use std::sync::Arc;
use std::time::{Duration, Instant};

use deadpool_postgres::{ClientWrapper, Object, Pool, PoolError, TimeoutType};
use parking_lot::Mutex;
use tokio::sync::{Semaphore, TryAcquireError, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::error::Elapsed;
use tokio::time::{sleep, timeout};
use tokio_postgres::Error;
use uuid::Uuid;

use self::address::{Address, ConnectError};
use self::failure::{Failure, Fault};
use self::group::invites;
use self::health::Health;
use self::lane::{Lane, Order, throw_away};
use self::shared::{feed, leases, values};
use super::blocks::BlockChange;
use super::change::keys::{Begun, KeyChange};
use super::change::{Authorship, Committed, Cursor, Invite, List, Search};
use super::lane::{self as lane_ends, Commit, Commits, Lanes, Write};
use super::logins::{Login, LoginChange, LoginOutcome, Revocation};
use super::rows::{Membership, Messages, Page, Revision, Version};
use super::{FeedMark, FeedPage, Here, Missed, OpenError, StoreError, Time, migrate as migrations};
use crate::breaker::Admission;
use crate::config;
use crate::metrics::{Counter, Metrics};
use crate::supervisor::Supervisor;
use roomcast::{
    adapter::values::{Entry, Expected, Put},
    network::Block,
};

/// Runs a query on a connection that reads; once more on another one if that is lost. Statements that
/// change something must bear being repeated. (A macro, since a future that borrows its connection
/// cannot be told to be `Send` in a bound.)
macro_rules! read {
    ($store:expr, $client:ident => $query:expr) => {{
        let _admitted = $store.0.reads.try_acquire().map_err(|error| match error {
            TryAcquireError::Closed => StoreError::Closed,
            TryAcquireError::NoPermits => StoreError::Overloaded,
        })?;
        let mut tries = 0;
        loop {
            let lent = $store.lend(&mut tries).await?;
            let $client: &ClientWrapper = &lent.client;
            let answer = timeout($store.0.patience, $query).await;
            if let Some(value) = $store.take_back(lent, answer, &mut tries)? {
                break Ok(value);
            }
        }
    }};
}

use read;

/// A handle to a store in a PostgreSQL database.
#[derive(Clone, Debug)]
pub(super) struct Postgres(Arc<PostgresInner>);

#[derive(Debug)]
struct PostgresInner {
    /// What waits to be stored.
    lanes: Lanes<Order>,
    running: Mutex<Vec<JoinHandle<()>>>,
    closing: watch::Sender<bool>,
    /// One permit per change that waits in a lane; closed when the store is.
    queue: Arc<Semaphore>,
    readers: Pool,
    /// One permit per read that runs or waits; closed when the store is.
    reads: Semaphore,
    health: Arc<Health>,
    metrics: Arc<Metrics>,
    patience: Duration,
}

impl Postgres {
    /// Connects, applies migrations, and starts the lanes.
    pub(super) async fn open(
        url: &str,
        config: &config::Store,
        metrics: Arc<Metrics>,
        supervisor: &Supervisor,
    ) -> Result<(Self, Commits), OpenError> {
        let address = Address::new(url, config)?;
        set_up(&address, config, config.migrate).await?;

        let (closing, closed) = watch::channel(false);
        let health = Arc::new(Health::new());
        let count = config.lanes.clamp(1, MAX_LANES);
        let (lanes, waiting) = Lanes::new(count, config.queue);
        let (emitted, commits) = lane_ends::commits(count, config.queue.div_ceil(count));
        // One more, for the question whether the database is there.
        let writers = address.pool(count)?;
        let readers = address.pool(config.readers.saturating_add(1))?;
        // The server's own limit comes first; this one is for a server that says nothing at all.
        let patience = config.statement_timeout + MARGIN;
        let mut running = Vec::new();
        for (waiting, commits) in waiting.into_iter().zip(emitted.into_queues()) {
            let lane = Lane {
                pool: writers.clone(),
                commits,
                health: Arc::clone(&health),
                metrics: Arc::clone(&metrics),
                group: config.group,
                patience,
                retry: config.retry_timeout,
                closing: closed.clone(),
            };
            running.push(supervisor.start_once("store lane", lane.run(waiting)));
        }
        supervisor.start("database health", {
            let (health, readers) = (Arc::downgrade(&health), readers.clone());
            let interval = config.health_interval;
            move || health::watch(health.clone(), readers.clone(), interval, patience)
        });
        let reads = config.readers.saturating_add(config.waiting_reads);
        let inner = PostgresInner {
            lanes,
            running: Mutex::new(running),
            closing,
            queue: Arc::new(Semaphore::new(
                config.queue.clamp(1, Semaphore::MAX_PERMITS),
            )),
            readers,
            reads: Semaphore::new(reads.clamp(1, Semaphore::MAX_PERMITS)),
            health,
            metrics,
            patience,
        };
        Ok((Self(Arc::new(inner)), commits))
    }

    pub(super) fn submit(&self, write: Write) -> Result<(), StoreError> {
        if let Some(wait) = self.0.health.breaker.wait() {
            return Err(StoreError::Suspended(wait));
        }
        let place = Arc::clone(&self.0.queue)
            .try_acquire_owned()
            .map_err(|error| match error {
                TryAcquireError::Closed => StoreError::Closed,
                TryAcquireError::NoPermits => StoreError::Overloaded,
            })?;
        let lane = self.0.lanes.of(write.conversation_id());
        let order = Order::Write {
            write,
            _place: place,
        };
        lane.try_send(order).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => StoreError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => StoreError::Closed,
        })
    }

    /// Lets who emits know what another server has committed.
    pub(super) fn announce(
        &self,
        event: Committed,
        revision: Revision,
        confirm: bool,
    ) -> oneshot::Receiver<()> {
        let conversation = event.conversation_id();
        let (commit, resolved) = Commit::announced(event, revision, confirm);
        // If the lane is full or closed: whoever looks again finds it again.
        let _ = self
            .0
            .lanes
            .of(conversation)
            .try_send(Order::Announced(commit));
        resolved
    }

    pub(super) async fn id(&self) -> Result<Uuid, StoreError> {
        read!(self, client => queries::store_id(client))
    }

    /// The query is tried once and does not count against the database, because nobody waits for it
    /// and it is asked again soon. A restart that nobody else notices must not open the breaker.
    pub(super) async fn revisions(
        &self,
        conversations: &[Uuid],
    ) -> Result<Vec<(Uuid, Revision)>, StoreError> {
        let _place = self.0.reads.try_acquire().map_err(|error| match error {
            TryAcquireError::Closed => StoreError::Closed,
            TryAcquireError::NoPermits => StoreError::Overloaded,
        })?;
        let breaker = &self.0.health.breaker;
        let admission = breaker.admit().map_err(StoreError::Suspended)?;
        let Ok(client) = self.0.readers.get().await else {
            return Err(StoreError::Failed);
        };
        let answer = timeout(self.0.patience, missed::revisions(&client, conversations));
        if let Ok(Ok(revisions)) = answer.await {
            admission.succeeded();
            return Ok(revisions);
        }
        throw_away(client);
        Err(StoreError::Failed)
    }

    pub(super) async fn missed(
        &self,
        conversation: Uuid,
        after: Revision,
        through: Revision,
        limit: usize,
    ) -> Result<Missed, StoreError> {
        read!(self, client => missed::missed(client, conversation, after, through, limit))
    }

    pub(super) async fn forget_changes(&self) -> Result<u64, StoreError> {
        read!(self, client => missed::forget(client))
    }

    pub(super) async fn change_logins(
        &self,
        change: LoginChange,
    ) -> Result<LoginOutcome, StoreError> {
        read!(self, client => logins::apply(client, &change))
    }

    pub(super) async fn change_keys(&self, change: KeyChange) -> Result<Begun, StoreError> {
        read!(self, client => keys::apply(client, &change))
    }

    pub(super) async fn change_blocks(&self, change: BlockChange) -> Result<(), StoreError> {
        read!(self, client => blocks::apply(client, &change))
    }

    pub(super) async fn blocks(&self) -> Result<Vec<Block>, StoreError> {
        read!(self, client => blocks::list(client))
    }

    pub(super) async fn insert_invite(
        &self,
        invite: Invite,
        limit: usize,
    ) -> Result<bool, StoreError> {
        read!(self, client => invites::insert(client, &invite, limit, Time::now()))
    }

    pub(super) async fn invite(&self, token_hash: &str) -> Result<Option<Invite>, StoreError> {
        read!(self, client => invites::find(client, token_hash, Time::now()))
    }

    pub(super) async fn delete_invites(&self, conversation: Uuid) -> Result<u64, StoreError> {
        read!(self, client => invites::remove(client, conversation, Time::now()))
    }

    pub(super) async fn take_lease(&self, node: Uuid, lease: Duration) -> Result<(), StoreError> {
        read!(self, client => leases::take(client, node, lease))
    }

    pub(super) async fn renew_lease(
        &self,
        node: Uuid,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        read!(self, client => leases::renew(client, node, lease))
    }

    pub(super) async fn end_lease(&self, node: Uuid) -> Result<(), StoreError> {
        read!(self, client => leases::end(client, node))
    }

    pub(super) async fn bury_nodes(&self) -> Result<u64, StoreError> {
        read!(self, client => leases::bury(client))
    }

    pub(super) async fn tell_presence(
        &self,
        node: Uuid,
        here: &[Here],
    ) -> Result<bool, StoreError> {
        read!(self, client => leases::tell(client, node, here))
    }

    pub(super) async fn elsewhere(
        &self,
        node: Uuid,
        conversations: &[Uuid],
    ) -> Result<Vec<Here>, StoreError> {
        read!(self, client => leases::elsewhere(client, node, conversations))
    }

    pub(super) async fn value(&self, key: &str) -> Result<Option<Entry>, StoreError> {
        read!(self, client => values::get(client, key))
    }

    pub(super) async fn put_value(
        &self,
        key: &str,
        expected: Expected,
        text: &str,
    ) -> Result<Option<Put>, StoreError> {
        read!(self, client => values::put(client, key, expected, text))
    }

    pub(super) async fn remove_value(
        &self,
        key: &str,
        expected: Expected,
    ) -> Result<Put, StoreError> {
        read!(self, client => values::remove(client, key, expected))
    }

    pub(super) async fn lock_shared(
        &self,
        name: &str,
        holder: &str,
        lease: Duration,
    ) -> Result<Option<u64>, StoreError> {
        read!(self, client => values::lock(client, name, holder, lease))
    }

    pub(super) async fn renew_shared(
        &self,
        name: &str,
        fence: u64,
        lease: Duration,
    ) -> Result<bool, StoreError> {
        read!(self, client => values::renew(client, name, fence, lease))
    }

    pub(super) async fn unlock_shared(&self, name: &str, fence: u64) -> Result<bool, StoreError> {
        read!(self, client => values::unlock(client, name, fence))
    }

    pub(super) async fn login(&self, id_hash: &str) -> Result<Option<Login>, StoreError> {
        read!(self, client => logins::login(client, id_hash))
    }

    pub(super) async fn logins_of(&self, user: &str) -> Result<Vec<Login>, StoreError> {
        read!(self, client => logins::of_user(client, user))
    }

    pub(super) async fn revocations(&self) -> Result<Vec<Revocation>, StoreError> {
        read!(self, client => logins::revocations(client))
    }

    pub(super) async fn feed_end(&self) -> Result<FeedMark, StoreError> {
        read!(self, client => feed::end(client))
    }

    pub(super) async fn read_feed(
        &self,
        mark: &FeedMark,
        limit: usize,
    ) -> Result<Option<FeedPage>, StoreError> {
        read!(self, client => feed::read(client, mark, limit))
    }

    pub(super) async fn shorten_feed(
        &self,
        below: Option<&FeedMark>,
        most: usize,
    ) -> Result<bool, StoreError> {
        read!(self, client => feed::shorten(client, below, most))
    }

    pub(super) async fn revocations_named(
        &self,
        kinds: &[&str],
        values: &[&str],
    ) -> Result<Vec<Revocation>, StoreError> {
        read!(self, client => logins::revocations_named(client, kinds, values))
    }

    pub(super) async fn revocations_after(
        &self,
        kind: &str,
        value: &str,
        limit: usize,
    ) -> Result<Vec<Revocation>, StoreError> {
        read!(self, client => logins::revocations_after(client, kind, value, limit))
    }

    pub(super) async fn blocks_named(&self, ids: &[Uuid]) -> Result<Vec<Block>, StoreError> {
        read!(self, client => blocks::named(client, ids))
    }

    pub(super) async fn membership(
        &self,
        conversation: Uuid,
        user: Option<&str>,
    ) -> Result<Option<Membership>, StoreError> {
        read!(self, client => queries::membership(client, conversation, user))
    }

    pub(super) async fn is_member(
        &self,
        conversation: Uuid,
        user: &str,
    ) -> Result<bool, StoreError> {
        read!(self, client => queries::is_member(client, conversation, Some(user)))
    }

    pub(super) async fn conversations(
        &self,
        user: &str,
        before: Option<Cursor>,
        limit: usize,
    ) -> Result<List, StoreError> {
        read!(self, client => queries::conversations(client, user, before, limit))
    }

    pub(super) async fn messages(
        &self,
        conversation: Uuid,
        user: Option<&str>,
        page: Page,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        read!(self, client => queries::messages(client, conversation, user, page, limit))
    }

    pub(super) async fn search(
        &self,
        user: &str,
        search: Search,
        limit: usize,
    ) -> Result<Option<Messages>, StoreError> {
        read!(self, client => queries::search(client, user, &search, limit))
    }

    pub(super) async fn versions(&self, message: Uuid) -> Result<Vec<Version>, StoreError> {
        read!(self, client => queries::versions(client, message))
    }

    pub(super) async fn authorship(&self, message: Uuid) -> Result<Option<Authorship>, StoreError> {
        read!(self, client => queries::authorship(client, message))
    }

    pub(super) async fn conversation_of(&self, message: Uuid) -> Result<Option<Uuid>, StoreError> {
        read!(self, client => queries::conversation_of(client, message))
    }

    pub(super) async fn expire(&self, time: Time, limit: usize) -> Result<u64, StoreError> {
        read!(self, client => queries::expire(client, time, limit))
    }

    pub(super) async fn purge(&self, time: Time, limit: usize) -> Result<u64, StoreError> {
        read!(self, client => queries::purge(client, time, limit))
    }

    pub(super) fn is_healthy(&self) -> bool {
        self.0.health.is_good()
    }

    pub(super) async fn close(&self) {
        self.0.queue.close();
        // The lanes take nothing more and come to their end.
        let _ = self.0.closing.send(true);
        let running = std::mem::take(&mut *self.0.running.lock());
        for lane in running {
            let _ = lane.await;
        }
        self.0.reads.close();
        self.0.readers.close();
    }

    /// Lends a connection that reads.
    async fn lend(&self, tries: &mut u32) -> Result<Lent<'_>, StoreError> {
        loop {
            let admission = self
                .0
                .health
                .breaker
                .admit()
                .map_err(StoreError::Suspended)?;
            let failure = match self.0.readers.get().await {
                Ok(client) => return Ok(Lent { admission, client }),
                Err(PoolError::Closed) => return Err(StoreError::Closed),
                // Others are faster: that says nothing about the database.
                Err(PoolError::Timeout(TimeoutType::Wait)) => {
                    self.0.metrics.count(Counter::StoreErrors);
                    return Err(StoreError::Overloaded);
                }
                Err(error) => Failure::from(error),
            };
            admission.failed();
            self.try_again(&failure, tries)?;
        }
    }

    /// Takes a connection back with what came of it; none says that the query is worth another try.
    fn take_back<T>(
        &self,
        lent: Lent<'_>,
        answer: Result<Result<T, Error>, Elapsed>,
        tries: &mut u32,
    ) -> Result<Option<T>, StoreError> {
        let failure = match answer {
            Ok(Ok(value)) => {
                lent.admission.succeeded();
                return Ok(Some(value));
            }
            Ok(Err(error)) => Failure::from(error),
            Err(_) => Failure::timed_out(),
        };
        if failure.fault == Fault::Lost {
            lent.admission.failed();
            throw_away(lent.client);
        } else {
            lent.admission.succeeded();
        }
        self.try_again(&failure, tries).map(|()| None)
    }

    /// Another connection may do what a lost one did not; but only once.
    fn try_again(&self, failure: &Failure, tries: &mut u32) -> Result<(), StoreError> {
        self.0.metrics.count(Counter::StoreErrors);
        *tries += 1;
        if *tries < READS && matches!(failure.fault, Fault::Lost | Fault::Again) {
            self.0.metrics.count(Counter::StoreRetries);
            return Ok(());
        }
        tracing::warn!(reason = failure.reason, "could not read from the store");
        Err(StoreError::Failed)
    }
}

/// A connection that reads, and the right to use it.
struct Lent<'a> {
    admission: Admission<'a>,
    client: Object,
}

/// Whether a URL is usable, without connecting.
pub(super) fn check(url: &str, config: &config::Store) -> Result<(), OpenError> {
    Address::new(url, config).map(|_| ())
}

/// Brings a database to the tables of this version.
pub(super) async fn migrate(url: &str, config: &config::Store) -> Result<Vec<String>, OpenError> {
    let address = Address::new(url, config)?;
    set_up(&address, config, true).await
}

/// Connects, with some patience for a database that is just starting, and migrates.
async fn set_up(
    address: &Address,
    config: &config::Store,
    apply: bool,
) -> Result<Vec<String>, OpenError> {
    let deadline = Instant::now() + config.retry_timeout;
    loop {
        match address.connect().await {
            Ok(mut client) => {
                let refused = |error: Error| address.refused(&error);
                texts::check_encoding(&client, &address.name())
                    .await
                    .map_err(refused)??;
                let applied = migrations::postgres(&mut client, &address.name(), apply).await?;
                texts::check_search(&client).await.map_err(refused)?;
                return Ok(applied);
            }
            Err(ConnectError::Refused(error)) => {
                let transient = failure::fault(&error) == Fault::Lost
                    && error.code().is_none_or(|code| {
                        // Wrong credentials and missing databases stay so.
                        !code.code().starts_with("28") && !code.code().starts_with("3D")
                    });
                if !transient || Instant::now() >= deadline {
                    return Err(address.refused(&error));
                }
                tracing::debug!(%error, "the database is not there yet");
            }
            Err(ConnectError::TimedOut) if Instant::now() >= deadline => {
                return Err(OpenError::Database {
                    database: address.name(),
                    reason: "it does not answer".into(),
                });
            }
            Err(ConnectError::TimedOut) => {}
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// How often a query is tried.
const READS: u32 = 2;

/// Transactions at the same time at most; each has a connection.
const MAX_LANES: usize = 64;

/// How much longer than its server a client waits for the end of a statement.
const MARGIN: Duration = Duration::from_secs(1);
