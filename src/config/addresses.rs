use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::options;
use crate::network::Network;

options! {
    /// Limits per client address: which addresses may connect, and how often.
    ///
    /// Set with [`Builder::guard`](crate::Builder::guard). 0 disables a limit, but `addresses` must
    /// not be 0.
    AddressLimits {
        /// Whether clients on this machine are exempt from all limits except the block list and
        /// `connections`. A proxy on this machine belongs in [`Proxies`](crate::limit::Proxies)
        /// instead. Default `true`.
        exempt_loopback: bool = true, limit_loopback: false;
        /// Connections that an address may open in a burst, and again within each
        /// `connects_window`. An IPv6 address counts as its /64. Default 60.
        connects: u32 = 60;
        /// The window of `connects`. Default 5 min.
        #[serde(with = "humantime_serde")]
        connects_window: Duration = Duration::from_secs(5 * 60);
        /// Requests to join a namespace that an address may send per minute over all its
        /// connections; the burst is the same number. Default 600.
        joins_per_address: u32 = 600;
        /// Lookups on other servers or in a journal that the clients of an address may cause per
        /// minute; the burst is the same number. A client causes one when it asks to recover a
        /// socket that this server does not know. Above the limit the client starts a new session.
        /// Default 120.
        lookups_per_address: u32 = 120;
        /// Concurrent connections per address. Default 200.
        connections_per_address: u32 = 200;
        /// Concurrent connections of the server. Default 100,000.
        connections: usize = 100_000;
        /// Networks that are blocked permanently, such as `192.0.2.0/24`. Default none; at most
        /// 5,000.
        blocked: Vec<Network> = Vec::new();
        /// Number of limit violations within `block_window` after which an address is blocked for
        /// `block_time`. Default 100.
        block_after: u32 = 100;
        /// Number of refused credentials within `block_window` after which an address is blocked
        /// for `block_time`. Default 300, one per second: a client with an expired token that
        /// reconnects stays below it. [Excused](crate::Refusal::excused) refusals do not count.
        block_after_credentials: u32 = 300;
        /// The window in which violations and refusals count. Default 5 min.
        #[serde(with = "humantime_serde")]
        block_window: Duration = Duration::from_secs(5 * 60);
        /// Duration of an automatic block. Default 15 min.
        #[serde(with = "humantime_serde")]
        block_time: Duration = Duration::from_secs(15 * 60);
        /// Maximum number of tracked addresses, about 120 bytes each. When the table is full, the
        /// addresses that have used least of their limits are evicted. If all have used more than
        /// half, new addresses share one limit. Default 100,000.
        addresses: usize = 100_000;
    }
}

impl AddressLimits {
    /// Maximum number of networks in `blocked`.
    const MAX_BLOCKED: usize = 5000;

    /// Checks the values; [`build`](crate::Builder::build) calls this.
    ///
    /// # Errors
    ///
    /// Names the invalid option and the reason.
    pub fn check(&self) -> Result<(), &'static str> {
        if self.connects_window.is_zero() {
            return Err("limits.connects_window is zero");
        }
        if self.connects > 0 && self.connects_window / self.connects < Duration::from_micros(1) {
            return Err("limits.connects_window is too short for that many limits.connects");
        }
        let blocks = self.block_after > 0 || self.block_after_credentials > 0;
        if blocks && (self.block_window.is_zero() || self.block_time.is_zero()) {
            return Err("limits.block_window or limits.block_time is zero");
        }
        if self.addresses == 0 {
            return Err("limits.addresses is zero");
        }
        if self.blocked.len() > Self::MAX_BLOCKED {
            return Err("limits.blocked has more than 5,000 networks");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_without_time_or_with_too_many_networks_are_refused() {
        let network: Network = "192.0.2.0/24".parse().unwrap();
        let standard = AddressLimits::default();
        let faults = [
            (
                standard.clone().connects_window(Duration::ZERO),
                "limits.connects_window is zero",
            ),
            (
                standard
                    .clone()
                    .connects(u32::MAX)
                    .connects_window(Duration::from_secs(1)),
                "limits.connects_window is too short for that many limits.connects",
            ),
            (
                standard.clone().block_after(0).block_time(Duration::ZERO),
                "limits.block_window or limits.block_time is zero",
            ),
            (standard.clone().addresses(0), "limits.addresses is zero"),
            (
                standard.clone().blocked(vec![network; 5001]),
                "limits.blocked has more than 5,000 networks",
            ),
        ];
        for (limits, fault) in faults {
            assert_eq!(limits.check(), Err(fault));
        }
        assert_eq!(standard.check(), Ok(()));
    }
}
