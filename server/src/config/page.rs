//! Section `[page]`: additional permissions of the chat page.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use serde::{Deserialize, Serialize};

/// Section `[page]`.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Page {
    /// Origins whose images the page shows, such as `https://img.example.org`, at most 32. The
    /// operator of such an origin learns who reads a message, and receives its own cookies. Images
    /// of other origins are shown as links. Default none.
    pub images: Vec<String>,
}

impl Page {
    pub(super) fn check(&self, listen: SocketAddr) -> Result<(), &'static str> {
        if self.images.len() > MOST_ORIGINS {
            return Err("page.images has more than 32 origins");
        }
        for origin in &self.images {
            let Some((host, port)) = parse(origin) else {
                return Err(
                    "page.images has an entry that is no valid origin; one is https://img.example.org or http://…, as browsers \
                     write it: in lower case, with a port if it is not the usual one, and without a path or a slash at the end",
                );
            };
            if port == listen.port() && is_here(host, listen.ip()) {
                return Err(
                    "page.images has the origin of this server: a message could make the browsers of its readers ask it for \
                     anything in their names",
                );
            }
        }
        Ok(())
    }
}

/// Returns host and port of an origin if it is in the ASCII serialization of browsers (RFC 6454,
/// 6.2) and valid in a content security policy. Such a policy does not allow IPv6 addresses.
fn parse(origin: &str) -> Option<(&str, u16)> {
    let (usual, rest) = match origin.split_once("://")? {
        ("https", rest) => (443, rest),
        ("http", rest) => (80, rest),
        _ => return None,
    };
    let (host, port) = match rest.split_once(':') {
        None => (rest, usual),
        Some((host, text)) => {
            let port: u16 = text.parse().ok()?;
            let is_needed = port != 0 && port != usual;
            (
                host,
                Some(port).filter(|_| is_needed && port.to_string() == text)?,
            )
        }
    };
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
    };
    let last = host.rsplit('.').next()?;
    // Browsers parse a host that ends in a number as an IPv4 address, and write it in four parts.
    let is_name = !last.starts_with(|first: char| first.is_ascii_digit());
    let is_host = host.len() <= 253
        && host.split('.').all(is_label)
        && (is_name || host.parse::<Ipv4Addr>().is_ok());
    is_host.then_some((host, port))
}

/// Returns whether a host is the address on which the server listens.
fn is_here(host: &str, listen: IpAddr) -> bool {
    let is_local = listen.is_loopback() || listen.is_unspecified();
    match host.parse::<IpAddr>() {
        Ok(address) => address == listen || (is_local && address.is_loopback()),
        Err(_) => is_local && host == "localhost",
    }
}

const MOST_ORIGINS: usize = 32;

#[cfg(test)]
mod tests {
    use super::*;

    fn check(images: &[&str], listen: &str) -> Result<(), &'static str> {
        let images = images.iter().map(|&origin| origin.to_owned()).collect();
        Page { images }.check(listen.parse().unwrap())
    }

    #[test]
    fn image_origin_is_in_the_form_of_browsers() {
        for origin in [
            "https://img.example.org",
            "http://img.example.org:8080",
            "https://xn--bcher-kva.example",
            "http://192.0.2.7",
            "http://localhost:9000",
        ] {
            assert_eq!(check(&[origin], "0.0.0.0:3000"), Ok(()), "{origin}");
        }
        for text in [
            "",
            "*",
            "null",
            "img.example.org",
            "https://",
            "https://img.example.org/",
            "https://img.example.org/a.png",
            "https://img.example.org?a",
            "https://img.example.org#a",
            "https://img.example.org.",
            "https://img..example.org",
            "https://IMG.example.org",
            "HTTPS://img.example.org",
            "https://*.example.org",
            "https://user@img.example.org",
            "https://img.example.org:443",
            "http://img.example.org:80",
            "https://img.example.org:0",
            "https://img.example.org:08080",
            "https://img.example.org:+8080",
            "https://img.example.org:65536",
            "https://img.example.org:",
            "https://img.example.org; script-src *",
            "https://img.example.org https://evil.example",
            "https://bücher.example",
            "https://[::1]",
            "http://127.1",
            "http://0x7f.1",
            "http://192.0.2.07",
            "data:",
            "javascript://img.example.org",
            "ftp://img.example.org",
        ] {
            let refused = check(&["https://img.example.org", text], "0.0.0.0:3000");
            assert!(
                refused.unwrap_err().contains("is no valid origin"),
                "{text}"
            );
        }
    }

    #[test]
    fn own_origin_is_refused_as_image_origin() {
        for (origin, listen) in [
            ("http://127.0.0.1:3000", "127.0.0.1:3000"),
            ("https://localhost:3000", "127.0.0.1:3000"),
            ("http://localhost", "[::]:80"),
            ("https://127.0.0.1", "0.0.0.0:443"),
            ("http://192.0.2.7:3000", "192.0.2.7:3000"),
        ] {
            let refused = check(&[origin], listen).unwrap_err();
            assert!(refused.contains("of this server"), "{origin}: {refused}");
        }
        assert_eq!(check(&["http://127.0.0.1:3001"], "127.0.0.1:3000"), Ok(()));
        assert_eq!(check(&["http://127.0.0.1:3000"], "192.0.2.7:3000"), Ok(()));
    }

    #[test]
    fn list_of_image_origins_is_bounded() {
        let many = ["https://img.example.org"; MOST_ORIGINS + 1];
        assert_eq!(check(&many[1..], "0.0.0.0:3000"), Ok(()));
        assert_eq!(
            check(&many, "0.0.0.0:3000"),
            Err("page.images has more than 32 origins")
        );
    }
}
