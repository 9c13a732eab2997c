//! The guard decides whether an address may open a connection.
//!
//! The server builder creates a [`Guard`]. The engine consults it for every connection and session,
//! and reports violations of addresses to it. Applications block networks with it. It depends only
//! on addresses, networks and times, and must not know sessions or events. Its state is bounded, in
//! the tables of `limit`.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant, SystemTime},
};

use http::HeaderMap;
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;
use uuid::Uuid;

use super::{
    addresses::{Account, Addresses, Budgets, Full, Quota},
    blocks::{Blocks, TooManyBlocks},
    log_throttle::LogThrottle,
    pace::RetryAfter,
    proxy::{Client, Proxies},
};
use crate::{
    config::AddressLimits,
    metrics::{Counter, Gauge, Metrics},
    network::{Block, BlockSource, Network},
};

/// Decides which clients may connect.
///
/// It applies the block list, the rate and number of connections per address, and the total number
/// of connections. All of its state is bounded.
pub struct Guard {
    max_per_address: u32,
    max_connections: usize,
    exempts_loopback: bool,
    block_time: Duration,
    proxies: Proxies,
    addresses: Addresses,
    blocks: RwLock<Blocks>,
    connections: AtomicUsize,
    started: Instant,
    metrics: Arc<Metrics>,
    log_throttles: [LogThrottle; Reason::COUNT],
    /// Automatic blocks, for a store that persists them.
    new_blocks: mpsc::Sender<Block>,
    new_blocks_receiver: Mutex<Option<mpsc::Receiver<Block>>>,
    observer: OnceLock<Box<Observer>>,
}

type Observer = dyn Fn(IpAddr, Reason) + Send + Sync;

/// The reason for a refusal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The address is blocked.
    Blocked,
    /// The address connected too often.
    Rate,
    /// The address has too many connections.
    Address,
    /// The server has too many connections.
    Full,
}

impl Reason {
    const COUNT: usize = 4;

    /// Returns the name of the reason in logs and metrics.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Blocked => "blocked",
            Self::Rate => "rate",
            Self::Address => "address connections",
            Self::Full => "server connections",
        }
    }

    fn counter(self) -> Counter {
        match self {
            Self::Blocked => Counter::RefusedBlocked,
            Self::Rate => Counter::RefusedRate,
            Self::Address => Counter::RefusedAddress,
            Self::Full => Counter::RefusedFull,
        }
    }
}

/// A refused connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// The reason.
    pub reason: Reason,
    /// The time after which a retry may succeed.
    pub retry_after: Duration,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (reason, seconds) = (self.reason.name(), self.retry_after.as_secs());
        write!(f, "connection refused ({reason}), retry after {seconds} s")
    }
}

impl std::error::Error for Refused {}

/// The kinds of limit violations.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// The client connected too often.
    Connects,
    /// The client exceeded its send rate for too long.
    Flood,
    /// The client sent invalid credentials.
    Credentials,
}

impl Violation {
    /// Returns the name of the violation in logs.
    const fn name(self) -> &'static str {
        match self {
            Self::Connects => "connects too often",
            Self::Flood => "sends too fast",
            Self::Credentials => "offers bad credentials",
        }
    }

    /// Returns the account in which the violation counts.
    fn account(self) -> Account {
        match self {
            Self::Connects | Self::Flood => Account::Limits,
            Self::Credentials => Account::Credentials,
        }
    }

    fn counter(self) -> Counter {
        match self {
            Self::Connects => Counter::ViolationsConnects,
            Self::Flood => Counter::ViolationsFlood,
            Self::Credentials => Counter::ViolationsCredentials,
        }
    }
}

/// Minimum `retry_after` of refusals without a known end, and the range of times beyond it.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// Maximum of `retry_after`, also used for permanent blocks.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// Maximum number of automatic blocks that wait to be persisted.
const MAX_UNSTORED_BLOCKS: usize = 1024;
/// The window of the joins and lookups of an address.
const MINUTE: Duration = Duration::from_secs(60);
/// The interval between removals of expired entries.
const SWEEP_INTERVAL: Duration = Duration::from_secs(10);

impl Guard {
    /// Creates a guard with these limits. The networks in `limits.blocked` are blocked permanently.
    pub(crate) fn new(limits: &AddressLimits, proxies: Proxies, metrics: Arc<Metrics>) -> Self {
        let (new_blocks, new_blocks_receiver) = mpsc::channel(MAX_UNSTORED_BLOCKS);
        let quota = |count, window| Quota { count, window };
        let budgets = Budgets {
            connects: quota(limits.connects, limits.connects_window),
            joins: quota(limits.joins_per_address, MINUTE),
            lookups: quota(limits.lookups_per_address, MINUTE),
            // In the order of `Account`.
            offences: [
                quota(limits.block_after, limits.block_window),
                quota(limits.block_after_credentials, limits.block_window),
            ],
        };
        let guard = Self {
            max_per_address: limits.connections_per_address,
            max_connections: limits.connections,
            exempts_loopback: limits.exempt_loopback,
            block_time: limits.block_time,
            proxies,
            addresses: Addresses::new(limits.addresses, budgets),
            blocks: RwLock::default(),
            connections: AtomicUsize::new(0),
            started: now(),
            metrics,
            log_throttles: Default::default(),
            new_blocks,
            new_blocks_receiver: Mutex::new(Some(new_blocks_receiver)),
            observer: OnceLock::new(),
        };
        for network in &limits.blocked {
            let block = Block::new(*network, None, "configured", BlockSource::Configuration);
            // `AddressLimits::check` already rejects a list that is too long.
            let _ = guard.block(block);
        }
        guard
    }

    /// Returns whether connections from this address start with a PROXY protocol header.
    pub(crate) fn expects_proxy_protocol(&self, peer: IpAddr) -> bool {
        self.proxies.speaks_protocol(peer)
    }

    /// Returns the client that sent a request: the peer of the connection, or the client that a
    /// trusted proxy names.
    pub fn client(&self, peer: Client, headers: &HeaderMap) -> Client {
        self.proxies.client(peer, headers)
    }

    /// Returns whether this peer is a trusted proxy, whose request headers identify the client.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.proxies.trusts(peer)
    }

    /// Admits or refuses a connection from an address.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Refused> {
        self.check(address)?;
        let slot = ConnectionSlot::take(self)
            .ok_or_else(|| self.refuse(Reason::Full, address, later()))?;
        let client = Network::of_client(address);
        let is_exempt = self.is_exempt(address);
        if !is_exempt {
            // The slot is taken first, so that a full server charges no address. If the address is
            // refused, dropping the slot returns it.
            let entered = self
                .addresses
                .enter(client, self.max_per_address, now() - self.started);
            entered.map_err(|full| match full {
                Full::Rate(after) => {
                    let refused = self.refuse(Reason::Rate, address, after.duration());
                    let _ = self.violation(address, Violation::Connects);
                    refused
                }
                Full::Live => self.refuse(Reason::Address, address, later()),
            })?;
        }
        Ok(Permit {
            slot,
            address,
            client: (!is_exempt).then_some(client),
        })
    }

    /// Charges an address for a request to join a namespace.
    ///
    /// # Errors
    ///
    /// Returns the time to wait before the next join.
    pub(crate) fn join(&self, address: IpAddr) -> Result<(), RetryAfter> {
        if !self.limits(address) {
            return Ok(());
        }
        let client = Network::of_client(address);
        self.addresses.join(client, now() - self.started)
    }

    /// Charges an address for a lookup on other servers.
    ///
    /// # Errors
    ///
    /// Returns the time to wait before the next lookup.
    pub(crate) fn look_up(&self, address: IpAddr) -> Result<(), Duration> {
        if !self.limits(address) {
            return Ok(());
        }
        let client = Network::of_client(address);
        self.addresses.look_up(client, now() - self.started)
    }

    /// Checks an address against the block list.
    ///
    /// # Errors
    ///
    /// If the address is blocked. The refusal is counted and logged.
    pub fn check(&self, address: IpAddr) -> Result<(), Refused> {
        // The lock is released before the refusal is logged.
        let left = {
            let blocks = self.blocks.read();
            let Some(block) = blocks.find(address, SystemTime::now) else {
                return Ok(());
            };
            let left = |end: SystemTime| end.duration_since(SystemTime::now()).ok();
            block.expires_at.and_then(left)
        };
        Err(self.refuse(Reason::Blocked, address, left.unwrap_or(MAX_RETRY_AFTER)))
    }

    /// Records a violation of an address. An address with repeated violations is blocked for a
    /// time. Returns whether the address is blocked, so that the caller can close the connection.
    ///
    /// Trusted proxies, and loopback while it is exempt, are never blocked automatically.
    pub fn violation(&self, address: IpAddr, violation: Violation) -> bool {
        self.metrics.count(violation.counter());
        if !self.limits(address) {
            return false;
        }
        let client = Network::of_client(address);
        let account = violation.account();
        let now = now() - self.started;
        if !self.addresses.violate(client, account, now) {
            // The count restarts at zero when an address is blocked, so only the block list shows
            // whether it still is.
            let blocks = self.blocks.read();
            return blocks.find(address, SystemTime::now).is_some();
        }
        let time = Some(self.block_time);
        let block = Block::new(client, time, violation.name(), BlockSource::Automatic);
        let is_made = self.block(block.clone()).is_ok();
        if is_made {
            // Throttled, because an attacker may have many networks.
            crate::throttled_log!(
                warn,
                network = %client,
                reason = violation.name(),
                seconds = self.block_time.as_secs(),
                "blocked"
            );
            self.metrics.count(Counter::BlocksAutomatic);
            // A block that is not persisted only fails to survive a restart.
            let _ = self.new_blocks.try_send(block);
        }
        is_made
    }

    /// Returns whether the limits apply to an address. They do not apply to exempt addresses and
    /// trusted proxies, which stand for many clients.
    pub(crate) fn limits(&self, address: IpAddr) -> bool {
        !self.is_exempt(address) && !self.proxies.trusts(address)
    }

    /// Blocks a network for new connections; open connections continue. Returns the ids of the
    /// blocks that this block replaces. If a block of higher rank exists, it stays and the new
    /// block's id is returned.
    ///
    /// # Errors
    ///
    /// If the list is full.
    pub fn block(&self, block: Block) -> Result<Vec<Uuid>, TooManyBlocks> {
        let mut blocks = self.blocks.write();
        let removed = blocks.insert(block);
        self.set(Gauge::Blocks, blocks.len());
        removed
    }

    /// Removes a block. Returns `None` if there is no such block.
    pub fn unblock(&self, id: Uuid) -> Option<Block> {
        let mut blocks = self.blocks.write();
        let block = blocks.remove(id);
        self.set(Gauge::Blocks, blocks.len());
        block
    }

    /// Returns the block list, newest first.
    #[must_use]
    pub fn blocks(&self) -> Vec<Block> {
        let now = SystemTime::now();
        let mut blocks = self.blocks.read().list();
        blocks.retain(|block| !block.is_over(now));
        blocks
    }

    /// Returns the receiver of automatic blocks, for a store that persists them. Only the first
    /// call returns it; later calls return `None`.
    pub fn automatic_blocks(&self) -> Option<mpsc::Receiver<Block>> {
        self.new_blocks_receiver.lock().take()
    }

    /// Calls a function for each refused connection. Only the first call has an effect. The
    /// function must not block.
    pub fn on_refused(&self, observer: impl Fn(IpAddr, Reason) + Send + Sync + 'static) {
        let _ = self.observer.set(Box::new(observer));
    }

    /// Removes expired entries periodically; never returns.
    pub(crate) async fn sweep(self: Arc<Self>) {
        let mut interval = tokio::time::interval(SWEEP_INTERVAL);
        loop {
            interval.tick().await;
            self.sweep_once();
        }
    }

    fn sweep_once(&self) {
        self.addresses.sweep(now() - self.started);
        self.set(Gauge::LimitedAddresses, self.addresses.len());
        let mut blocks = self.blocks.write();
        blocks.sweep(SystemTime::now());
        self.set(Gauge::Blocks, blocks.len());
    }

    fn set(&self, gauge: Gauge, value: usize) {
        // Each gauge is set under one lock or by one task, so it does not change between read and
        // shift.
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.shift(gauge, value - self.metrics.gauge(gauge));
    }

    /// Counts and logs a refusal.
    fn refuse(&self, reason: Reason, address: IpAddr, after: Duration) -> Refused {
        self.metrics.count(reason.counter());
        if let Some(observer) = self.observer.get() {
            observer(address, reason);
        }
        let retry_after = after.clamp(Duration::from_secs(1), MAX_RETRY_AFTER);
        let log_throttle = self.log_throttles.get(reason as usize);
        if let Some(more) = log_throttle.and_then(LogThrottle::permit) {
            tracing::warn!(
                %address,
                reason = reason.name(),
                retry_after = retry_after.as_secs(),
                more,
                "connection refused"
            );
        }
        Refused {
            reason,
            retry_after,
        }
    }

    fn is_exempt(&self, address: IpAddr) -> bool {
        self.exempts_loopback && address.to_canonical().is_loopback()
    }
}

/// Returns `retry_after` of a refusal without a known end.
fn later() -> Duration {
    RetryAfter::spread(RETRY_AFTER, RETRY_AFTER).duration()
}

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// The permit for one connection. Dropping it ends the connection's count.
#[derive(Debug)]
pub(crate) struct Permit {
    slot: ConnectionSlot,
    address: IpAddr,
    /// The client for which the connection counts, or `None` if its connections are not limited.
    client: Option<Network>,
}

impl Permit {
    /// Records a violation of this connection's address.
    pub(crate) fn violation(&self, violation: Violation) {
        let _ = self.slot.0.violation(self.address, violation);
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if let Some(client) = self.client {
            self.slot.0.addresses.leave(client);
        }
    }
}

/// A slot of the limit on all connections. Dropping it returns it.
#[derive(Debug)]
struct ConnectionSlot(Arc<Guard>);

impl ConnectionSlot {
    fn take(guard: &Arc<Guard>) -> Option<Self> {
        let slot = Self(Arc::clone(guard));
        // The connection is counted first, so that two concurrent connections cannot both take the
        // last slot. Dropping a refused slot decrements the count again.
        let before = guard.connections.fetch_add(1, Ordering::Relaxed);
        (guard.max_connections == 0 || before < guard.max_connections).then_some(slot)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Returns the time of tokio's clock, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
