//! The guard of addresses: whether an address may open a connection.
//!
//! The builder of a server makes a [`Guard`], and the engine asks it for every connection and session, and tells it
//! what an address has done wrong; applications block networks with it. It knows addresses, networks and times, and
//! must not know why somebody asks: neither sessions nor events. What it keeps is bounded, in the tables of `limit`.

use std::{
    fmt,
    net::IpAddr,
    sync::{
        Arc,
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
    proxy::{Client, Proxies},
};
use crate::{
    config::AddressLimits,
    metrics::{Counter, Gauge, Metrics},
    network::{Block, BlockSource, Network},
};

/// Decides who may connect: block list, connects and connections of each address, connections in
/// all. Nothing it knows grows without bound.
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
    /// The automatic blocks, for whoever keeps them.
    made: mpsc::Sender<Block>,
    kept: Mutex<Option<mpsc::Receiver<Block>>>,
}

/// Why somebody is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Reason {
    /// The address is on the block list.
    Blocked,
    /// The address has connected too often.
    Rate,
    /// The address has too many connections.
    Address,
    /// The server has too many connections.
    Full,
}

impl Reason {
    const COUNT: usize = 4;

    /// The name of the reason in logs and metrics.
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

/// A connection that is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Refused {
    /// Why.
    pub reason: Reason,
    /// When trying again may make sense.
    pub retry_after: Duration,
}

/// How an address has broken a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Violation {
    /// The client connects too often.
    Connects,
    /// The client sends faster than it may, for too long.
    Flood,
    /// The client offers invalid credentials.
    Credentials,
}

impl Violation {
    /// The name of the offence in logs.
    const fn name(self) -> &'static str {
        match self {
            Self::Connects => "connects too often",
            Self::Flood => "sends too fast",
            Self::Credentials => "offers bad credentials",
        }
    }

    /// The account that it is counted in.
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

/// What a refused client is told if the reason has no end of its own.
const RETRY_AFTER: Duration = Duration::from_secs(10);
/// What a client is told whose block lasts longer, or for good.
const MAX_RETRY_AFTER: Duration = Duration::from_secs(24 * 60 * 60);
/// Automatic blocks that may wait to be kept.
const MAX_UNKEPT: usize = 1024;
/// The time in which the joins and the lookups of an address come back.
const MINUTE: Duration = Duration::from_secs(60);
/// How often what is over is forgotten.
const SWEEP: Duration = Duration::from_secs(10);

impl Guard {
    /// A guard of these limits. Networks of `limits.blocked` are shut out for good.
    pub(crate) fn new(limits: &AddressLimits, proxies: Proxies, metrics: Arc<Metrics>) -> Self {
        let (made, kept) = mpsc::channel(MAX_UNKEPT);
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
            made,
            kept: Mutex::new(Some(kept)),
        };
        for network in &limits.blocked {
            let block = Block::new(*network, None, "configured", BlockSource::Configuration);
            // More than the list can hold are refused by `AddressLimits::check`.
            let _ = guard.block(block);
        }
        guard
    }

    /// Whether a connection from this address begins with a header of the PROXY protocol.
    pub(crate) fn expects_proxy_protocol(&self, peer: IpAddr) -> bool {
        self.proxies.speaks_protocol(peer)
    }

    /// The client that sent a request: the peer of the connection, or, if that is a trusted proxy,
    /// the client that the proxy names.
    pub fn client(&self, peer: Client, headers: &HeaderMap) -> Client {
        self.proxies.client(peer, headers)
    }

    /// Whether what this peer says of others in its requests is believed.
    pub(crate) fn trusts(&self, peer: IpAddr) -> bool {
        self.proxies.trusts(peer)
    }

    /// Lets an address open a connection, or not.
    pub(crate) fn admit(self: &Arc<Self>, address: IpAddr) -> Result<Permit, Refused> {
        self.check(address)?;
        let slot = ConnectionSlot::take(self)
            .ok_or(RETRY_AFTER)
            .map_err(|after| self.refuse(Reason::Full, address, after))?;
        let client = Network::of_client(address);
        let is_exempt = self.is_exempt(address);
        if !is_exempt {
            // The slot is taken already: a full server charges no address for that. If the address
            // is refused, dropping the slot gives it back.
            let entered = self
                .addresses
                .enter(client, self.max_per_address, now() - self.started);
            entered.map_err(|full| match full {
                Full::Rate(after) => {
                    let refused = self.refuse(Reason::Rate, address, after);
                    let _ = self.violation(address, Violation::Connects);
                    refused
                }
                Full::Live => self.refuse(Reason::Address, address, RETRY_AFTER),
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
    /// How long to wait before it may join one.
    pub(crate) fn join(&self, address: IpAddr) -> Result<(), Duration> {
        if !self.limits(address) {
            return Ok(());
        }
        let client = Network::of_client(address);
        self.addresses.join(client, now() - self.started)
    }

    /// Charges an address for a request to other servers for a client.
    ///
    /// # Errors
    ///
    /// How long to wait before it may cause one.
    #[cfg(feature = "cluster")]
    pub(crate) fn look_up(&self, address: IpAddr) -> Result<(), Duration> {
        if !self.limits(address) {
            return Ok(());
        }
        let client = Network::of_client(address);
        self.addresses.look_up(client, now() - self.started)
    }

    /// Whether an address is on the block list.
    ///
    /// # Errors
    ///
    /// If it is. The refusal has been counted and logged.
    pub fn check(&self, address: IpAddr) -> Result<(), Refused> {
        // The lock is let go of before the refusal is logged.
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

    /// An address has broken a limit, or has offered invalid credentials. An address that does so
    /// repeatedly is shut out for a time. Returns whether it is, so that its connection should end.
    ///
    /// Loopback, while it is exempt, and trusted proxies are never shut out by this.
    pub fn violation(&self, address: IpAddr, violation: Violation) -> bool {
        self.metrics.count(violation.counter());
        if !self.limits(address) {
            return false;
        }
        let client = Network::of_client(address);
        let account = violation.account();
        let now = now() - self.started;
        if !self.addresses.violate(client, account, now) {
            // The count of a blocked address begins again at zero, so only the list tells that the
            // address is shut out.
            let blocks = self.blocks.read();
            return blocks.find(address, SystemTime::now).is_some();
        }
        let time = Some(self.block_time);
        let block = Block::new(client, time, violation.name(), BlockSource::Automatic);
        let is_made = self.block(block.clone()).is_ok();
        if is_made {
            // Each network is blocked seldom, and an attacker may have many networks.
            crate::throttled_log!(
                warn,
                network = %client,
                reason = violation.name(),
                seconds = self.block_time.as_secs(),
                "blocked"
            );
            self.metrics.count(Counter::BlocksAutomatic);
            // A block that cannot be stored only does not survive a restart.
            let _ = self.made.try_send(block);
        }
        is_made
    }

    /// Whether the limits of addresses are for this one: it is neither exempt nor that of a trusted
    /// proxy, which stands for many.
    pub(crate) fn limits(&self, address: IpAddr) -> bool {
        !self.is_exempt(address) && !self.proxies.trusts(address)
    }

    /// Shuts a network out from now on; connections that are open stay. Returns the ids of the
    /// blocks that this one replaces; its own, if there is one of higher authority already.
    ///
    /// # Errors
    ///
    /// If the list is full.
    pub fn block(&self, block: Block) -> Result<Vec<Uuid>, TooManyBlocks> {
        let mut blocks = self.blocks.write();
        let gone = blocks.insert(block);
        self.set(Gauge::Blocks, blocks.len());
        gone
    }

    /// Lets a network in again. Returns `None` if there is no such block.
    pub fn unblock(&self, id: Uuid) -> Option<Block> {
        let mut blocks = self.blocks.write();
        let block = blocks.remove(id);
        self.set(Gauge::Blocks, blocks.len());
        block
    }

    /// The block list, newest first.
    #[must_use]
    pub fn blocks(&self) -> Vec<Block> {
        let now = SystemTime::now();
        let mut blocks = self.blocks.read().list();
        blocks.retain(|block| !block.is_over(now));
        blocks
    }

    /// The automatic blocks as they are made, for whoever keeps them. Only the first call gets the
    /// receiver; later ones get `None`.
    pub fn automatic_blocks(&self) -> Option<mpsc::Receiver<Block>> {
        self.kept.lock().take()
    }

    /// Forgets what is over, again and again.
    pub(crate) async fn sweep(self: Arc<Self>) {
        let mut interval = tokio::time::interval(SWEEP);
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
        // A gauge is set under one lock, or by one task: nobody changes it between the look and the
        // shift.
        let value = i64::try_from(value).unwrap_or(i64::MAX);
        self.metrics.shift(gauge, value - self.metrics.gauge(gauge));
    }

    /// Counts a refusal and tells of it.
    fn refuse(&self, reason: Reason, address: IpAddr, after: Duration) -> Refused {
        self.metrics.count(reason.counter());
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

impl fmt::Debug for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guard").finish_non_exhaustive()
    }
}

/// The permit for one connection, which ends when this value is dropped.
#[derive(Debug)]
pub(crate) struct Permit {
    slot: ConnectionSlot,
    address: IpAddr,
    /// The client among whose connections this one counts, or `None` if those are not limited.
    client: Option<Network>,
}

impl Permit {
    /// Notes that the connection has broken a limit.
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

/// One of the connections that count for the limit of all. Dropping the slot gives it back.
#[derive(Debug)]
struct ConnectionSlot(Arc<Guard>);

impl ConnectionSlot {
    fn take(guard: &Arc<Guard>) -> Option<Self> {
        let slot = Self(Arc::clone(guard));
        // The connection is counted first, so that two that come at once do not both take the last
        // slot. One that is refused is dropped here, which takes it out of the count again.
        let before = guard.connections.fetch_add(1, Ordering::Relaxed);
        (guard.max_connections == 0 || before < guard.max_connections).then_some(slot)
    }
}

impl Drop for ConnectionSlot {
    fn drop(&mut self) {
        self.0.connections.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The time of tokio's clock, which tests can pause.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}

#[cfg(test)]
mod tests;
