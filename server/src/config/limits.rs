//! Section `[limits]`: who may connect, how often, and how fast users may act.

use std::time::Duration;

use roomcast::{network::Network, options::AddressLimits};
use serde::{Deserialize, Serialize};

/// Section `[limits]`. 0 switches a limit off; what is absent is the preset's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// `standard` or `strict`. Default `standard`. The strict one also caps `chat.content_chars` at
    /// 5,000.
    pub preset: Preset,
    /// Whether clients on this machine are exempt from all limits by address but the block list.
    /// Default `true`; a proxy on this machine belongs into `server.trusted_proxies`.
    pub exempt_loopback: bool,
    /// Connections an address may open at once, and again within `connects_window`. An IPv6 address
    /// is its /64. Default 60 (`strict`: 5).
    pub connects: Option<u32>,
    /// See `connects`. Default 5 min.
    #[serde(with = "humantime_serde")]
    pub connects_window: Duration,
    /// Connections an address may have at the same time. Default 200 (`strict`: 20).
    pub connections_per_address: Option<u32>,
    /// Connections a user may have at the same time. Default 20 (`strict`: 10).
    pub connections_per_user: Option<u32>,
    /// Requests to join a namespace that an address may make in a minute, and as many at once. A
    /// connection has `engine.joins_per_minute`. Default 600 (`strict`: 120).
    pub joins_per_address: Option<u32>,
    /// Requests to other servers that clients of an address may cause in a minute, and as many at once, by
    /// asking to recover a session that this server does not know. Default 120 (`strict`: 30).
    pub lookups_per_address: Option<u32>,
    /// Requests to join a namespace that a user may make in a minute, and as many at once. Default 120
    /// (`strict`: 60).
    pub joins_per_user: Option<u32>,
    /// Connections the server has at the same time. Default 100,000.
    pub connections: usize,
    /// Networks that are shut out for good, as `192.0.2.0/24`. Default none.
    pub blocked: Vec<Network>,
    /// Violations of limits within `block_window` after which an address is shut out for
    /// `block_time`. Default 100.
    pub block_after: u32,
    /// Credentials of an address that are refused within `block_window` after which it is shut out
    /// for `block_time`. Default 300, one a second: a client whose token has ended does not get
    /// there by coming back. Credentials that are missing, or a cookie that a page of another site
    /// had sent, do not count.
    pub block_after_credentials: u32,
    /// See `block_after`. Default 5 min.
    #[serde(with = "humantime_serde")]
    pub block_window: Duration,
    /// See `block_after`. Default 15 min.
    #[serde(with = "humantime_serde")]
    pub block_time: Duration,
    /// Messages a user may send, edit and delete in a minute. Default 30 (`strict`: 10).
    pub messages_per_minute: Option<u32>,
    /// Typing notices a user may send in a second. Default 5.
    pub typing_per_second: Option<u32>,
    /// Conversations and subscriptions a user may join, leave, make or change in a minute. Default
    /// 120 (`strict`: 60).
    pub changes_per_minute: Option<u32>,
    /// Other events a user may send in a second, most of them questions. Default 20 (`strict`: 10).
    pub requests_per_second: Option<u32>,
    /// Calls of the HTTP API that a caller may make in a second, on each server. Default 100 (`strict`: 50).
    pub api_calls_per_second: Option<u32>,
    /// Whether the limits of users hold over all servers of a cluster: about every second each of them tells
    /// the others what users have done on it. Default `true`; without a cluster it does nothing.
    pub shared: bool,
    /// Addresses that are remembered, about 120 bytes each. Past that those that have used least of their
    /// limits are forgotten; if all have used more than half, newcomers share one limit. Default 100,000.
    pub addresses: usize,
    /// Users that are remembered, about 300 bytes each, beside those who are connected. Past that those that
    /// have used least of their limits are forgotten; if all have used more than half, newcomers share one
    /// limit. Default 50,000.
    pub users: usize,
}

impl Default for Limits {
    fn default() -> Self {
        let library = AddressLimits::default();
        Self {
            preset: Preset::Standard,
            exempt_loopback: library.exempt_loopback,
            connects: None,
            connects_window: library.connects_window,
            connections_per_address: None,
            connections_per_user: None,
            joins_per_address: None,
            joins_per_user: None,
            lookups_per_address: None,
            connections: library.connections,
            blocked: library.blocked,
            block_after: library.block_after,
            block_after_credentials: library.block_after_credentials,
            block_window: library.block_window,
            block_time: library.block_time,
            messages_per_minute: None,
            typing_per_second: None,
            changes_per_minute: None,
            requests_per_second: None,
            api_calls_per_second: None,
            shared: true,
            addresses: library.addresses,
            users: 50_000,
        }
    }
}

impl Limits {
    /// The limits with the preset's values where none are given.
    #[must_use]
    pub fn in_force(&self) -> Self {
        let by = |given: Option<u32>, standard, strict| {
            given.or(Some(match self.preset {
                Preset::Standard => standard,
                Preset::Strict => strict,
            }))
        };
        Self {
            connects: by(self.connects, 60, 5),
            connections_per_address: by(self.connections_per_address, 200, 20),
            connections_per_user: by(self.connections_per_user, 20, 10),
            joins_per_address: by(self.joins_per_address, 600, 120),
            joins_per_user: by(self.joins_per_user, 120, 60),
            lookups_per_address: by(self.lookups_per_address, 120, 30),
            messages_per_minute: by(self.messages_per_minute, 30, 10),
            typing_per_second: by(self.typing_per_second, 5, 5),
            changes_per_minute: by(self.changes_per_minute, 120, 60),
            requests_per_second: by(self.requests_per_second, 20, 10),
            api_calls_per_second: by(self.api_calls_per_second, 100, 50),
            ..self.clone()
        }
    }

    /// The limits of addresses, with the preset's values where none are given.
    #[must_use]
    pub fn addresses(&self) -> AddressLimits {
        let limits = self.in_force();
        AddressLimits::default()
            .exempt_loopback(limits.exempt_loopback)
            .connects(limits.connects.unwrap_or_default())
            .connects_window(limits.connects_window)
            .connections_per_address(limits.connections_per_address.unwrap_or_default())
            .joins_per_address(limits.joins_per_address.unwrap_or_default())
            .lookups_per_address(limits.lookups_per_address.unwrap_or_default())
            .connections(limits.connections)
            .blocked(limits.blocked)
            .block_after(limits.block_after)
            .block_after_credentials(limits.block_after_credentials)
            .block_window(limits.block_window)
            .block_time(limits.block_time)
            .addresses(limits.addresses)
    }

    /// Characters a message may have if the configuration says `configured`.
    #[must_use]
    pub fn content_chars(&self, configured: usize) -> usize {
        match self.preset {
            Preset::Standard => configured,
            Preset::Strict => configured.min(5000),
        }
    }

    /// Whether the values make sense.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.addresses == 0 || self.users == 0 {
            return Err("limits.addresses or limits.users is zero");
        }
        self.addresses().check()
    }
}

/// How narrow the limits are whose value is not given.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Preset {
    /// For people with several tabs, behind shared addresses.
    Standard,
    /// For a server that is under attack, or has few users.
    Strict,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_preset_gives_what_is_not_given() {
        let standard = Limits::default().in_force();
        assert_eq!(standard.connects, Some(60));
        assert_eq!(standard.messages_per_minute, Some(30));
        assert_eq!(standard.typing_per_second, Some(5));
        assert_eq!(standard.content_chars(10_000), 10_000);
        let strict = Limits {
            preset: Preset::Strict,
            typing_per_second: Some(0),
            ..Limits::default()
        };
        let in_force = strict.in_force();
        assert_eq!(in_force.connects, Some(5));
        assert_eq!(in_force.messages_per_minute, Some(10));
        assert_eq!(in_force.typing_per_second, Some(0));
        assert_eq!(strict.content_chars(10_000), 5000);
        assert_eq!(strict.content_chars(100), 100);
    }

    #[test]
    fn what_makes_no_sense_by_address_makes_none_here() {
        let limits = Limits {
            connects_window: Duration::ZERO,
            ..Limits::default()
        };
        assert_eq!(limits.check(), Err("limits.connects_window is zero"));
        let limits = Limits {
            users: 0,
            ..Limits::default()
        };
        let fault = "limits.addresses or limits.users is zero";
        assert_eq!(limits.check(), Err(fault));
        assert_eq!(Limits::default().check(), Ok(()));
    }
}
