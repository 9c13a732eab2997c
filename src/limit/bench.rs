//! Preconfigured limits for benches.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Guard, Proxies, Rates, Throttle};
use crate::{
    config::AddressLimits,
    metrics::Metrics,
    network::{Block, BlockSource, Network},
};

/// A guard without a connect limit, with a thousand blocked networks.
#[derive(Debug)]
pub struct Guarded(Arc<Guard>);

/// One connection with limits that are never reached.
#[derive(Debug)]
pub struct Connection(Box<Throttle>, Instant);

impl Guarded {
    /// Creates the guard with its block list.
    ///
    /// # Panics
    ///
    /// If the block list rejects a block.
    #[must_use]
    pub fn new() -> Self {
        let limits = AddressLimits::default().connects(u32::MAX);
        let metrics: Arc<Metrics> = Arc::default();
        let guard = Guard::new(&limits, Proxies::default(), metrics);
        for n in 0..1000 {
            let network = Network::of(address(0x0a00_0000 + n));
            let block = Block::new(network, None, "bench", BlockSource::Admin);
            guard.block(block).expect("the list takes a thousand");
        }
        Self(Arc::new(guard))
    }

    /// Connects and disconnects an address; returns whether it was admitted.
    #[must_use]
    pub fn connect(&self, number: u32) -> bool {
        self.0.admit(address(0xc000_0000 + number)).is_ok()
    }
}

impl Default for Guarded {
    fn default() -> Self {
        Self::new()
    }
}

impl Connection {
    /// Creates a connection.
    ///
    /// # Panics
    ///
    /// Never.
    #[must_use]
    pub fn new() -> Self {
        let rates = Rates {
            packets: u32::MAX,
            bytes: u32::MAX,
            timeout: Duration::from_secs(10),
        };
        let now = Instant::now();
        Self(Throttle::new(rates, now).expect("it is limited"), now)
    }

    /// Charges a packet of a hundred bytes; returns whether reading may continue.
    pub fn packet(&mut self) -> bool {
        self.1 += Duration::from_micros(1);
        self.0.charge_bytes(100, self.1);
        self.0.charge_packet(self.1);
        self.0.delay(self.1).is_none()
    }
}

impl Default for Connection {
    fn default() -> Self {
        Self::new()
    }
}

fn address(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}
