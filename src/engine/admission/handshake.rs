//! The record that is kept of the request which opened a session.

use std::{net::SocketAddr, time::SystemTime};

use axum::extract::{ConnectInfo, OriginalUri};
use http::{Extensions, HeaderMap, Uri, header};
use hyper::upgrade::OnUpgrade;
use parking_lot::Mutex;
use serde::{Serialize, Serializer, ser::SerializeStruct as _};
use serde_json::{Map, Value};

use crate::{engine::ground::Peer, limit::Permit};

/// What is remembered of the first request of a session, as `socket.handshake` of the
/// official server.
///
/// Headers are copied into one allocation, up to
/// [`handshake_header_bytes`](crate::Config::handshake_header_bytes): keeping the parsed
/// ones costs several KiB per connection.
///
/// Serialized it is the official object without `auth`, which belongs to a namespace
/// ([`Socket::auth`](crate::Socket::auth)): `headers`, `time`, `address`, `xdomain`, `secure`,
/// `issued`, `url`, `query`. A header that came more than once is joined with commas, such a query
/// parameter is a list.
#[derive(Debug)]
pub struct Handshake {
    /// `name\0value\0` of every header kept.
    headers: Box<str>,
    url: Box<str>,
    address: SocketAddr,
    time: SystemTime,
    secure: bool,
    trusted: bool,
    extensions: Extensions,
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

/// Headers that prove who a client is; they have a limit of their own.
const CREDENTIALS: [header::HeaderName; 2] = [header::AUTHORIZATION, header::COOKIE];
/// Bytes of those that are kept: a token and the cookies of a site.
const MAX_CREDENTIAL_BYTES: usize = 16 << 10;

impl Handshake {
    pub(crate) fn new(headers: &HeaderMap, uri: &Uri, peer: Peer, max_header_bytes: usize) -> Self {
        let mut kept = String::with_capacity(max_header_bytes.min(512));
        // A long list of others must not push out what proves who it is.
        for (are_credentials, limit) in [(true, MAX_CREDENTIAL_BYTES), (false, max_header_bytes)] {
            let start = kept.len();
            for (name, value) in headers {
                if CREDENTIALS.contains(name) != are_credentials || TRANSIENT.contains(name) {
                    continue;
                }
                let Ok(value) = value.to_str() else { continue };
                let len = name.as_str().len() + value.len() + 2;
                if kept.len() - start + len > limit {
                    continue;
                }
                kept.push_str(name.as_str());
                kept.push('\0');
                kept.push_str(value);
                kept.push('\0');
            }
        }
        Self {
            headers: kept.into(),
            url: uri.path_and_query().map_or("", |url| url.as_str()).into(),
            address: peer.address,
            time: SystemTime::now(),
            secure: peer.secure,
            trusted: false,
            extensions: Extensions::new(),
            permit: Mutex::default(),
        }
    }

    /// The same, sent by a page that may use the cookies of its reader, or not.
    pub(in crate::engine) fn with_trust(self, trusted: bool) -> Self {
        Self { trusted, ..self }
    }

    /// The same with what layers of the server around have put with the request.
    pub(in crate::engine) fn with_extensions(self, extensions: &Extensions) -> Self {
        let mut extensions = extensions.clone();
        // What is known otherwise, or of no use any more, is not kept as long as the session.
        extensions.remove::<ConnectInfo<SocketAddr>>();
        extensions.remove::<OriginalUri>();
        extensions.remove::<OnUpgrade>();
        if extensions.is_empty() {
            extensions = Extensions::new();
        }
        Self { extensions, ..self }
    }

    /// The same with the leave to open a session.
    pub(in crate::engine) fn with_permit(self, permit: Permit) -> Self {
        Self {
            permit: Mutex::new(Some(Box::new(permit))),
            ..self
        }
    }

    pub(in crate::engine) fn take_permit(&self) -> Option<Box<Permit>> {
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

    /// The same in milliseconds since 1970.
    #[must_use]
    pub fn issued(&self) -> u64 {
        let since = self.time.duration_since(SystemTime::UNIX_EPOCH);
        since.map_or(0, |since| since.as_millis() as u64)
    }

    /// Whether the request carried an `Origin`, as browsers send for other sites.
    #[must_use]
    pub fn is_cross_origin(&self) -> bool {
        self.header("origin").is_some()
    }

    /// Whether a page that may use the cookies of its reader has sent the request: one of the server's
    /// own host, or of an origin that [`Config::cors`](crate::Config::cors) lists. `false` for
    /// clients that are no browsers. Cookies of other requests prove nothing: any page can have
    /// made the browser send them.
    #[must_use]
    pub fn is_trusted_origin(&self) -> bool {
        self.trusted
    }

    /// Whether the connection was encrypted.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// What a layer of the server around has put with the request: a login session, say. Where the
    /// server is mounted in another one ([`Io::layer`](crate::Io::layer),
    /// [`Io::service`](crate::Io::service)), all extensions of the request that opened the session are
    /// kept as long as it lasts; those of its later requests are not.
    ///
    /// Handlers take it as a parameter, [`Extension<T>`](crate::Extension).
    ///
    /// ```
    /// # use roomcast::{Connect, Io, Principal, Refusal};
    /// #[derive(Clone)]
    /// struct User(String); // what a layer in front has found out
    ///
    /// let mut io = Io::builder();
    /// io.namespace("/").authenticate(async |connect: Connect| {
    ///     let user = connect.handshake().extension::<User>();
    ///     let user = user.ok_or_else(|| Refusal::unauthenticated("nobody is logged in"))?;
    ///     Ok::<_, Refusal>(Principal::new(&user.0))
    /// });
    /// # io.build().unwrap();
    /// ```
    #[must_use]
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.extensions.get()
    }
}

impl Serialize for Handshake {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut headers = Map::new();
        for (name, value) in self.headers() {
            match headers.get_mut(name) {
                Some(Value::String(known)) => {
                    known.push_str(", ");
                    known.push_str(value);
                }
                Some(_) | None => drop(headers.insert(name.to_owned(), value.into())),
            }
        }
        let mut query = Map::new();
        for (name, value) in self.query() {
            match query.get_mut(&name) {
                None => drop(query.insert(name, value.into())),
                Some(Value::Array(known)) => known.push(value.into()),
                Some(known) => *known = Value::Array(vec![known.take(), value.into()]),
            }
        }
        let time = jiff::Timestamp::try_from(self.time).unwrap_or_default();
        let time = time.strftime("%a %b %d %Y %H:%M:%S GMT+0000 (Coordinated Universal Time)");
        let mut handshake = serializer.serialize_struct("Handshake", 8)?;
        handshake.serialize_field("headers", &headers)?;
        handshake.serialize_field("time", &time.to_string())?;
        handshake.serialize_field("address", &self.address.ip().to_string())?;
        handshake.serialize_field("xdomain", &self.is_cross_origin())?;
        handshake.serialize_field("secure", &self.secure)?;
        handshake.serialize_field("issued", &self.issued())?;
        handshake.serialize_field("url", &self.url)?;
        handshake.serialize_field("query", &query)?;
        handshake.end()
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
    fn credentials_are_kept_whatever_else_there_is() {
        let mut headers = HeaderMap::new();
        headers.insert("x-big", "y".repeat(64).parse().unwrap());
        headers.insert("authorization", "z".repeat(8192).parse().unwrap());
        headers.insert("cookie", "a=b".parse().unwrap());
        let uri = "/socket.io/".parse().unwrap();
        let peer = Peer {
            address: ([127, 0, 0, 1], 1).into(),
            secure: false,
        };
        let handshake = Handshake::new(&headers, &uri, peer, 10);
        assert_eq!(handshake.header("authorization").map(str::len), Some(8192));
        assert_eq!(handshake.header("cookie"), Some("a=b"));
        assert_eq!(handshake.header("x-big"), None);
    }

    #[test]
    fn headers_over_the_limit_are_left_out() {
        let handshake = handshake(50);
        assert_eq!(handshake.header("x-big"), None);
        assert_eq!(handshake.header("origin"), Some("http://a.example"));
    }

    #[test]
    fn serialized_it_is_the_official_object() {
        let mut headers = HeaderMap::new();
        headers.append("x-a", "1".parse().unwrap());
        headers.append("x-a", "2".parse().unwrap());
        let uri = "/socket.io/?EIO=4&k=a&k=b&k=c".parse().unwrap();
        let peer = Peer {
            address: ([127, 0, 0, 1], 1).into(),
            secure: true,
        };
        let handshake = Handshake {
            time: SystemTime::UNIX_EPOCH + std::time::Duration::from_millis(1_700_000_000_123),
            ..Handshake::new(&headers, &uri, peer, 100)
        };
        assert_eq!(
            serde_json::to_value(&handshake).unwrap(),
            serde_json::json!({
                "headers": {"x-a": "1, 2"},
                "time": "Tue Nov 14 2023 22:13:20 GMT+0000 (Coordinated Universal Time)",
                "address": "127.0.0.1",
                "xdomain": false,
                "secure": true,
                "issued": 1_700_000_000_123_u64,
                "url": "/socket.io/?EIO=4&k=a&k=b&k=c",
                "query": {"EIO": "4", "k": ["a", "b", "c"]},
            })
        );
    }

    #[test]
    fn query_parameters_come_back_decoded() {
        let handshake = handshake(0);
        assert_eq!(handshake.query_value("a&b").as_deref(), Some("&=?a"));
        assert_eq!(handshake.query_value("empty").as_deref(), Some(""));
        assert_eq!(handshake.query_value("none"), None);
    }
}
