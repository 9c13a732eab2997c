//! Determines the client of a request that arrives through trusted proxies. Headers from untrusted
//! peers are ignored.

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderName, header};

use crate::network::Network;

/// A client, as determined from the connection and trusted proxies. Requests carry it as an
/// extension.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Client {
    /// The address from which the client connects. For clients of a proxy the port is 0, because it
    /// is unknown.
    pub address: SocketAddr,
    /// Whether the client's connection, or its connection to the outermost trusted proxy, is
    /// encrypted.
    pub is_secure: bool,
}

impl Client {
    /// Creates a directly connected client without encryption. [`is_secure`](Self::is_secure) can
    /// be set.
    #[must_use]
    pub const fn new(address: SocketAddr) -> Self {
        Self {
            address,
            is_secure: false,
        }
    }

    pub(crate) const fn connected(address: SocketAddr, is_secure: bool) -> Self {
        Self { address, is_secure }
    }
}

/// The set of trusted proxies.
#[derive(Clone, Debug, Default)]
pub struct Proxies {
    trusted: Vec<Network>,
    protocol: bool,
}

/// Maximum number of hops that are evaluated. No honest chain is longer.
const MAX_HOPS: usize = 32;
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");

impl Proxies {
    /// Trusts the proxies in these networks: their `X-Forwarded-For`, `Forwarded` and
    /// `X-Forwarded-Proto` headers are evaluated.
    #[must_use]
    pub fn new(trusted: impl Into<Vec<Network>>) -> Self {
        Self {
            trusted: trusted.into(),
            protocol: false,
        }
    }

    /// Expects a PROXY protocol header of the proxies at the start of every connection.
    #[must_use]
    pub fn with_proxy_protocol(self) -> Self {
        Self {
            protocol: true,
            ..self
        }
    }

    pub(super) fn trusts(&self, address: IpAddr) -> bool {
        self.trusted.iter().any(|network| network.contains(address))
    }

    pub(super) fn speaks_protocol(&self, address: IpAddr) -> bool {
        self.protocol && self.trusts(address)
    }

    /// Returns the client that sent a request over the connection of `peer`.
    ///
    /// The `X-Forwarded-For` or `Forwarded` (RFC 7239) header of a trusted peer is read from the
    /// right. Each trusted hop vouches for the hop to its left, and the first untrusted hop is the
    /// client. An invalid hop ends the walk at the last valid one. A proxy that writes only one of
    /// the two headers may forward a forged other one. So if both headers are present and disagree,
    /// neither counts.
    pub(super) fn client(&self, peer: Client, headers: &HeaderMap) -> Client {
        if !self.trusts(peer.address.ip()) {
            return peer;
        }
        let listed = self.walk(peer.address.ip(), hops(headers));
        let forwarded = self.walk(peer.address.ip(), elements(headers));
        let address = match (listed, forwarded) {
            (Some(one), Some(other)) if one != other => None,
            (one, other) => one.or(other),
        };
        let is_secure = peer.is_secure || is_https(headers);
        match address {
            Some(address) if address != peer.address.ip() => {
                Client::connected(SocketAddr::new(address, 0), is_secure)
            }
            Some(_) | None => Client::connected(peer.address, is_secure),
        }
    }

    /// Walks the hops from the right. Returns `None` if the header is absent.
    fn walk<'a>(
        &self,
        peer: IpAddr,
        hops: impl DoubleEndedIterator<Item = Option<&'a str>>,
    ) -> Option<IpAddr> {
        let mut found = None;
        for hop in hops.rev().take(MAX_HOPS) {
            let last = *found.get_or_insert(peer);
            let Some(address) = hop.and_then(parse) else {
                return Some(last);
            };
            found = Some(address);
            if !self.trusts(address) {
                break;
            }
        }
        found
    }
}

/// Returns the addresses of all `X-Forwarded-For` headers as one list.
fn hops(headers: &HeaderMap) -> impl DoubleEndedIterator<Item = Option<&str>> {
    headers
        .get_all(X_FORWARDED_FOR)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|hop| std::str::from_utf8(hop).ok())
}

/// Returns the `for` parameters of all `Forwarded` headers. Quoted commas need no handling: they
/// only occur in elements that are not addresses.
fn elements(headers: &HeaderMap) -> impl DoubleEndedIterator<Item = Option<&str>> {
    headers
        .get_all(header::FORWARDED)
        .iter()
        .flat_map(|value| value.as_bytes().split(|byte| *byte == b','))
        .map(|element| parameter(std::str::from_utf8(element).ok()?, "for"))
}

/// Returns the unquoted value of a parameter that an element of `Forwarded` contains exactly once.
fn parameter<'a>(element: &'a str, name: &str) -> Option<&'a str> {
    let mut values = element.split(';').filter_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        key.trim()
            .eq_ignore_ascii_case(name)
            .then_some(value.trim())
    });
    let value = values.next().filter(|_| values.next().is_none())?;
    match value.strip_prefix('"') {
        Some(quoted) => quoted.strip_suffix('"'),
        None => Some(value),
    }
}

/// Parses an address with or without a port: `192.0.2.1:80`, `[2001:db8::1]:80`, `2001:db8::1`.
fn parse(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let bracketed = hop
        .strip_prefix('[')
        .and_then(|rest| rest.strip_suffix(']'));
    let address = if let Some(inside) = bracketed {
        inside.parse().ok().map(IpAddr::V6)
    } else {
        hop.parse()
            .ok()
            .or_else(|| hop.parse::<SocketAddr>().ok().map(|address| address.ip()))
    };
    address.as_ref().map(IpAddr::to_canonical)
}

/// Returns whether the nearest proxy reports that its client connection is encrypted.
fn is_https(headers: &HeaderMap) -> bool {
    let last = |value: &http::HeaderValue| {
        let text = value.to_str().unwrap_or_default();
        let last = text.rsplit(',').next().unwrap_or_default();
        last.trim().to_owned()
    };
    let listed = headers.get_all(X_FORWARDED_PROTO).iter().next_back();
    if let Some(value) = listed {
        return last(value).eq_ignore_ascii_case("https");
    }
    let forwarded = headers.get_all(header::FORWARDED).iter().next_back();
    forwarded
        .map(last)
        .is_some_and(|element| parameter(&element, "proto") == Some("https"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn proxies() -> Proxies {
        Proxies::new(["10.0.0.0/8".parse().unwrap(), "fd00::/8".parse().unwrap()])
    }

    /// Returns the client of a request with these headers.
    fn client(peer: &str, headers: &[(&'static str, &str)]) -> Client {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        let peer = Client::connected(SocketAddr::new(peer.parse().unwrap(), 7), false);
        proxies().client(peer, &map)
    }

    fn address(peer: &str, headers: &[(&'static str, &str)]) -> String {
        client(peer, headers).address.ip().to_string()
    }

    #[test]
    fn headers_of_untrusted_peers_are_ignored() {
        let forged = [
            ("x-forwarded-for", "203.0.113.9"),
            ("forwarded", "for=203.0.113.9;proto=https"),
            ("x-forwarded-proto", "https"),
        ];
        let client = client("192.0.2.1", &forged);
        assert_eq!(client.address.to_string(), "192.0.2.1:7");
        assert!(!client.is_secure);
    }

    #[test]
    fn rightmost_untrusted_hop_is_the_client() {
        for (value, expected) in [
            ("203.0.113.9", "203.0.113.9"),
            ("203.0.113.9, 10.1.1.1", "203.0.113.9"),
            ("6.6.6.6, 203.0.113.9, 10.1.1.1,10.2.2.2", "203.0.113.9"),
            ("10.3.3.3, 10.1.1.1", "10.3.3.3"),
            ("203.0.113.9:4711", "203.0.113.9"),
            ("2001:db8::9", "2001:db8::9"),
            ("[2001:db8::9]:4711, fd00::1", "2001:db8::9"),
            ("[2001:db8::9]", "2001:db8::9"),
            ("::ffff:203.0.113.9, ::ffff:10.0.0.1", "203.0.113.9"),
        ] {
            let header = [("x-forwarded-for", value)];
            assert_eq!(address("10.0.0.1", &header), expected, "{value}");
        }
    }

    #[test]
    fn several_headers_are_one_list() {
        let headers = [
            ("x-forwarded-for", "6.6.6.6"),
            ("x-forwarded-for", "203.0.113.9, 10.0.0.2"),
        ];
        assert_eq!(address("10.0.0.1", &headers), "203.0.113.9");
    }

    #[test]
    fn unreadable_hop_ends_the_walk_at_the_last_readable_hop() {
        for (value, expected) in [
            ("", "10.0.0.1"),
            ("unknown", "10.0.0.1"),
            ("203.0.113.9, <script>", "10.0.0.1"),
            ("203.0.113.9, , 10.2.2.2", "10.2.2.2"),
            ("203.0.113.999", "10.0.0.1"),
            ("203.0.113.9 10.2.2.2", "10.0.0.1"),
        ] {
            let header = [("x-forwarded-for", value)];
            assert_eq!(address("10.0.0.1", &header), expected, "{value}");
        }
    }

    #[test]
    fn forwarded_header_is_read_as_in_its_rfc() {
        for (value, expected) in [
            ("for=203.0.113.9", "203.0.113.9"),
            (
                "For=\"203.0.113.9:80\";proto=http;by=10.0.0.1",
                "203.0.113.9",
            ),
            ("for=\"[2001:db8::9]:4711\"", "2001:db8::9"),
            ("for=6.6.6.6, for=203.0.113.9, for=10.2.2.2", "203.0.113.9"),
            ("for=203.0.113.9, for=_hidden", "10.0.0.1"),
            ("for=203.0.113.9, for=unknown", "10.0.0.1"),
            ("for=203.0.113.9;for=6.6.6.6", "10.0.0.1"),
            ("by=203.0.113.9", "10.0.0.1"),
            ("for=\"203.0.113.9", "10.0.0.1"),
        ] {
            assert_eq!(
                address("10.0.0.1", &[("forwarded", value)]),
                expected,
                "{value}"
            );
        }
    }

    #[test]
    fn two_headers_that_disagree_count_as_none() {
        let one = ("x-forwarded-for", "203.0.113.9");
        let same = ("forwarded", "for=203.0.113.9");
        let other = ("forwarded", "for=6.6.6.6");
        assert_eq!(address("10.0.0.1", &[one, same]), "203.0.113.9");
        assert_eq!(address("10.0.0.1", &[one, other]), "10.0.0.1");
    }

    #[test]
    fn overlong_chain_is_not_followed() {
        let chain = vec!["10.1.1.1"; 10_000].join(",");
        assert_eq!(
            address("10.0.0.1", &[("x-forwarded-for", &chain)]),
            "10.1.1.1"
        );
    }

    #[test]
    fn trusted_proxy_states_whether_the_client_was_encrypted() {
        for (header, expected) in [
            (("x-forwarded-proto", "https"), true),
            (("x-forwarded-proto", "https, http"), false),
            (("forwarded", "for=203.0.113.9;proto=https"), true),
            (("forwarded", "proto=https, for=203.0.113.9"), false),
        ] {
            assert_eq!(
                client("10.0.0.1", &[header]).is_secure,
                expected,
                "{header:?}"
            );
        }
    }
}
