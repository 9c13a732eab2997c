use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::options::options;
use crate::network::Network;

options! {
    /// Who may connect, and how often, told by the address that a client connects from; given to
    /// [`Builder::guard`](crate::Builder::guard). 0 switches a limit off.
    AddressLimits {
        /// Whether clients on this machine are exempt from all limits but the block list. Default `true`; a
        /// proxy on this machine belongs into [`Proxies`](crate::limit::Proxies).
        exempt_loopback: bool = true;
        /// Connections an address may open at once, and again within `connects_window`. An IPv6 address is
        /// its /64. Default 60.
        connects: u32 = 60;
        /// See `connects`. Default 5 min.
        #[serde(with = "humantime_serde")]
        connects_window: Duration = Duration::from_secs(5 * 60);
        /// Requests to join a namespace that an address may make in a minute, and as many at once, over
        /// all its connections. Default 600.
        joins_per_address: u32 = 600;
        /// Requests to other servers, or to a journal, that clients of an address may cause in a minute, and
        /// as many at once, by asking to recover a socket that this server does not know. Above the limit
        /// a client starts a new session. Default 120.
        lookups_per_address: u32 = 120;
        /// Connections an address may have at the same time. Default 200.
        connections_per_address: u32 = 200;
        /// Connections the server has at the same time. Default 100,000.
        connections: usize = 100_000;
        /// Networks that are shut out for good, as `192.0.2.0/24`. Default none; up to 5,000.
        blocked: Vec<Network> = Vec::new();
        /// Violations of limits within `block_window` after which an address is shut out for `block_time`.
        /// Default 100.
        block_after: u32 = 100;
        /// Credentials of an address that are refused within `block_window` after which it is shut out for
        /// `block_time`. Default 300, one a second: a client whose token has ended does not get there by
        /// coming back. Refusals that are [excused](crate::Refusal::excused) do not count.
        block_after_credentials: u32 = 300;
        /// See `block_after`. Default 5 min.
        #[serde(with = "humantime_serde")]
        block_window: Duration = Duration::from_secs(5 * 60);
        /// See `block_after`. Default 15 min.
        #[serde(with = "humantime_serde")]
        block_time: Duration = Duration::from_secs(15 * 60);
        /// Addresses that are remembered, about 120 bytes each. Past that those that have used least of their
        /// limits are forgotten; if all have used more than half, newcomers share one limit. Default 100,000.
        addresses: usize = 100_000;
    }
}

impl AddressLimits {
    /// Networks that `blocked` may list.
    const MAX_BLOCKED: usize = 5000;

    /// Whether the values make sense; [`build`](crate::Builder::build) asks it.
    ///
    /// # Errors
    ///
    /// Which one does not, and why.
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
    fn limits_without_a_time_or_with_too_many_networks_make_no_sense() {
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
