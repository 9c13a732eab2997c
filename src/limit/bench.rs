//! Limits as a server has them, for benches.

use std::{
    net::{IpAddr, Ipv4Addr},
    sync::Arc,
    time::{Duration, Instant},
};

use super::{Allowance, Class, Guard, Proxies, Rates, Throttle, Users};
use crate::{
    config::Limits,
    metrics::Metrics,
    network::{Block, BlockSource, Network},
};

/// Users and addresses that a server knows.
#[derive(Debug)]
pub struct Limited {
    users: Users,
    allowances: Vec<Arc<Allowance>>,
    guard: Arc<Guard>,
}

/// One connection, as fast as it may be.
#[derive(Debug)]
pub struct Connection(Box<Throttle>, Instant);

impl Limited {
    /// This many users, connected from as many addresses, while a thousand networks are blocked.
    ///
    /// # Panics
    ///
    /// If the block list takes no thousand networks.
    #[must_use]
    pub fn new(users: usize) -> Self {
        let limits = Limits {
            connects: Some(u32::MAX),
            messages_per_minute: Some(u32::MAX),
            ..Limits::default()
        };
        let metrics: Arc<Metrics> = Arc::default();
        let guard = Guard::new(&limits, Proxies::default(), Arc::clone(&metrics));
        for n in 0..1000 {
            let network = Network::of(address(0x0a00_0000 + n));
            let block = Block::new(network, None, "bench", BlockSource::Admin);
            guard.block(block).expect("the list takes a thousand");
        }
        let known = Users::new(&limits, metrics);
        let enter = |n| known.enter(&format!("user-{n:032}")).0;
        Self {
            allowances: (0..users).map(enter).collect(),
            users: known,
            guard: Arc::new(guard),
        }
    }

    /// A user sends a message on one of its connections; whether it may.
    #[must_use]
    pub fn event(&self, user: usize) -> bool {
        let allowance = self.allowances.get(user);
        let take = |allowance: &Arc<_>| self.users.take(Class::Messages, allowance);
        allowance.map(take).is_some_and(|answer| answer.is_ok())
    }

    /// An address connects and goes; whether it may.
    #[must_use]
    pub fn connect(&self, number: u32) -> bool {
        self.guard.admit(address(0xc000_0000 + number)).is_ok()
    }

    /// A connection with limits that are not reached.
    ///
    /// # Panics
    ///
    /// Never.
    #[must_use]
    pub fn connection(&self) -> Connection {
        let rates = Rates {
            packets: u32::MAX,
            bytes: u32::MAX,
            patience: Duration::from_secs(10),
        };
        let now = Instant::now();
        Connection(Throttle::new(rates, now).expect("it is limited"), now)
    }
}

impl Connection {
    /// A packet of a hundred bytes comes; whether reading goes on.
    pub fn packet(&mut self) -> bool {
        self.1 += Duration::from_micros(1);
        self.0.charge_bytes(100, self.1);
        self.0.charge_packet(self.1);
        self.0.delay(self.1).is_none()
    }
}

fn address(bits: u32) -> IpAddr {
    Ipv4Addr::from_bits(bits).into()
}
