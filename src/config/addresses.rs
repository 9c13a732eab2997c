use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::network::Network;

/// Who may connect, and how often, told by the address that a client connects from; given to
/// [`Builder::guard`](crate::Builder::guard). 0 switches a limit off.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct AddressLimits {
    /// Whether clients on this machine are exempt from all limits but the block list. Default `true`; a
    /// proxy on this machine belongs into [`Proxies`](crate::limit::Proxies).
    pub exempt_loopback: bool,
    /// Connections an address may open at once, and again within `connects_window`. An IPv6 address is
    /// its /64. Default 60.
    pub connects: u32,
    /// See `connects`. Default 5 min.
    #[serde(with = "humantime_serde")]
    pub connects_window: Duration,
    /// Connections an address may have at the same time. Default 200.
    pub connections_per_address: u32,
    /// Connections the server has at the same time. Default 100,000.
    pub connections: usize,
    /// Networks that are shut out for good, as `192.0.2.0/24`. Default none; up to 5,000.
    pub blocked: Vec<Network>,
    /// Violations of limits within `block_window` after which an address is shut out for `block_time`.
    /// Default 100.
    pub block_after: u32,
    /// Credentials of an address that are refused within `block_window` after which it is shut out for
    /// `block_time`. Default 300, one a second: a client whose token has ended does not get there by
    /// coming back. Refusals that are [excused](crate::Refusal::excused) do not count.
    pub block_after_credentials: u32,
    /// See `block_after`. Default 5 min.
    #[serde(with = "humantime_serde")]
    pub block_window: Duration,
    /// See `block_after`. Default 15 min.
    #[serde(with = "humantime_serde")]
    pub block_time: Duration,
    /// Addresses that are remembered, about 100 bytes each; past that the longest unseen ones are
    /// forgotten. Default 100,000.
    pub addresses: usize,
}

impl Default for AddressLimits {
    fn default() -> Self {
        const MINUTE: u64 = 60;
        Self {
            exempt_loopback: true,
            connects: 60,
            connects_window: Duration::from_secs(5 * MINUTE),
            connections_per_address: 200,
            connections: 100_000,
            blocked: Vec::new(),
            block_after: 100,
            block_after_credentials: 300,
            block_window: Duration::from_secs(5 * MINUTE),
            block_time: Duration::from_secs(15 * MINUTE),
            addresses: 100_000,
        }
    }
}
