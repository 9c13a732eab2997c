//! Sends requests to configured services: trade executors, webhook receivers and session backends.
//! All steps have limits.
//!
//! The host name is resolved for each request, all addresses are checked, and the connection uses
//! only checked addresses. So a name that resolves to the private network, now or later, is never
//! contacted. Redirects are not followed.

use std::{
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, pki_types::ServerName};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

use super::jwt::tls_client;

/// A configured service.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    /// The section of the configuration, for messages.
    pub(crate) section: &'static str,
    pub(crate) url: &'a str,
    /// PEM certificates of trusted authorities. Default: the authorities that this machine trusts.
    pub(crate) ca_file: Option<&'a Path>,
    /// The timeout of one request.
    pub(crate) timeout: Duration,
    /// Whether private addresses and requests without TLS are allowed.
    pub(crate) allow_private: bool,
}

/// A client for one service.
pub(crate) struct Outbound {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
    timeout: Duration,
    allows_private: bool,
}

/// The reason why there is no response.
#[derive(Debug)]
pub(crate) enum SendError {
    /// The address must not be contacted.
    Refused(&'static str),
    Connect(io::Error),
    /// The connection ended, or the response is not HTTP.
    Broken {
        was_sent: bool,
        why: String,
    },
    TooLate {
        was_sent: bool,
    },
}

impl SendError {
    /// Returns whether no part of the request can have arrived.
    pub(crate) fn is_before_sending(&self) -> bool {
        match self {
            Self::Refused(_) | Self::Connect(_) => true,
            Self::Broken { was_sent, .. } | Self::TooLate { was_sent } => !was_sent,
        }
    }
}

impl fmt::Display for SendError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(why) => f.write_str(why),
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::Broken { why, .. } => write!(f, "no answer: {why}"),
            Self::TooLate { .. } => f.write_str("no answer in time"),
        }
    }
}

/// A configuration error of a service, including the name of the option.
#[derive(Debug)]
pub(crate) struct OutboundFault(pub(crate) String);

impl fmt::Display for OutboundFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl std::error::Error for OutboundFault {}

impl Outbound {
    /// Creates a client.
    ///
    /// # Errors
    ///
    /// If requests to this URL are impossible or not allowed.
    pub(crate) fn new(target: Target<'_>) -> Result<Self, OutboundFault> {
        let section = target.section;
        Self::parse(target).map_err(|why| OutboundFault(format!("{section}.url: {why}")))
    }

    fn parse(target: Target<'_>) -> Result<Self, String> {
        let uri: Uri = target
            .url
            .parse()
            .map_err(|_| "not an address".to_owned())?;
        let authority = uri
            .authority()
            .ok_or("not an address that begins with https://")?;
        // Credentials in a URL would appear in logs and error messages.
        if authority.as_str().contains('@') {
            return Err("an address with a user name or a password".into());
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let is_secure = match uri.scheme_str() {
            Some("https") => true,
            Some("http") if target.allow_private => false,
            Some("http") => {
                return Err(format!(
                    "http is for private addresses: use https, or set {}.allow_private",
                    target.section
                ));
            }
            Some(_) | None => return Err("not an address that begins with https://".into()),
        };
        let tls = is_secure.then(|| tls_client(target.ca_file));
        Ok(Self {
            port: authority
                .port_u16()
                .unwrap_or(if is_secure { 443 } else { 80 }),
            tls: tls.transpose()?,
            host,
            timeout: target.timeout,
            allows_private: target.allow_private,
            uri,
        })
    }

    /// Sends JSON and returns the response.
    pub(crate) async fn post(
        &self,
        headers: &HeaderMap,
        body: Vec<u8>,
    ) -> Result<(StatusCode, String), SendError> {
        let answer = self.send(Method::POST, headers, body, JSON, true).await?;
        Ok(text_of(&answer))
    }

    /// Sends a body of another type, and returns the response.
    #[cfg(feature = "otlp")]
    pub(crate) async fn post_as(
        &self,
        content_type: &'static str,
        headers: &HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response<Bytes>, SendError> {
        let sending = self.send(Method::POST, headers, body, content_type, true);
        sending.await
    }

    /// Sends a request that another library has made, and returns the response.
    #[cfg(feature = "acme")]
    pub(crate) async fn forward(
        &self,
        method: Method,
        headers: &HeaderMap,
        body: Vec<u8>,
    ) -> Result<Response<Bytes>, SendError> {
        self.send(method, headers, body, JSON, true).await
    }

    /// Sends a GET request and returns the response.
    pub(crate) async fn get(&self, headers: &HeaderMap) -> Result<(StatusCode, String), SendError> {
        let answer = self.send(Method::GET, headers, Vec::new(), JSON, true);
        Ok(text_of(&answer.await?))
    }

    /// Sends JSON and returns the status of the response. The body is not read.
    pub(crate) async fn notify(
        &self,
        headers: &HeaderMap,
        body: Vec<u8>,
    ) -> Result<StatusCode, SendError> {
        let answered = self.send(Method::POST, headers, body, JSON, false).await;
        answered.map(|answer| answer.status())
    }

    /// Connects, with TLS if configured, and sends nothing.
    pub(crate) async fn reach(&self) -> Result<(), SendError> {
        let reaching = async {
            let stream = self.connect().await?;
            match &self.tls {
                Some(tls) => self.encrypt(tls, stream).await.map(drop),
                None => Ok(()),
            }
        };
        let late = SendError::TooLate { was_sent: false };
        timeout(self.timeout, reaching).await.unwrap_or(Err(late))
    }

    async fn encrypt(
        &self,
        tls: &Arc<ClientConfig>,
        stream: TcpStream,
    ) -> Result<TlsStream<TcpStream>, SendError> {
        let name = ServerName::try_from(self.host.clone())
            .map_err(|error| SendError::Connect(io::Error::other(error)))?;
        let connector = TlsConnector::from(Arc::clone(tls));
        connector
            .connect(name, stream)
            .await
            .map_err(SendError::Connect)
    }

    async fn send(
        &self,
        method: Method,
        headers: &HeaderMap,
        body: Vec<u8>,
        content_type: &'static str,
        reads_body: bool,
    ) -> Result<Response<Bytes>, SendError> {
        let is_sent = AtomicBool::new(false);
        let sending = async {
            let request = self.request(method, headers, body, content_type);
            let stream = self.connect().await?;
            let Some(tls) = &self.tls else {
                return exchange(stream, request, &is_sent, reads_body).await;
            };
            let stream = self.encrypt(tls, stream).await?;
            exchange(stream, request, &is_sent, reads_body).await
        };
        // One timeout covers lookup, handshake and response, so that no step can wait forever.
        let answer = timeout(self.timeout, sending).await;
        answer.unwrap_or_else(|_| {
            let was_sent = is_sent.load(Ordering::Relaxed);
            Err(SendError::TooLate { was_sent })
        })
    }

    fn request(
        &self,
        method: Method,
        headers: &HeaderMap,
        body: Vec<u8>,
        content_type: &'static str,
    ) -> Request<Full<Bytes>> {
        let path = self.uri.path_and_query();
        let path = path.map_or("/", |path| path.as_str());
        let host = self.uri.authority().map_or("", |host| host.as_str());
        let request_has_body = !body.is_empty();
        let mut request = Request::new(Full::new(Bytes::from(body)));
        *request.method_mut() = method;
        *request.uri_mut() = path.parse().unwrap_or_default();
        let all = request.headers_mut();
        all.extend(headers.clone());
        // The authority of a URL contains only bytes that are valid in a header.
        if let Ok(host) = HeaderValue::from_str(host) {
            all.insert(header::HOST, host);
        }
        if request_has_body {
            let content_type = HeaderValue::from_static(content_type);
            all.entry(header::CONTENT_TYPE).or_insert(content_type);
        }
        for (name, value) in [
            (header::ACCEPT, content_type),
            (
                header::USER_AGENT,
                concat!("roomcast/", env!("CARGO_PKG_VERSION")),
            ),
        ] {
            all.entry(name).or_insert(HeaderValue::from_static(value));
        }
        all.insert(header::CONNECTION, HeaderValue::from_static("close"));
        request
    }

    /// Connects to one of the host's addresses, all of which must be allowed.
    async fn connect(&self) -> Result<TcpStream, SendError> {
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let addresses: Vec<SocketAddr> = found.map_err(SendError::Connect)?.collect();
        // All addresses are checked, because the network determines which one is used.
        if !self.allows_private && !addresses.iter().all(|address| is_public(address.ip())) {
            return Err(SendError::Refused(
                "its address is not on the public internet",
            ));
        }
        // The connection uses the checked addresses, because the name can resolve differently by
        // now.
        let stream = TcpStream::connect(&*addresses).await;
        stream.map_err(SendError::Connect)
    }
}

/// Sends a request over a connection, closes the connection, and returns the response.
async fn exchange(
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
    request: Request<Full<Bytes>>,
    is_sent: &AtomicBool,
    reads_body: bool,
) -> Result<Response<Bytes>, SendError> {
    let broken = |error: &dyn fmt::Display| SendError::Broken {
        was_sent: is_sent.load(Ordering::Relaxed),
        why: error.to_string(),
    };
    let handshake = http1::handshake(TokioIo::new(stream)).await;
    let (mut sender, connection) = handshake.map_err(|error| broken(&error))?;
    let exchanging = async {
        // From here on, the service may have processed the request, so it is never reported as
        // unsent.
        is_sent.store(true, Ordering::Relaxed);
        let response = sender.send_request(request).await;
        let response = response.map_err(|error| broken(&error))?;
        let (head, body) = response.into_parts();
        if !reads_body {
            return Ok(Response::from_parts(head, Bytes::new()));
        }
        // An endless response must not fill the server's memory.
        let body = Limited::new(body, MAX_BYTES).collect().await;
        let body = body.map_err(|error| broken(&error))?.to_bytes();
        Ok(Response::from_parts(head, body))
    };
    // The connection is driven by this function and ends with it, even on cancellation.
    let mut connection = std::pin::pin!(connection);
    let mut exchanging = std::pin::pin!(exchanging);
    tokio::select! {
        biased;
        answer = &mut exchanging => answer,
        // The response may still be buffered when the connection ends without an error.
        ended = &mut connection => match ended {
            Ok(()) => exchanging.await,
            Err(error) => Err(broken(&error)),
        },
    }
}

/// Returns the status and the text of a response.
fn text_of(answer: &Response<Bytes>) -> (StatusCode, String) {
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    (answer.status(), text)
}

/// Returns whether an address is on the public internet.
///
/// Addresses in IANA's special-purpose registries (RFC 6890), multicast addresses, and IPv6
/// addresses that embed such IPv4 addresses are not public.
fn is_public(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_public_v4(address),
        IpAddr::V6(address) => is_public_v6(address),
    }
}

fn is_public_v4(address: Ipv4Addr) -> bool {
    let [a, b, c, _] = address.octets();
    !(a == 0
        || address.is_private()
        || address.is_loopback()
        || address.is_link_local()
        || address.is_documentation()
        || (a == 100 && (64..128).contains(&b))
        || (a == 192 && b == 0 && c == 0)
        || (a == 192 && b == 88 && c == 99)
        || (a == 198 && (18..20).contains(&b))
        || a >= 224)
}

fn is_public_v6(address: Ipv6Addr) -> bool {
    let segments = address.segments();
    let [a, b, ..] = segments;
    if let Some(inner) = address.to_ipv4_mapped() {
        return is_public_v4(inner);
    }
    let inner = |high: u16, low: u16| {
        let ([a, b], [c, d]) = (high.to_be_bytes(), low.to_be_bytes());
        is_public_v4(Ipv4Addr::new(a, b, c, d))
    };
    match (a, b) {
        // NAT64 and 6to4 addresses are routed to the embedded IPv4 address.
        (0x64, 0xff9b) => segments[2..6] == [0; 4] && inner(segments[6], segments[7]),
        (0x2002, _) => inner(b, segments[2]),
        // Teredo, benchmarking, ORCHID and documentation prefixes contain no host addresses.
        (0x2001, b) if b < 0x200 || b == 0xdb8 => false,
        (0x3fff, b) if b < 0x1000 => false,
        // Of the rest, only global unicast addresses are assigned.
        (a, _) => a & 0xe000 == 0x2000,
    }
}

/// The type of bodies, unless another is given.
const JSON: &str = "application/json";
/// Maximum bytes of a response.
const MAX_BYTES: usize = 64 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_on_the_public_internet_are_public() {
        for public in [
            "1.1.1.1",
            "100.63.0.1",
            "172.32.0.1",
            "192.0.1.1",
            "223.255.255.255",
            "2606:4700::1111",
            "2001:4860::8888",
            "::ffff:1.1.1.1",
            "64:ff9b::101:101",
            "2002:101:101::1",
        ] {
            assert!(is_public(public.parse().unwrap()), "{public}");
        }
        for private in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.0.1",
            "169.254.169.254",
            "172.16.0.1",
            "192.0.0.8",
            "192.0.2.1",
            "192.168.1.1",
            "198.18.0.1",
            "198.51.100.1",
            "203.0.113.1",
            "224.0.0.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::7f00:1",
            "::ffff:127.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "3fff::1",
            "fc00::1",
            "fd00::1",
            "fe80::1",
            "fec0::1",
            "ff02::1",
        ] {
            assert!(!is_public(private.parse().unwrap()), "{private}");
        }
    }

    #[test]
    fn error_states_whether_any_byte_was_sent() {
        assert!(SendError::Refused("private").is_before_sending());
        assert!(SendError::TooLate { was_sent: false }.is_before_sending());
        assert!(!SendError::TooLate { was_sent: true }.is_before_sending());
    }

    #[test]
    fn target_url_is_https_or_explicitly_allowed_http() {
        let target = |url, allow_private| Target {
            section: "webhooks",
            url,
            ca_file: None,
            timeout: Duration::from_secs(1),
            allow_private,
        };
        assert!(Outbound::new(target("http://127.0.0.1:9/x", true)).is_ok());
        for (url, allow_private) in [
            ("http://broker.example/", false),
            ("ftp://broker.example/", true),
            ("https://u:p@broker.example/", true),
            ("/trades", true),
            ("", true),
        ] {
            assert!(Outbound::new(target(url, allow_private)).is_err(), "{url}");
        }
    }
}
