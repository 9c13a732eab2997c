//! The record that is kept of the request which opened a session.

use std::{net::SocketAddr, time::SystemTime};

use http::{HeaderMap, Uri, header};

use parking_lot::Mutex;

use super::accepted::Peer;
use crate::limit::Permit;

/// What is remembered of the first request of a session, as `socket.handshake` of the
/// official server.
///
/// Headers are copied into one allocation, up to
/// [`handshake_header_bytes`](crate::Config::handshake_header_bytes): keeping the parsed
/// ones costs several KiB per connection.
#[derive(Debug)]
pub struct Handshake {
    /// `name\0value\0` of every header kept.
    headers: Box<str>,
    url: Box<str>,
    address: SocketAddr,
    time: SystemTime,
    secure: bool,
    /// The leave to open the session, until the session takes it.
    permit: Mutex<Option<Box<Permit>>>,
}

/// Headers that say nothing beyond this one request.
const TRANSIENT: [header::HeaderName; 9] = [
    header::CONNECTION,
    header::UPGRADE,
    header::CONTENT_LENGTH,
    header::TRANSFER_ENCODING,
    header::SEC_WEBSOCKET_KEY,
    header::SEC_WEBSOCKET_VERSION,
    header::SEC_WEBSOCKET_EXTENSIONS,
    header::PRAGMA,
    header::CACHE_CONTROL,
];

impl Handshake {
    pub(crate) fn new(headers: &HeaderMap, uri: &Uri, peer: Peer, max_header_bytes: usize) -> Self {
        let mut kept = String::new();
        for (name, value) in headers {
            let Ok(value) = value.to_str() else { continue };
            let len = name.as_str().len() + value.len() + 2;
            if TRANSIENT.contains(name) || kept.len() + len > max_header_bytes {
                continue;
            }
            kept.push_str(name.as_str());
            kept.push('\0');
            kept.push_str(value);
            kept.push('\0');
        }
        Self {
            headers: kept.into(),
            url: uri.path_and_query().map_or("", |url| url.as_str()).into(),
            address: peer.address,
            time: SystemTime::now(),
            secure: peer.secure,
            permit: Mutex::default(),
        }
    }

    /// The same with the leave to open a session.
    pub(super) fn with_permit(self, permit: Permit) -> Self {
        Self {
            permit: Mutex::new(Some(Box::new(permit))),
            ..self
        }
    }

    pub(super) fn take_permit(&self) -> Option<Box<Permit>> {
        self.permit.lock().take()
    }

    /// The headers kept, names in lower case, in the order they came.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        let mut parts = self.headers.split_terminator('\0');
        std::iter::from_fn(move || Some((parts.next()?, parts.next()?)))
    }

    /// The first header of this (lower-case) name.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    /// Path and query of the request, as sent.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The decoded parameters of the query, in the order they came.
    pub fn query(&self) -> impl Iterator<Item = (String, String)> {
        let query = self.url.split_once('?').map_or("", |(_, query)| query);
        form_urlencoded::parse(query.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned()))
    }

    /// The first query parameter of this name, decoded.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<String> {
        self.query().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// The address the connection came from.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// When the session was opened.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        self.time
    }

    /// Whether the request carried an `Origin`, as browsers send for other sites.
    #[must_use]
    pub fn is_cross_origin(&self) -> bool {
        self.header("origin").is_some()
    }

    /// Whether the connection was encrypted.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn handshake(limit: usize) -> Handshake {
        let mut headers = HeaderMap::new();
        headers.insert("host", "localhost".parse().unwrap());
        headers.insert("sec-websocket-key", "x".parse().unwrap());
        headers.insert("x-big", "y".repeat(64).parse().unwrap());
        headers.insert("origin", "http://a.example".parse().unwrap());
        let uri = "/socket.io/?EIO=4&a%26b=%26%3D%3Fa&empty=".parse().unwrap();
        let peer = Peer {
            address: ([127, 0, 0, 1], 1).into(),
            secure: false,
        };
        Handshake::new(&headers, &uri, peer, limit)
    }

    #[test]
    fn headers_are_kept_without_those_of_the_upgrade() {
        let handshake = handshake(2048);
        assert_eq!(handshake.header("host"), Some("localhost"));
        assert_eq!(handshake.header("sec-websocket-key"), None);
        assert_eq!(handshake.headers().count(), 3);
        assert!(handshake.is_cross_origin());
    }

    #[test]
    fn headers_over_the_limit_are_left_out() {
        let handshake = handshake(50);
        assert_eq!(handshake.header("x-big"), None);
        assert_eq!(handshake.header("origin"), Some("http://a.example"));
    }

    #[test]
    fn query_parameters_come_back_decoded() {
        let handshake = handshake(0);
        assert_eq!(handshake.query_value("a&b").as_deref(), Some("&=?a"));
        assert_eq!(handshake.query_value("empty").as_deref(), Some(""));
        assert_eq!(handshake.query_value("none"), None);
    }
}
