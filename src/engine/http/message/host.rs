//! Validation of the `Host` header of a request (RFC 9112, 3.2).
//!
//! A proxy that uses one of two headers, or interprets an invalid one differently, could route a
//! request differently from this server.

use http::{HeaderMap, Version, header};

use super::characters::Characters;

/// Returns whether a request names exactly one valid host. HTTP/1.0 may omit it; versions after
/// HTTP/1.1 specify it elsewhere.
pub(in crate::engine::http) fn is_named(version: Version, headers: &HeaderMap) -> bool {
    if version > Version::HTTP_11 {
        return true;
    }
    let mut hosts = headers.get_all(header::HOST).iter();
    match (hosts.next(), hosts.next()) {
        (Some(host), None) => is_valid(host.as_bytes()),
        (None, _) => version < Version::HTTP_11,
        (Some(_), Some(_)) => false,
    }
}

/// Returns whether these bytes are a host with an optional port (RFC 9110, 7.2; RFC 3986, 3.2.2).
/// An empty host is valid, for targets without a host.
pub(in crate::engine::http) fn is_valid(host: &[u8]) -> bool {
    match host.strip_prefix(b"[") {
        Some(literal) => {
            let mut parts = literal.splitn(2, |byte| *byte == b']');
            let address = parts.next().unwrap_or_default();
            let is_of_address = |byte: &u8| is_name_byte(*byte) || *byte == b':';
            let is_address = !address.is_empty() && address.iter().all(is_of_address);
            is_address && parts.next().is_some_and(is_port)
        }
        None => {
            let colon = host.iter().position(|byte| *byte == b':');
            let (name, port) = host.split_at(colon.unwrap_or(host.len()));
            is_registered_name(name) && is_port(port)
        }
    }
}

/// Returns whether these bytes are a registered name or an IPv4 address.
fn is_registered_name(mut name: &[u8]) -> bool {
    if name.iter().all(|byte| is_name_byte(*byte)) {
        return true;
    }
    loop {
        name = match name {
            [] => return true,
            [b'%', high, low, rest @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                rest
            }
            [byte, rest @ ..] if is_name_byte(*byte) => rest,
            _ => return false,
        };
    }
}

/// Returns whether a byte may appear unescaped in a name (`unreserved` and `sub-delims`).
fn is_name_byte(byte: u8) -> bool {
    NAME.contains(byte)
}

const NAME: Characters = Characters::alphanumeric_and(b"-._~!$&'()*+,;=");

/// Returns whether these bytes are empty, or a colon followed by digits.
fn is_port(port: &[u8]) -> bool {
    match port {
        [] => true,
        [b':', digits @ ..] => digits.iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_host_is_a_name_or_an_address_and_maybe_a_port() {
        for host in [
            "",
            "x",
            "localhost:3000",
            "chat.example.com",
            "a_b.example:",
            "127.0.0.1:80",
            "[::1]",
            "[fe80::1.2.3.4]:3000",
            "[v7.x:y]",
            "x%C3%A4.example",
            "!$&'()*+,;=~",
        ] {
            assert!(is_valid(host.as_bytes()), "{host}");
        }
        for host in [
            "a b",
            "a/b",
            "http://a",
            "user@a",
            "a:b",
            "a:1:2",
            "a:1 ",
            "a?b",
            "a#b",
            "a\\b",
            "a,\tb",
            "<a>",
            "a%",
            "a%4",
            "a%zz",
            "::1",
            "[",
            "[]",
            "[::1",
            "[::1]x",
            "[::1]:x",
            "[::1/64]",
            "\u{e4}.example",
        ] {
            assert!(!is_valid(host.as_bytes()), "{host}");
        }
    }

    #[test]
    fn request_needs_one_host_if_its_version_requires_it() {
        let named = |version, hosts: &[&'static str]| {
            let mut headers = HeaderMap::new();
            for host in hosts {
                headers.append(header::HOST, HeaderValue::from_static(host));
            }
            is_named(version, &headers)
        };
        assert!(named(Version::HTTP_11, &["a"]) && named(Version::HTTP_10, &["a"]));
        assert!(!named(Version::HTTP_11, &[]) && named(Version::HTTP_10, &[]));
        for version in [Version::HTTP_10, Version::HTTP_11] {
            assert!(!named(version, &["a", "a"]));
            assert!(!named(version, &["a b"]));
        }
        assert!(named(Version::HTTP_2, &[]));
    }
}
