//! A record of the request that opened a session.

use std::{
    iter,
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use http::{Extensions, HeaderMap, HeaderValue, Uri, header};
use hyper::upgrade::OnUpgrade;
use parking_lot::Mutex;
use serde::{Serialize, Serializer, ser::SerializeStruct as _};
use serde_json::{Map, Value};

use crate::{engine::primitives::Peer, limit::Permit, time::javascript_date};

/// Data about the first request of a session, like `socket.handshake` of the official server.
///
/// Headers are copied into one allocation, up to
/// [`handshake_header_bytes`](crate::Config::handshake_header_bytes). Storing the parsed headers
/// would cost several KiB per connection.
///
/// It serializes as the official object without `auth`, which belongs to a namespace
/// ([`Socket::auth`](crate::Socket::auth)): `headers`, `time`, `address`, `xdomain`, `secure`,
/// `issued`, `url`, `query`. A repeated header is joined with commas; a repeated query parameter is
/// a list.
#[derive(Debug)]
pub struct Handshake {
    /// `name\0value\0` for each stored header. A value contains no zero byte (RFC 9110, 5.5).
    headers: Box<[u8]>,
    url: Box<str>,
    address: SocketAddr,
    opened: OpenedAt,
    secure: bool,
    trusted: bool,
    extensions: Extensions,
    /// The permit to open the session, until the session takes it.
    permit: Mutex<Option<Box<Permit>>>,
}

/// When a session was opened, in nanoseconds since 1970 (up to the year 2554). Half the size of a
/// `SystemTime`.
#[derive(Clone, Copy, Debug)]
struct OpenedAt(u64);

impl OpenedAt {
    fn new(time: SystemTime) -> Self {
        let since = time.duration_since(SystemTime::UNIX_EPOCH);
        let nanos = since.unwrap_or_default().as_nanos();
        Self(u64::try_from(nanos).unwrap_or(u64::MAX))
    }

    fn time(self) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_nanos(self.0)
    }
}

/// Headers that only concern the request itself.
const UNSTORED_HEADERS: [header::HeaderName; 9] = [
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

/// Headers that carry credentials. They are stored completely: a request with more than
/// [`MAX_CREDENTIAL_BYTES`] of them opens no session.
const CREDENTIAL_HEADERS: [header::HeaderName; 2] = [header::AUTHORIZATION, header::COOKIE];
/// Maximum total size of these headers, in bytes: enough for a token and the cookies of a site.
/// Node's limit for all headers together is the same.
const MAX_CREDENTIAL_BYTES: usize = 16 << 10;

/// The fault of a request's credential headers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::engine) enum CredentialsFault {
    /// There are several `Authorization` headers, and it is unclear which one counts.
    Ambiguous,
    /// The headers exceed [`MAX_CREDENTIAL_BYTES`].
    TooLarge,
}

/// Checks the credential headers. Headers that are too large or ambiguous must not be ignored,
/// because the client would then be treated as one without credentials.
pub(in crate::engine) fn check_credentials(headers: &HeaderMap) -> Result<(), CredentialsFault> {
    if headers.get_all(header::AUTHORIZATION).iter().count() > 1 {
        return Err(CredentialsFault::Ambiguous);
    }
    let values = CREDENTIAL_HEADERS
        .iter()
        .flat_map(|name| headers.get_all(name));
    if values.map(HeaderValue::len).sum::<usize>() > MAX_CREDENTIAL_BYTES {
        return Err(CredentialsFault::TooLarge);
    }
    Ok(())
}

/// Joins several `Cookie` headers into one (RFC 9113, 8.2.3), because HTTP/2 splits them.
pub(in crate::engine) fn merge_cookie_headers(headers: &mut HeaderMap) {
    let mut values = headers.get_all(header::COOKIE).iter();
    let (Some(first), Some(second)) = (values.next(), values.next()) else {
        return;
    };
    let mut joined = first.as_bytes().to_vec();
    for value in iter::once(second).chain(values) {
        joined.extend_from_slice(b"; ");
        joined.extend_from_slice(value.as_bytes());
    }
    if let Ok(joined) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, joined);
    }
}

impl Handshake {
    pub(crate) fn new(headers: &HeaderMap, uri: &Uri, peer: Peer, max_header_bytes: usize) -> Self {
        let mut stored = Vec::with_capacity(max_header_bytes.min(512));
        // Credentials are copied first and completely, so that many other headers cannot displace
        // them. `check_credentials` has already limited their size.
        for (are_credentials, limit) in [(true, usize::MAX), (false, max_header_bytes)] {
            let start = stored.len();
            for (name, value) in headers {
                if CREDENTIAL_HEADERS.contains(name) != are_credentials
                    || UNSTORED_HEADERS.contains(name)
                {
                    continue;
                }
                let len = name.as_str().len() + value.len() + 2;
                // A header that does not fit does not end the loop, because a shorter one after it
                // may fit.
                if stored.len() - start + len > limit {
                    continue;
                }
                stored.extend_from_slice(name.as_str().as_bytes());
                stored.push(0);
                stored.extend_from_slice(value.as_bytes());
                stored.push(0);
            }
        }
        Self {
            headers: stored.into(),
            url: uri.path_and_query().map_or("", |url| url.as_str()).into(),
            address: peer.address,
            opened: OpenedAt::new(SystemTime::now()),
            secure: peer.secure,
            trusted: false,
            extensions: Extensions::new(),
            permit: Mutex::default(),
        }
    }

    /// Sets whether the request comes from a page that may use its user's cookies.
    pub(in crate::engine) fn with_trust(self, trusted: bool) -> Self {
        Self { trusted, ..self }
    }

    /// Adds the request extensions that layers of the surrounding server have inserted.
    pub(in crate::engine) fn with_extensions(self, extensions: &Extensions) -> Self {
        let mut extensions = extensions.clone();
        // Redundant or consumed extensions are removed, because the rest is stored for the whole
        // session.
        #[cfg(feature = "axum")]
        {
            extensions.remove::<axum::extract::ConnectInfo<SocketAddr>>();
            extensions.remove::<axum::extract::OriginalUri>();
        }
        extensions.remove::<SocketAddr>();
        extensions.remove::<OnUpgrade>();
        // An emptied map keeps its allocation, which would live as long as the session.
        if extensions.is_empty() {
            extensions = Extensions::new();
        }
        Self { extensions, ..self }
    }

    /// Sets the permit to open a session, if there is one.
    pub(in crate::engine) fn with_permit(self, permit: Option<Permit>) -> Self {
        let permit = Mutex::new(permit.map(Box::new));
        Self { permit, ..self }
    }

    pub(in crate::engine) fn take_permit(&self) -> Option<Box<Permit>> {
        self.permit.lock().take()
    }

    /// Returns the stored headers that are UTF-8, with lower-case names, in their original order.
    pub fn headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.raw_headers()
            .filter_map(|(name, value)| Some((name, str::from_utf8(value).ok()?)))
    }

    /// Returns the first header of this (lower-case) name, if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.header_bytes(name)?).ok()
    }

    /// Returns the bytes of the first header of this (lower-case) name.
    #[must_use]
    pub fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        self.raw_headers().find(|(n, _)| *n == name).map(|(_, v)| v)
    }

    fn raw_headers(&self) -> impl Iterator<Item = (&str, &[u8])> {
        let mut parts = self.headers.split(|byte| *byte == 0);
        iter::from_fn(move || Some((parts.next()?, parts.next()?)))
            .filter_map(|(name, value)| Some((str::from_utf8(name).ok()?, value)))
    }

    /// Returns the path and query of the request, as sent.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Returns the decoded query parameters in their original order.
    pub fn query(&self) -> impl Iterator<Item = (String, String)> {
        let query = self.url.split_once('?').map_or("", |(_, query)| query);
        form_urlencoded::parse(query.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned()))
    }

    /// Returns the first query parameter of this name, decoded.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<String> {
        self.query().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// Returns the remote address of the connection.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Returns when the session was opened.
    #[must_use]
    pub fn time(&self) -> SystemTime {
        self.opened.time()
    }

    /// The size of the stored time, in bytes.
    #[cfg(test)]
    pub(crate) const TIME_BYTES: usize = size_of::<OpenedAt>();

    /// Returns the time of the handshake in milliseconds since 1970.
    #[must_use]
    pub fn issued(&self) -> u64 {
        self.opened.0 / 1_000_000
    }

    /// Returns whether the request has an `Origin` header, which browsers send for other sites.
    #[must_use]
    pub fn is_cross_origin(&self) -> bool {
        self.header("origin").is_some()
    }

    /// Returns whether the request comes from a page that may use its user's cookies.
    ///
    /// That is a page on the server's own host, or of an origin that
    /// [`Config::cors`](crate::Config::cors) lists. `false` for clients that are not browsers.
    /// Cookies of other requests prove nothing, because any page can make a browser send them.
    #[must_use]
    pub fn is_trusted_origin(&self) -> bool {
        self.trusted
    }

    /// Returns whether the connection was encrypted.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.secure
    }

    /// Returns an extension that a layer of the surrounding server added to the request, for
    /// example a login session.
    ///
    /// If the server is mounted in another server ([`Io::layer`](crate::Io::layer),
    /// [`Io::service`](crate::Io::service)), the session stores all extensions of the request that
    /// opened it. Extensions of later requests are not stored.
    ///
    /// Handlers can use the parameter [`Extension<T>`](crate::Extension).
    ///
    /// ```
    /// # use roomcast::{Connect, Io, Principal, Refusal};
    /// #[derive(Clone)]
    /// struct User(String); // what an outer layer has determined
    ///
    /// let io = Io::builder().namespace("/", |namespace| {
    ///     namespace.authenticate(async |connect: Connect| {
    ///         let user = connect.handshake().extension::<User>();
    ///         let user = user.ok_or_else(|| Refusal::unauthenticated("nobody is logged in"))?;
    ///         Ok::<_, Refusal>(Principal::new(&user.0))
    ///     })
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
        let mut handshake = serializer.serialize_struct("Handshake", 8)?;
        handshake.serialize_field("headers", &headers)?;
        handshake.serialize_field("time", &javascript_date(self.time()))?;
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
    fn headers_are_stored_except_those_of_the_upgrade() {
        let handshake = handshake(2048);
        assert_eq!(handshake.header("host"), Some("localhost"));
        assert_eq!(handshake.header("sec-websocket-key"), None);
        assert_eq!(handshake.headers().count(), 3);
        assert!(handshake.is_cross_origin());
    }

    #[test]
    fn credentials_are_stored_regardless_of_header_limit() {
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
    fn non_text_header_is_stored_as_bytes() {
        let mut headers = HeaderMap::new();
        let odd = HeaderValue::from_bytes(b"a=\xff; roomcast_token=t").unwrap();
        headers.insert("cookie", odd.clone());
        headers.insert(
            "x-name",
            HeaderValue::from_bytes("Zo\u{eb}".as_bytes()).unwrap(),
        );
        let peer = Peer {
            address: ([127, 0, 0, 1], 1).into(),
            secure: false,
        };
        let handshake = Handshake::new(&headers, &"/socket.io/".parse().unwrap(), peer, 100);
        assert_eq!(handshake.header_bytes("cookie"), Some(odd.as_bytes()));
        assert_eq!(handshake.header("cookie"), None);
        assert_eq!(
            handshake.headers().collect::<Vec<_>>(),
            [("x-name", "Zo\u{eb}")]
        );
    }

    #[test]
    fn several_cookie_headers_are_one_list() {
        let mut headers = HeaderMap::new();
        for value in ["a=1", "b=2; c=3", "d=4"] {
            headers.append("cookie", value.parse().unwrap());
        }
        merge_cookie_headers(&mut headers);
        let joined: Vec<_> = headers.get_all("cookie").iter().collect();
        assert_eq!(joined, ["a=1; b=2; c=3; d=4"]);
    }

    #[test]
    fn headers_over_the_limit_are_omitted() {
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
            opened: OpenedAt(1_700_000_000_123_000_000),
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
    fn query_parameters_are_returned_decoded() {
        let handshake = handshake(0);
        assert_eq!(handshake.query_value("a&b").as_deref(), Some("&=?a"));
        assert_eq!(handshake.query_value("empty").as_deref(), Some(""));
        assert_eq!(handshake.query_value("none"), None);
    }
}
