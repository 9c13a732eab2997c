//! Fetches a key set with a single request to a configured URL, with a limit on the size of the
//! response; callers of [`exchange`] limit its time. Commands of the binary use the same function
//! to call the HTTP API.

use std::{
    fmt, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, Uri, header};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, client::conn::http1};
use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpStream,
};
use tokio_rustls::TlsConnector;

/// The URL of a key set or of a server: `https`, or `http` if the host is a loopback address.
#[derive(Clone)]
pub(crate) struct JwksUrl {
    uri: Uri,
    host: String,
    port: u16,
    tls: Option<Arc<ClientConfig>>,
}

impl JwksUrl {
    /// Parses a URL. The certificate of the server must come from an authority in the file
    /// `authorities` or, without a file, from one that this machine trusts.
    pub(crate) fn parse(text: &str, authorities: Option<&Path>) -> Result<Self, UrlFault> {
        let uri: Uri = text.parse().map_err(|_| UrlFault::NotAUrl)?;
        let host = uri.host().ok_or(UrlFault::NotAUrl)?;
        let host = host.trim_matches(['[', ']']).to_owned();
        if uri
            .authority()
            .is_some_and(|authority| authority.as_str().contains('@'))
        {
            return Err(UrlFault::Credentials);
        }
        let secure = match uri.scheme_str() {
            Some("https") => true,
            // An attacker on the network could replace keys that are fetched without TLS, and then
            // impersonate any user.
            Some("http") if is_loopback(&host) => false,
            Some("http") => return Err(UrlFault::NotSecure),
            Some(_) | None => return Err(UrlFault::NotAUrl),
        };
        Ok(Self {
            port: uri.port_u16().unwrap_or(if secure { 443 } else { 80 }),
            tls: if secure {
                Some(tls(authorities)?)
            } else {
                None
            },
            host,
            uri,
        })
    }
}

fn is_loopback(host: &str) -> bool {
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

/// Returns a TLS client that trusts the authorities in a file or, without a file, those that this
/// machine trusts.
pub(crate) fn tls_client(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, String> {
    tls(authorities).map_err(|fault| match fault {
        UrlFault::Authorities(path, fault) => format!("{}: {fault}", path.display()),
        UrlFault::NotAUrl | UrlFault::NotSecure | UrlFault::Credentials | UrlFault::NoRoots => {
            fault.to_string()
        }
    })
}

fn tls(authorities: Option<&Path>) -> Result<Arc<ClientConfig>, UrlFault> {
    let roots = match authorities {
        Some(path) => read(path).map_err(|fault| UrlFault::Authorities(path.to_owned(), fault))?,
        None => {
            let mut roots = RootCertStore::empty();
            // Many machines have a few unreadable certificates. They are skipped.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
            roots
        }
    };
    if roots.is_empty() {
        return Err(UrlFault::NoRoots);
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|_| UrlFault::NoRoots)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    Ok(Arc::new(config))
}

/// Reads the certificates in a PEM file, which must contain at least one.
fn read(path: &Path) -> Result<RootCertStore, String> {
    let mut roots = RootCertStore::empty();
    let certificates = CertificateDer::pem_file_iter(path).map_err(|error| error.to_string())?;
    for certificate in certificates {
        let certificate = certificate.map_err(|error| error.to_string())?;
        roots.add(certificate).map_err(|error| error.to_string())?;
    }
    if roots.is_empty() {
        return Err("no certificate in it".into());
    }
    Ok(roots)
}

/// Shows the URL without the query, which can contain a secret.
impl fmt::Display for JwksUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = self.uri.scheme_str().unwrap_or_default();
        write!(
            f,
            "{scheme}://{}:{}{}",
            self.host,
            self.port,
            self.uri.path()
        )
    }
}

/// The reason why keys cannot be fetched from a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum UrlFault {
    NotAUrl,
    NotSecure,
    Credentials,
    NoRoots,
    /// The file with trusted authorities, and its error.
    Authorities(PathBuf, String),
}

impl fmt::Display for UrlFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Authorities(path, fault) => {
                return write!(f, "jwks_ca_file {}: {fault}", path.display());
            }
            Self::NotAUrl => "not an address that begins with https://",
            Self::NotSecure => "http is for loopback addresses; use https",
            Self::Credentials => "an address with a user name",
            Self::NoRoots => "this machine trusts no certificate authority",
        })
    }
}

impl std::error::Error for UrlFault {}

/// The reason why a fetch failed.
#[derive(Debug)]
pub(crate) enum FetchError {
    Connect(io::Error),
    Http(hyper::Error),
    Status(StatusCode),
    TooLarge(usize),
    Broken,
}

impl fmt::Display for FetchError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Connect(error) => write!(f, "cannot connect: {error}"),
            Self::Http(error) => write!(f, "no answer: {error}"),
            Self::Status(status) => write!(f, "answered {status}"),
            Self::TooLarge(bytes) => write!(f, "more than {bytes} bytes"),
            Self::Broken => f.write_str("the answer is broken"),
        }
    }
}

/// The body of a request.
pub(crate) type RequestBody = UnsyncBoxBody<Bytes, io::Error>;

/// Returns a body that is complete.
pub(crate) fn whole_body(body: Bytes) -> RequestBody {
    Full::new(body)
        .map_err(|never| match never {})
        .boxed_unsync()
}

/// Fetches the text at a URL. Redirects are not followed.
pub(in crate::auth) async fn fetch(url: &JwksUrl) -> Result<String, FetchError> {
    let path = url.uri.path_and_query().map_or("/", |path| path.as_str());
    let request = Request::get(path).body(whole_body(Bytes::new()));
    let request = request.map_err(|_| FetchError::Broken)?;
    let (status, text) = exchange(url, request, MAX_BYTES).await?;
    if status != StatusCode::OK {
        return Err(FetchError::Status(status));
    }
    Ok(text)
}

/// Sends one request and reads the text of the response, at most `max_bytes`. The caller must apply
/// a timeout.
pub(crate) async fn exchange(
    url: &JwksUrl,
    request: Request<RequestBody>,
    max_bytes: usize,
) -> Result<(StatusCode, String), FetchError> {
    let read = async |response: Response<Incoming>| {
        let status = response.status();
        // The length is limited while reading, because `Content-Length` may be wrong or missing.
        let body = Limited::new(response.into_body(), max_bytes)
            .collect()
            .await;
        let body = body.map_err(|error| {
            if error.is::<LengthLimitError>() {
                FetchError::TooLarge(max_bytes)
            } else {
                FetchError::Broken
            }
        })?;
        let text = String::from_utf8(body.to_bytes().into()).map_err(|_| FetchError::Broken)?;
        Ok((status, text))
    };
    request_with(url, request, read).await
}

/// Sends one request and reads the response with `read`, which must limit what it holds. The caller
/// must apply a timeout.
pub(crate) async fn request_with<T>(
    url: &JwksUrl,
    request: Request<RequestBody>,
    read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, FetchError>,
) -> Result<T, FetchError> {
    let stream = TcpStream::connect((url.host.as_str(), url.port))
        .await
        .map_err(FetchError::Connect)?;
    let Some(tls) = &url.tls else {
        return send(url, request, read, stream).await;
    };
    let name = ServerName::try_from(url.host.clone())
        .map_err(|error| FetchError::Connect(io::Error::other(error)))?;
    let connector = TlsConnector::from(Arc::clone(tls));
    let stream = connector.connect(name, stream).await;
    send(url, request, read, stream.map_err(FetchError::Connect)?).await
}

async fn send<T>(
    url: &JwksUrl,
    mut request: Request<RequestBody>,
    read: impl AsyncFnOnce(Response<Incoming>) -> Result<T, FetchError>,
    stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
) -> Result<T, FetchError> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream))
        .await
        .map_err(FetchError::Http)?;
    let responding = async {
        let authority = url
            .uri
            .authority()
            .map_or("", |authority| authority.as_str());
        let host = HeaderValue::from_str(authority).map_err(|_| FetchError::Broken)?;
        let headers = request.headers_mut();
        headers.insert(header::HOST, host);
        for (name, value) in [
            (header::ACCEPT, "application/json"),
            (header::CONNECTION, "close"),
            (
                header::USER_AGENT,
                concat!("roomcast/", env!("CARGO_PKG_VERSION")),
            ),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        let response = sender
            .send_request(request)
            .await
            .map_err(FetchError::Http)?;
        read(response).await
    };
    // The connection is driven by this function and ends with it, even on cancellation.
    let mut connection = std::pin::pin!(connection);
    let mut responding = std::pin::pin!(responding);
    tokio::select! {
        biased;
        answer = &mut responding => answer,
        // A server that refuses a body before its end closes the connection. Its answer was read
        // before.
        ended = &mut connection => match (responding.await, ended) {
            (Err(_), Err(error)) => Err(FetchError::Http(error)),
            (answer, _) => answer,
        },
    }
}

/// Maximum bytes of a key set.
const MAX_BYTES: usize = 256 << 10;
