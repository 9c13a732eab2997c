use std::{io, net::SocketAddr, time::Duration};

use http::Uri;
use roomcast_protocol::socket::Parser;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

use super::{ClientError, stream::Stream};

/// Options of a connection.
///
/// As in the official client, the path of the URL is the namespace. The path of the HTTP requests
/// is a separate option.
#[derive(Clone, Debug)]
pub struct Options {
    /// `http://host:port/namespace?query`. The scheme may also be `ws` or absent, or `https` and
    /// `wss` with the feature `client-tls`.
    pub url: String,
    /// The server's address, if known. It saves a name lookup per connection. Default is none.
    pub address: Option<SocketAddr>,
    /// Path of the HTTP requests. Default is `/socket.io/`.
    pub path: String,
    /// The namespace. Default is the path of the URL, or `/`.
    pub namespace: Option<String>,
    /// The transports. Default is [`Transports::WebSocket`].
    pub transports: Transports,
    /// The packet format, which must match the server's. Default is [`Parser::Json`].
    pub parser: Parser,
    /// The payload of `CONNECT` for the server's authentication; must be an object. Default is
    /// none.
    pub auth: Option<Value>,
    /// Additional query parameters. Default is none.
    pub query: Vec<(String, String)>,
    /// Additional request headers. Default is none.
    pub headers: Vec<(String, String)>,
    /// Timeout from the TCP connection to the answer of the namespace, and of each HTTP request.
    /// Default is 20 s.
    pub connect_timeout: Duration,
    /// Maximum size of a message or polling response of the server, in bytes. Default is 16 MiB.
    pub max_message: usize,
    /// Maximum size of unsent data, in bytes. Further packets fail with [`ClientError::Full`].
    /// Default is 4 MiB.
    pub max_queued: usize,
    /// Minimum size of a compressed WebSocket message, in bytes. `None` offers the server no
    /// compression (permessage-deflate). Default is `None`.
    pub compression_threshold: Option<usize>,
    /// Size of the kernel's receive buffer in bytes. Default is the system's.
    pub receive_buffer: Option<u32>,
    /// The trusted certificates for TLS URLs. Default is those of the system.
    #[cfg(feature = "client-tls")]
    pub tls: Option<super::ClientTls>,
}

/// The transports that a client uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "all ways to use the two transports"
)]
pub enum Transports {
    /// WebSocket only.
    #[default]
    WebSocket,
    /// Long-polling only.
    Polling,
    /// Long-polling first, then WebSocket if the server offers it. The default of browsers.
    Upgrade,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            url: "http://localhost:3000".into(),
            address: None,
            path: "/socket.io/".into(),
            namespace: None,
            transports: Transports::default(),
            parser: Parser::default(),
            auth: None,
            query: Vec::new(),
            headers: Vec::new(),
            connect_timeout: Duration::from_secs(20),
            max_message: 16 << 20,
            max_queued: 4 << 20,
            compression_threshold: None,
            receive_buffer: None,
            #[cfg(feature = "client-tls")]
            tls: None,
        }
    }
}

impl Options {
    /// Returns the options for this URL, with defaults for the rest.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ..Self::default()
        }
    }

    /// Resolves the server's name once, so that many clients can share the address.
    ///
    /// Connects once to find an address that accepts connections.
    ///
    /// # Errors
    /// Fails if the options are invalid or no server accepts the connection in time.
    pub async fn resolve(self) -> Result<Self, ClientError> {
        let target = Target::new(self)?;
        let time_limit = target.options.connect_timeout;
        let connected = tokio::time::timeout(time_limit, target.connect_plain()).await;
        let stream = connected.map_err(|_| ClientError::Timeout("connecting"))??;
        Ok(Self {
            address: Some(stream.peer_addr().map_err(ClientError::Unreachable)?),
            ..target.options
        })
    }
}

/// The validated form of [`Options`], as used by requests.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    host: String,
    port: u16,
    pub(super) options: Options,
    /// The value of the header `Host`.
    pub(super) authority: String,
    /// Path and query without `transport` and `sid`. Ends with `EIO=4`.
    base: String,
    pub(super) namespace: String,
    #[cfg(feature = "client-tls")]
    tls: Option<(super::ClientTls, rustls::pki_types::ServerName<'static>)>,
}

impl Target {
    pub(super) fn new(options: Options) -> Result<Self, ClientError> {
        let wrong = |reason: String| ClientError::Options(reason);
        let url = &options.url;
        let text = if url.contains("://") {
            url.clone()
        } else {
            format!("http://{url}")
        };
        let uri: Uri = text
            .parse()
            .map_err(|error| wrong(format!("{url:?} is not a URL: {error}")))?;
        let is_secure = match uri.scheme_str() {
            Some("http" | "ws") => false,
            Some("https" | "wss") => true,
            Some(_) | None => {
                let known = "only http, ws, https and wss are known";
                return Err(wrong(format!("{url}: {known}")));
            }
        };
        if is_secure && cfg!(not(feature = "client-tls")) {
            return Err(wrong(format!("{url}: TLS needs the feature `client-tls`")));
        }
        let authority = uri
            .authority()
            .ok_or_else(|| wrong(format!("{url} names no host")))?;
        if authority.as_str().contains('@') {
            return Err(wrong("the URL must not hold a user or password".into()));
        }
        let host = authority.host().trim_matches(['[', ']']).to_owned();
        let path = format!("/{}/", options.path.trim_matches('/')).replace("//", "/");
        let start = path.len() + 1;
        let mut query = form_urlencoded::Serializer::for_suffix(format!("{path}?"), start);
        query.extend_pairs(form_urlencoded::parse(
            uri.query().unwrap_or_default().as_bytes(),
        ));
        let base = query
            .extend_pairs(&options.query)
            .append_pair("EIO", "4")
            .finish();
        // A space or a line break would end the request target.
        let is_visible = |text: &str| text.bytes().all(|byte| byte.is_ascii_graphic());
        if !is_visible(&base) {
            return Err(wrong(format!("{path:?} cannot be the path of a request")));
        }
        let namespace = match options.namespace.as_deref().unwrap_or_else(|| uri.path()) {
            "" | "/" => "/".to_owned(),
            name if name.starts_with('/') => name.to_owned(),
            name => format!("/{name}"),
        };
        for (name, value) in &options.headers {
            if http::HeaderName::try_from(name).is_err()
                || http::HeaderValue::try_from(value).is_err()
            {
                return Err(wrong(format!(
                    "{name:?} is not a valid header name, or its value is invalid"
                )));
            }
        }
        if options.auth.as_ref().is_some_and(|auth| !auth.is_object()) {
            return Err(wrong("auth must be a JSON object".into()));
        }
        #[cfg(feature = "client-tls")]
        let tls = match (is_secure, &options.tls) {
            (false, _) => None,
            (true, Some(tls)) => Some((tls.clone(), super::ClientTls::name(&host)?)),
            (true, None) => {
                let name = super::ClientTls::name(&host)?;
                Some((super::ClientTls::native_roots()?, name))
            }
        };
        let usual = if is_secure { 443 } else { 80 };
        Ok(Self {
            host,
            port: authority.port_u16().unwrap_or(usual),
            authority: authority.as_str().to_owned(),
            base,
            namespace,
            #[cfg(feature = "client-tls")]
            tls,
            options,
        })
    }

    /// Returns the path and query of a request.
    pub(super) fn request(&self, transport: &str, sid: Option<&str>) -> String {
        let mut query = form_urlencoded::Serializer::for_suffix(self.base.clone(), 0);
        query.append_pair("transport", transport);
        query.extend_pairs(sid.map(|sid| ("sid", sid)));
        query.finish()
    }

    /// Opens a connection, encrypted if the URL requires it.
    pub(super) async fn connect(&self) -> Result<Stream, ClientError> {
        let stream = self.connect_plain().await?;
        #[cfg(feature = "client-tls")]
        if let Some((tls, name)) = &self.tls {
            let encrypted = tls.encrypt(stream, name.clone()).await?;
            return Ok(Stream::Tls(Box::new(encrypted)));
        }
        Ok(Stream::Plain(stream))
    }

    /// Connects to the first of the host's addresses that accepts the connection.
    async fn connect_plain(&self) -> Result<TcpStream, ClientError> {
        if let Some(address) = self.options.address {
            return self.connect_to(address).await;
        }
        let found = tokio::net::lookup_host((self.host.as_str(), self.port)).await;
        let mut error = io::Error::other("the name has no address");
        for address in found.map_err(ClientError::Unreachable)? {
            match self.connect_to(address).await {
                Err(ClientError::Unreachable(reason)) => error = reason,
                result => return result,
            }
        }
        Err(ClientError::Unreachable(error))
    }

    async fn connect_to(&self, address: SocketAddr) -> Result<TcpStream, ClientError> {
        let connect = async {
            let socket = if address.is_ipv4() {
                TcpSocket::new_v4()?
            } else {
                TcpSocket::new_v6()?
            };
            if let Some(size) = self.options.receive_buffer {
                socket.set_recv_buffer_size(size)?;
            }
            let stream = socket.connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        connect.await.map_err(ClientError::Unreachable)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, String> {
        Target::new(Options::new(url)).map_err(|error| error.to_string())
    }

    #[test]
    fn a_url_names_host_namespace_and_query() {
        let target = target("http://localhost:8080/chat?a=b%20c").unwrap();
        assert_eq!((target.host.as_str(), target.port), ("localhost", 8080));
        assert_eq!(target.namespace, "/chat");
        assert_eq!(
            target.request("polling", Some("x y")),
            "/socket.io/?a=b+c&EIO=4&transport=polling&sid=x+y"
        );
    }

    #[test]
    fn scheme_and_port_may_be_left_out() {
        let plain = target("example.org").unwrap();
        assert_eq!((plain.host.as_str(), plain.port), ("example.org", 80));
        assert_eq!(plain.namespace, "/");
        assert_eq!(target("[::1]:3000").unwrap().host, "::1");
    }

    #[test]
    fn invalid_options_are_refused_with_a_reason() {
        for (url, reason) in [
            #[cfg(not(feature = "client-tls"))]
            ("https://localhost", "TLS"),
            #[cfg(feature = "client-tls")]
            ("https://a_b!", "name of a server"),
            ("ftp://localhost", "only http"),
            ("http://", "is not a URL"),
            ("http://user:pass@localhost", "user or password"),
            ("http://a b", "is not a URL"),
        ] {
            let error = target(url).unwrap_err();
            assert!(error.contains(reason), "{url}: {error}");
        }
        let with = |change: fn(&mut Options)| {
            let mut options = Options::default();
            change(&mut options);
            Target::new(options).unwrap_err().to_string()
        };
        assert!(with(|o| o.path = "/a b/".into()).contains("path of a request"));
        assert!(with(|o| o.auth = Some(Value::from(1))).contains("object"));
        assert!(with(|o| o.headers = vec![("X".into(), "a\r\nb".into())]).contains("header"));
    }
}
