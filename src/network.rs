//! IP networks, and blocks of them. A leaf module: it must depend on `time` only.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    str::FromStr,
    time::SystemTime,
};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use uuid::Uuid;

use crate::time::rfc3339;

/// An IP network in CIDR notation (RFC 4632, RFC 4291 §2.3): `192.0.2.0/24`, `2001:db8::/32`, or a
/// single address.
///
/// An IPv4-mapped IPv6 address (`::ffff:192.0.2.1`) is treated as the IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Network {
    /// The first address of the network. IPv4 is stored as `::ffff:a.b.c.d`.
    bits: u128,
    /// The prefix length in `bits`. For IPv4 it is 96 more than in the text form.
    prefix: u8,
}

/// The length of the prefix of IPv4-mapped IPv6 addresses (RFC 4291 §2.5.5.2).
const MAPPED: u8 = 96;
const MAPPED_BITS: u128 = 0xffff_0000_0000;

impl Network {
    /// Returns the network of a single address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        Self {
            bits: bits_of(address),
            prefix: 128,
        }
    }

    /// Returns the network that identifies one client.
    ///
    /// That is an IPv4 address, or the /64 of an IPv6 address, because a subscriber chooses the
    /// remaining bits freely (RFC 6177).
    #[must_use]
    pub fn of_client(address: IpAddr) -> Self {
        let bits = bits_of(address);
        match address.to_canonical() {
            IpAddr::V4(_) => Self { bits, prefix: 128 },
            IpAddr::V6(_) => Self {
                bits: masked(bits, 64),
                prefix: 64,
            },
        }
    }

    /// Returns whether an address is in the network. No IPv6 network contains an IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.is_ipv4() == address.to_canonical().is_ipv4()
            && masked(bits_of(address), self.prefix) == self.bits
    }

    fn is_ipv4(&self) -> bool {
        self.prefix >= MAPPED && masked(self.bits, MAPPED) == MAPPED_BITS
    }

    /// Returns the prefix length. IPv4 prefixes start at 96.
    pub(crate) fn prefix(&self) -> u8 {
        self.prefix
    }

    /// Returns the network of this prefix length that contains an address.
    pub(crate) fn at(address: IpAddr, prefix: u8) -> Self {
        Self {
            bits: masked(bits_of(address), prefix),
            prefix,
        }
    }

    /// Returns the possible prefix lengths of the address's family.
    pub(crate) fn prefixes(address: IpAddr) -> std::ops::RangeInclusive<u8> {
        match address.to_canonical() {
            IpAddr::V4(_) => MAPPED..=128,
            IpAddr::V6(_) => 0..=128,
        }
    }
}

fn bits_of(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn masked(bits: u128, prefix: u8) -> u128 {
    let host = 128 - u32::from(prefix.min(128));
    // A shift by all 128 bits overflows; the mask is zero then.
    bits & u128::MAX.checked_shl(host).unwrap_or(0)
}

/// The error for text that is not a network.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InvalidNetwork;

impl FromStr for Network {
    type Err = InvalidNetwork;

    /// Parses `ADDRESS` or `ADDRESS/PREFIX`. Bits after the prefix are ignored.
    fn from_str(text: &str) -> Result<Self, InvalidNetwork> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| InvalidNetwork)?;
        let (max, base) = match address {
            IpAddr::V4(_) => (32, MAPPED),
            IpAddr::V6(_) => (128, 0),
        };
        let prefix = match prefix {
            None => max,
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => digits
                .parse()
                .ok()
                .filter(|prefix| *prefix <= max)
                .ok_or(InvalidNetwork)?,
            Some(_) => return Err(InvalidNetwork),
        };
        let prefix = base + prefix;
        Ok(Self {
            bits: masked(bits_of(address), prefix),
            prefix,
        })
    }
}

impl fmt::Display for InvalidNetwork {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("expected an IP address or a network like 192.0.2.0/24")
    }
}

impl std::error::Error for InvalidNetwork {}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_ipv4() {
            let address = Ipv4Addr::from_bits((self.bits & 0xffff_ffff) as u32);
            write!(f, "{address}/{}", self.prefix - MAPPED)
        } else {
            write!(f, "{}/{}", Ipv6Addr::from_bits(self.bits), self.prefix)
        }
    }
}

impl Serialize for Network {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Network {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        text.parse().map_err(de::Error::custom)
    }
}

/// A network whose clients are refused.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
#[non_exhaustive]
pub struct Block {
    /// The id of the block in the API.
    pub id: Uuid,
    /// The blocked network.
    pub cidr: Network,
    /// The reason, for humans.
    pub reason: String,
    /// The origin of the block.
    pub source: BlockSource,
    /// When the block was created.
    #[serde(serialize_with = "milliseconds")]
    pub created_at: SystemTime,
    /// When the block ends; never, if `None`.
    #[serde(
        serialize_with = "optional_milliseconds",
        skip_serializing_if = "Option::is_none"
    )]
    pub expires_at: Option<SystemTime>,
}

/// The origin of a block.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum BlockSource {
    /// The configuration.
    Configuration,
    /// An administrator, over HTTP.
    Admin,
    /// The server, after repeated violations of its limits.
    Automatic,
}

impl BlockSource {
    /// Returns the name of the source in the API and in stores.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Configuration => "configuration",
            Self::Admin => "admin",
            Self::Automatic => "automatic",
        }
    }

    /// Returns the source with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        [Self::Configuration, Self::Admin, Self::Automatic]
            .into_iter()
            .find(|source| source.name() == name)
    }
}

impl Block {
    /// Creates a block that starts now. Without a `duration` it never ends. The reason is truncated
    /// to 200 characters.
    #[must_use]
    pub fn new(
        cidr: Network,
        duration: Option<std::time::Duration>,
        reason: &str,
        source: BlockSource,
    ) -> Self {
        let created_at = SystemTime::now();
        let end = |duration| created_at.checked_add(duration);
        Self {
            id: Uuid::now_v7(),
            cidr,
            reason: reason.chars().take(MAX_REASON).collect(),
            source,
            created_at,
            // An end that `SystemTime` cannot represent means no end.
            expires_at: duration.and_then(end),
        }
    }

    /// Restores a block that was created earlier.
    #[must_use]
    pub fn restored(
        id: Uuid,
        cidr: Network,
        reason: String,
        source: BlockSource,
        created_at: SystemTime,
        expires_at: Option<SystemTime>,
    ) -> Self {
        Self {
            id,
            cidr,
            reason,
            source,
            created_at,
            expires_at,
        }
    }

    /// Returns whether the block has ended.
    #[must_use]
    pub fn is_over(&self, now: SystemTime) -> bool {
        self.expires_at.is_some_and(|end| end <= now)
    }
}

/// Maximum length of a reason, in characters.
const MAX_REASON: usize = 200;

fn milliseconds<S: Serializer>(time: &SystemTime, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&rfc3339(*time))
}

fn optional_milliseconds<S: Serializer>(
    time: &Option<SystemTime>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    match time {
        Some(time) => milliseconds(time, serializer),
        None => serializer.serialize_none(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(text: &str) -> Network {
        text.parse().unwrap()
    }

    fn at(text: &str) -> SystemTime {
        humantime::parse_rfc3339(text).unwrap()
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn network_is_written_without_its_host_bits() {
        for (text, written) in [
            ("192.0.2.7", "192.0.2.7/32"),
            ("192.0.2.7/24", "192.0.2.0/24"),
            ("0.0.0.0/0", "0.0.0.0/0"),
            ("2001:db8::1/32", "2001:db8::/32"),
            ("::/0", "::/0"),
            ("::1", "::1/128"),
            ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ] {
            assert_eq!(network(text).to_string(), written, "{text}");
        }
    }

    #[test]
    fn text_that_is_no_network_is_refused() {
        for text in [
            "",
            "/",
            "192.0.2.0/33",
            "192.0.2.0/-1",
            "192.0.2.0/+8",
            "192.0.2.0/",
            "192.0.2.0/8/8",
            "192.0.2",
            "::/129",
            "::/999",
            "example.org",
            " 192.0.2.1",
            "*",
        ] {
            assert_eq!(text.parse::<Network>(), Err(InvalidNetwork), "{text}");
        }
    }

    #[test]
    fn network_contains_only_its_addresses() {
        for (inside, address) in [
            ("192.0.2.0/24", "192.0.2.255"),
            ("192.0.2.0/24", "::ffff:192.0.2.9"),
            ("0.0.0.0/0", "203.0.113.1"),
            ("2001:db8::/32", "2001:db8:ffff::1"),
            ("::/0", "2001:db8::1"),
        ] {
            assert!(network(inside).contains(ip(address)), "{inside} {address}");
        }
        for (outside, address) in [
            ("192.0.2.0/24", "192.0.3.0"),
            ("0.0.0.0/0", "::1"),
            ("::/0", "192.0.2.1"),
            ("::/0", "::ffff:192.0.2.1"),
            ("2001:db8::/32", "2001:db9::"),
        ] {
            assert!(
                !network(outside).contains(ip(address)),
                "{outside} {address}"
            );
        }
    }

    #[test]
    fn a_client_is_an_ipv4_address_or_an_ipv6_subnet() {
        let client = |address| Network::of_client(ip(address)).to_string();
        assert_eq!(client("192.0.2.7"), "192.0.2.7/32");
        assert_eq!(client("::ffff:192.0.2.7"), "192.0.2.7/32");
        assert_eq!(client("2001:db8:1:2:3:4:5:6"), "2001:db8:1:2::/64");
    }

    #[test]
    fn block_serializes_with_the_api_field_names() {
        let lasting = std::time::Duration::from_secs(60);
        let mut block = Block::new(
            network("192.0.2.0/24"),
            Some(lasting),
            "spam",
            BlockSource::Admin,
        );
        block.id = Uuid::nil();
        block.created_at = at("2026-01-02T03:04:05.678Z");
        block.expires_at = Some(at("2026-01-02T03:05:05.678Z"));
        assert_eq!(
            serde_json::to_value(&block).unwrap(),
            serde_json::json!({
                "id": "00000000-0000-0000-0000-000000000000",
                "cidr": "192.0.2.0/24",
                "reason": "spam",
                "source": "admin",
                "createdAt": "2026-01-02T03:04:05.678Z",
                "expiresAt": "2026-01-02T03:05:05.678Z",
            })
        );
        assert!(!block.is_over(block.created_at));
        assert!(block.is_over(at("2026-01-02T03:05:05.678Z")));
        assert_eq!(BlockSource::parse("admin"), Some(BlockSource::Admin));
        assert_eq!(BlockSource::parse("other"), None);
    }
}
