use std::{io, net::SocketAddr, time::Duration};

use http::Uri;
use roomcast_protocol::socket::Parser;
use serde_json::Value;
use tokio::net::{TcpSocket, TcpStream};

use super::{ClientError, stream::Stream};

/// Where a client connects to, and how.
///
/// As with the original client, the path of the URL is the namespace, and the path of the HTTP
/// requests is an option of its own.
#[derive(Clone, Debug)]
pub struct Options {
    /// `http://host:port/namespace?query`, also with scheme `ws` or none; with the feature `client-tls`
    /// also `https` and `wss`.
    pub url: String,
    /// Where the server listens, if it is known; spares a name look-up for each connection.
    pub address: Option<SocketAddr>,
    /// Path of the HTTP requests; `/socket.io/`.
    pub path: String,
    /// The namespace; that of the URL, else `/`.
    pub namespace: Option<String>,
    /// Which transports are used; [`Transports::WebSocket`].
    pub transports: Transports,
    /// How packets are written, which must be how the server does it; [`Parser::Json`].
    pub parser: Parser,
    /// What the server's authentication gets with `CONNECT`; must be an object. None.
    pub auth: Option<Value>,
    /// Further query parameters. None.
    pub query: Vec<(String, String)>,
    /// Further request headers. None.
    pub headers: Vec<(String, String)>,
    /// From the TCP connection to the answer of the namespace; also for each HTTP request; 20 s.
    pub connect_timeout: Duration,
    /// Bytes of one message or polling answer of the server; 16 MiB.
    pub max_message: usize,
    /// Bytes that may wait to be sent; 4 MiB. Further packets are refused with
    /// [`ClientError::Full`].
    pub max_queued: usize,
    /// Size of the kernel's receive buffer in bytes; the system's choice.
    pub receive_buffer: Option<u32>,
    /// Which certificates are trusted where the URL wants TLS; those of the system.
    #[cfg(feature = "client-tls")]
    pub tls: Option<super::ClientTls>,
}

/// Which transports a client uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(
    clippy::exhaustive_enums,
    reason = "every way to use two transports that clients have"
)]
pub enum Transports {
    /// A WebSocket from the start.
    #[default]
    WebSocket,
    /// Long-polling only.
    Polling,
    /// Long-polling first, then a WebSocket if the server offers one: the default of browsers.
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
            receive_buffer: None,
            #[cfg(feature = "client-tls")]
            tls: None,
        }
    }
}

impl Options {
    /// The options for this URL, others as usual.
    #[must_use]
    pub fn new(url: impl Into<String>) -> Self {
        Self {
            url: url.into(),
            ..Self::default()
        }
    }

    /// Looks the server's name up once, so that many clients need not, and connects once to see which
    /// address answers.
    ///
    /// # Errors
    /// If the options cannot be used or nobody listens there.
    pub async fn resolve(mut self) -> Result<Self, ClientError> {
        let target = Target::new(&self)?;
        let connected = tokio::time::timeout(self.connect_timeout, target.connect_plain()).await;
        let stream = connected.map_err(|_| ClientError::Timeout("connecting"))??;
        self.address = Some(stream.peer_addr().map_err(ClientError::Unreachable)?);
        Ok(self)
    }
}

/// The checked form of [`Options`]: what requests consist of.
#[derive(Clone, Debug, Default)]
pub(super) struct Target {
    host: String,
    port: u16,
    address: Option<SocketAddr>,
    receive_buffer: Option<u32>,
    /// The value of the header `Host`.
    pub(super) authority: String,
    /// Path and query without `transport` and `sid`; ends with `EIO=4`.
    base: String,
    pub(super) namespace: String,
    pub(super) headers: Vec<(String, String)>,
    #[cfg(feature = "client-tls")]
    tls: Option<(super::ClientTls, rustls::pki_types::ServerName<'static>)>,
}

impl Target {
    pub(super) fn new(options: &Options) -> Result<Self, ClientError> {
        let wrong = |what: String| ClientError::Options(what);
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
        let mut base = format!("{path}?");
        for (name, value) in form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()) {
            push_query(&mut base, &name, &value);
        }
        for (name, value) in &options.query {
            push_query(&mut base, name, value);
        }
        base.push_str("EIO=4");
        // A space or a line break would end the target of the request.
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
                    "{name:?} is no header, or its value is none"
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
            address: options.address,
            receive_buffer: options.receive_buffer,
            authority: authority.as_str().to_owned(),
            base,
            namespace,
            headers: options.headers.clone(),
            #[cfg(feature = "client-tls")]
            tls,
        })
    }

    /// Path and query of a request.
    pub(super) fn request(&self, transport: &str, sid: Option<&str>) -> String {
        let mut target = format!("{}&transport={transport}", self.base);
        if let Some(sid) = sid {
            target.push('&');
            push_query(&mut target, "sid", sid);
            target.pop();
        }
        target
    }

    /// A new connection, encrypted if the URL says so.
    pub(super) async fn connect(&self) -> Result<Stream, ClientError> {
        let stream = self.connect_plain().await?;
        #[cfg(feature = "client-tls")]
        if let Some((tls, name)) = &self.tls {
            let encrypted = tls.encrypt(stream, name.clone()).await?;
            return Ok(Stream::Tls(Box::new(encrypted)));
        }
        Ok(Stream::Plain(stream))
    }

    /// A new connection, to the first of the name's addresses that takes it.
    async fn connect_plain(&self) -> Result<TcpStream, ClientError> {
        if let Some(address) = self.address {
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
            if let Some(size) = self.receive_buffer {
                socket.set_recv_buffer_size(size)?;
            }
            let stream = socket.connect(address).await?;
            stream.set_nodelay(true)?;
            Ok(stream)
        };
        connect.await.map_err(ClientError::Unreachable)
    }
}

/// Appends `name=value&`.
fn push_query(out: &mut String, name: &str, value: &str) {
    out.extend(form_urlencoded::byte_serialize(name.as_bytes()));
    out.push('=');
    out.extend(form_urlencoded::byte_serialize(value.as_bytes()));
    out.push('&');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn target(url: &str) -> Result<Target, String> {
        Target::new(&Options::new(url)).map_err(|error| error.to_string())
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
    fn what_cannot_work_is_refused_with_its_reason() {
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
            Target::new(&options).unwrap_err().to_string()
        };
        assert!(with(|o| o.path = "/a b/".into()).contains("path of a request"));
        assert!(with(|o| o.auth = Some(Value::from(1))).contains("object"));
        assert!(with(|o| o.headers = vec![("X".into(), "a\r\nb".into())]).contains("header"));
    }
}
