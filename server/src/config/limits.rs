//! Section `[limits]`: limits of connections and of user activity.

use std::time::Duration;

use roomcast::{network::Network, options::AddressLimits};
use serde::{Deserialize, Serialize};

/// Section `[limits]`. 0 disables a limit; an absent value is that of the preset.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Limits {
    /// `standard` or `strict`. Default `standard`. `strict` also caps `chat.content_chars` at
    /// 5,000.
    pub preset: Preset,
    /// Whether clients on this machine are exempt from all limits by address except the block list.
    /// Default `true`. A proxy on this machine must be in `server.trusted_proxies`.
    pub exempt_loopback: bool,
    /// Maximum burst of connections that an address may open, which recovers within
    /// `connects_window`. An IPv6 address counts as its /64 network. Default 60 (`strict`: 5).
    pub connects: Option<u32>,
    /// Window of `connects`. Default 5 min.
    #[serde(with = "humantime_serde")]
    pub connects_window: Duration,
    /// Maximum number of concurrent connections of an address. Default 200 (`strict`: 20).
    pub connections_per_address: Option<u32>,
    /// Maximum number of concurrent connections of a user. Default 20 (`strict`: 10).
    pub connections_per_user: Option<u32>,
    /// Maximum number of namespace joins of an address per minute, also as a burst. For a
    /// connection, see `engine.joins_per_minute`. Default 600 (`strict`: 120).
    pub joins_per_address: Option<u32>,
    /// Maximum number of requests to other servers per minute that clients of an address may cause
    /// by recovering sessions unknown to this server, also as a burst. Default 120 (`strict`: 30).
    pub lookups_per_address: Option<u32>,
    /// Maximum number of namespace joins of a user per minute, also as a burst. Default 120
    /// (`strict`: 60).
    pub joins_per_user: Option<u32>,
    /// Maximum number of concurrent connections of the server. Default 100,000.
    pub connections: usize,
    /// Permanently blocked networks, such as `192.0.2.0/24`. Default none.
    pub blocked: Vec<Network>,
    /// Violations within `block_window` after which an address is blocked for `block_time`. Default
    /// 100.
    pub block_after: u32,
    /// Refused credentials within `block_window` after which an address is blocked for
    /// `block_time`. Missing credentials, and cookies sent by pages of other sites, do not count.
    /// Default 300, one per second, which a client that reconnects with an expired token does not
    /// reach.
    pub block_after_credentials: u32,
    /// Window of `block_after`. Default 5 min.
    #[serde(with = "humantime_serde")]
    pub block_window: Duration,
    /// Duration of a block. Default 15 min.
    #[serde(with = "humantime_serde")]
    pub block_time: Duration,
    /// Maximum number of messages that a user may send, edit and delete per minute. Default 30
    /// (`strict`: 10).
    pub messages_per_minute: Option<u32>,
    /// Maximum number of typing events of a user per second. Default 5.
    pub typing_per_second: Option<u32>,
    /// Maximum number of conversations and subscriptions that a user may join, leave, create or
    /// change per minute. Default 120 (`strict`: 60).
    pub changes_per_minute: Option<u32>,
    /// Maximum number of other events of a user per second, mostly requests. Default 20 (`strict`:
    /// 10).
    pub requests_per_second: Option<u32>,
    /// Maximum number of pieces of text per second that a user may add to the messages that it is
    /// writing. Default 250 (`strict`: 100).
    pub appends_per_second: Option<u32>,
    /// Maximum number of times per minute that a user may subscribe to channels of declared kinds,
    /// unsubscribe, and publish. Default 600 (`strict`: 240).
    pub channel_events_per_minute: Option<u32>,
    /// Maximum number of channels of declared kinds that a connection may follow. Default 100.
    pub channels_per_connection: usize,
    /// Maximum number of channels of declared kinds that all connections of a user to one server may
    /// follow together. Default 1,000.
    pub channels_per_user: usize,
    /// Maximum number of stored events of all channels of declared kinds together. Each server
    /// counts them about once a minute, and adds what it publishes itself; with 0, there is no limit.
    /// Default 50,000,000.
    pub stored_channel_events: u64,
    /// Maximum bytes of the stored events of all channels of declared kinds together, counted like
    /// their number; with 0, there is no limit. Default 32 GiB.
    pub stored_channel_bytes: u64,
    /// Maximum number of calls of the HTTP API by a caller per second, on each server. Default 100
    /// (`strict`: 50).
    pub api_calls_per_second: Option<u32>,
    /// Whether limits of users apply across all servers of a cluster, which report user activity to
    /// each other about every second. No effect without a cluster. Default `true`.
    pub shared: bool,
    /// Maximum number of tracked addresses, about 120 bytes each. If it is reached, the least
    /// active are evicted; if all have used more than half of a limit, new addresses share one
    /// limit. Default 100,000.
    pub addresses: usize,
    /// Maximum number of tracked users in addition to connected ones, about 300 bytes each. If it
    /// is reached, the least active are evicted; if all have used more than half of a limit, new
    /// users share one limit. Default 50,000.
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
            appends_per_second: None,
            channel_events_per_minute: None,
            channels_per_connection: 100,
            channels_per_user: 1000,
            stored_channel_events: 50_000_000,
            stored_channel_bytes: 32 << 30,
            api_calls_per_second: None,
            shared: true,
            addresses: library.addresses,
            users: 50_000,
        }
    }
}

impl Limits {
    /// Returns the limits, with the preset's values for absent ones.
    #[must_use]
    pub fn in_force(&self) -> Self {
        let by = |configured: Option<u32>, standard, strict| {
            configured.or(Some(match self.preset {
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
            appends_per_second: by(self.appends_per_second, 250, 100),
            channel_events_per_minute: by(self.channel_events_per_minute, 600, 240),
            api_calls_per_second: by(self.api_calls_per_second, 100, 50),
            ..self.clone()
        }
    }

    /// Returns the limits of addresses, with the preset's values for absent ones.
    #[must_use]
    pub fn addresses(&self) -> AddressLimits {
        let limits = self.in_force();
        let exempting = AddressLimits::default();
        let standard = match limits.exempt_loopback {
            true => exempting,
            false => exempting.limit_loopback(),
        };
        standard
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

    /// Returns the maximum characters of a message if `configured` is the setting of the chat.
    #[must_use]
    pub fn content_chars(&self, configured: usize) -> usize {
        match self.preset {
            Preset::Standard => configured,
            Preset::Strict => configured.min(5000),
        }
    }

    /// Checks the values.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.addresses == 0 || self.users == 0 {
            return Err("limits.addresses or limits.users is zero");
        }
        self.addresses().check()
    }
}

/// The defaults of absent limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Preset {
    /// For users with several tabs, and users that share an address.
    Standard,
    /// For a server under attack or with few users.
    Strict,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn preset_sets_limits_that_are_not_configured() {
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
    fn zero_limits_are_refused() {
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
