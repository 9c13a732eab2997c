//! Connections to other servers. Each connection verifies the identity of the server before it
//! carries client requests.

use std::{
    collections::HashMap,
    error::Error,
    fmt,
    future::poll_fn,
    io,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use http::{HeaderName, Uri, header};
use hyper_util::{client::legacy::connect::HttpConnector, rt::TokioIo};
use parking_lot::Mutex;
use roomcast_protocol::Tag;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
    time::{Instant, timeout},
};
use tower_service::Service;

use super::{
    Directory, Owner,
    identity::{CHALLENGE, Challenge, Claim, IDENTITY},
};
use crate::{
    limit::LogThrottle,
    metrics::{Counter, Metrics},
};

/// Timeout for establishing a connection.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// Timeout for the proof of the server's identity.
const PROOF_TIMEOUT: Duration = Duration::from_secs(2);
/// Delay before a server that failed to prove its identity is contacted again. Verified
/// connections continue.
const RETRY_DELAY: Duration = Duration::from_secs(5);
/// Maximum size of a response to a challenge, in bytes.
const MAX_RESPONSE: usize = 2048;
/// Maximum number of headers of a response to a challenge.
const MAX_HEADERS: usize = 32;

type BoxError = Box<dyn Error + Send + Sync>;

/// Connects to other servers. The host of a URI is the tag of the server ([`pool_name`]):
/// connections are pooled per server and not per address, because each is verified for one server.
#[derive(Clone)]
pub(super) struct NodeConnector(Arc<Inner>);

struct Inner {
    http: HttpConnector,
    directory: Arc<dyn Directory>,
    /// The path at which servers answer challenges.
    path: Box<str>,
    /// When connecting to a server is allowed again, by its tag.
    paused: Mutex<HashMap<Tag, Instant>>,
    log_throttle: LogThrottle,
    metrics: Arc<Metrics>,
}

/// Why a connection is not used.
#[derive(Debug)]
pub(super) enum IdentityError {
    /// No server is known with this tag.
    Unowned,
    /// The server recently failed to prove its identity.
    Delayed,
    /// The response did not arrive in time.
    Timeout,
    /// The connection broke during the exchange.
    Io(io::Error),
    /// The response is not a valid proof.
    Wrong,
    /// The operating system provided no random bytes.
    Random,
}

impl fmt::Display for IdentityError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unowned => f.write_str("the server is unknown"),
            Self::Delayed => f.write_str("the server did not prove its identity"),
            Self::Timeout => f.write_str("the server sent no proof within two seconds"),
            Self::Io(error) => write!(f, "no proof: {error}"),
            Self::Wrong => f.write_str("the response is not a valid proof"),
            Self::Random => f.write_str("the operating system returned no random bytes"),
        }
    }
}

impl Error for IdentityError {}

impl From<io::Error> for IdentityError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// Returns the host in the URIs of requests to the server with this tag. It is the tag in
/// hexadecimal, because hosts ignore case and tags do not.
pub(super) fn pool_name(tag: Tag) -> String {
    let bytes = tag.as_str().bytes();
    bytes.map(|byte| format!("{byte:02x}")).collect()
}

fn tag_of(host: &str) -> Option<Tag> {
    let digits = host.as_bytes().chunks(2);
    let bytes = digits.map(|pair| u8::from_str_radix(std::str::from_utf8(pair).ok()?, 16).ok());
    let bytes: Option<Vec<u8>> = bytes.collect();
    Tag::parse(std::str::from_utf8(&bytes?).ok()?)
}

impl NodeConnector {
    pub(super) fn new(directory: Arc<dyn Directory>, path: &str, metrics: &Arc<Metrics>) -> Self {
        let mut http = HttpConnector::new();
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        // A request is written completely; waiting for more data would only delay it.
        http.set_nodelay(true);
        Self(Arc::new(Inner {
            http,
            directory,
            path: path.into(),
            paused: Mutex::default(),
            log_throttle: LogThrottle::default(),
            metrics: Arc::clone(metrics),
        }))
    }
}

impl Inner {
    async fn connect(&self, uri: Uri) -> Result<TokioIo<TcpStream>, BoxError> {
        let tag = uri.host().and_then(tag_of).ok_or(IdentityError::Unowned)?;
        let owner = self.directory.owner(tag).ok_or(IdentityError::Unowned)?;
        if self.is_paused(tag) {
            return Err(IdentityError::Delayed.into());
        }
        let address = Uri::builder().scheme("http");
        let address = address.authority(owner.authority.clone());
        let address = address.path_and_query("/").build()?;
        let mut http = self.http.clone();
        poll_fn(|cx| http.poll_ready(cx)).await?;
        let mut stream = http.call(address).await?.into_inner();
        let proving = timeout(PROOF_TIMEOUT, self.challenge(&mut stream, tag, &owner));
        let proved = proving.await.unwrap_or(Err(IdentityError::Timeout));
        if let Err(error) = proved {
            self.note(tag, &owner, &error);
            return Err(error.into());
        }
        Ok(TokioIo::new(stream))
    }

    /// Requires the peer of a new connection to prove that it is the server with this tag. No
    /// client data is sent before that.
    async fn challenge(
        &self,
        stream: &mut TcpStream,
        tag: Tag,
        owner: &Owner,
    ) -> Result<(), IdentityError> {
        let authority = &owner.authority;
        let challenge = Challenge::draw(Claim { tag, authority }).ok_or(IdentityError::Random)?;
        let request = format!(
            "GET {} HTTP/1.1\r\nhost: {authority}\r\n{CHALLENGE}: {}\r\n\r\n",
            self.path,
            challenge.header()
        );
        stream.write_all(request.as_bytes()).await?;
        let mut response = Vec::with_capacity(MAX_RESPONSE / 4);
        loop {
            let left = MAX_RESPONSE.saturating_sub(response.len());
            let left = u64::try_from(left).unwrap_or_default();
            // At the limit nothing is read, which ends the exchange like a closed connection.
            if (&mut *stream).take(left).read_buf(&mut response).await? == 0 {
                return Err(IdentityError::Io(io::ErrorKind::UnexpectedEof.into()));
            }
            match is_proof(&response, |identity| {
                challenge.is_answered(&owner.key, identity)
            }) {
                Some(true) => return Ok(()),
                Some(false) => return Err(IdentityError::Wrong),
                None => {}
            }
        }
    }

    fn is_paused(&self, tag: Tag) -> bool {
        let paused = self.paused.lock();
        paused
            .get(&tag)
            .is_some_and(|until| *until > Instant::now())
    }

    /// Records that a server failed to prove its identity.
    fn note(&self, tag: Tag, owner: &Owner, error: &IdentityError) {
        let now = Instant::now();
        {
            let mut paused = self.paused.lock();
            // Only currently known servers are paused, and their number is limited.
            paused.retain(|_, until| *until > now);
            paused.insert(tag, now + RETRY_DELAY);
        }
        self.metrics.count(Counter::NodesUnproved);
        if let Some(more) = self.log_throttle.permit() {
            tracing::warn!(
                address = %owner.authority, %error, more,
                "a server did not prove its identity, nothing is forwarded to it"
            );
        }
    }
}

/// Returns whether a response is a valid proof, or `None` while it is incomplete.
fn is_proof(response: &[u8], is_answer: impl FnOnce(&[u8]) -> bool) -> Option<bool> {
    let mut headers = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut head = httparse::Response::new(&mut headers);
    let end = match head.parse(response) {
        Ok(httparse::Status::Complete(end)) => end,
        Ok(httparse::Status::Partial) => return None,
        Err(_) => return Some(false),
    };
    let named = |name: HeaderName| {
        let headers = head.headers.iter();
        headers.filter(move |header| header.name.eq_ignore_ascii_case(name.as_str()))
    };
    let mut identities = named(IDENTITY);
    let (Some(identity), None) = (identities.next(), identities.next()) else {
        return Some(false);
    };
    // The connection is reused, so any further bytes would belong to the next response.
    let is_reusable = head.code == Some(204)
        && end == response.len()
        && named(header::CONNECTION).next().is_none();
    Some(is_reusable && is_answer(identity.value))
}

impl Service<Uri> for NodeConnector {
    type Response = TokioIo<TcpStream>;
    type Error = BoxError;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, BoxError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), BoxError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let inner = Arc::clone(&self.0);
        Box::pin(async move { inner.connect(uri).await })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pool_names_of_tags_that_differ_in_case_are_distinct() {
        for text in ["AAAAAAA_", "aaaaaaa_", "Aa0-_zZ9"] {
            let tag = Tag::parse(text).unwrap();
            assert_eq!(tag_of(&pool_name(tag)), Some(tag));
        }
        for host in ["", "41", "4141414141414", "zz41414141414141", "localhost"] {
            assert_eq!(tag_of(host), None, "{host}");
        }
    }

    #[test]
    fn a_response_counts_only_if_its_connection_can_be_used_afterwards() {
        let good = "HTTP/1.1 204 No Content\r\nX-Roomcast-Identity: x\r\n\r\n";
        let is_proof = |text: &str| is_proof(text.as_bytes(), |identity| identity == b"x");
        assert_eq!(is_proof(good), Some(true));
        for end in 0..good.len() {
            assert_eq!(is_proof(&good[..end]), None, "{end}");
        }
        for bad in [
            good.replace("204", "200"),
            good.replace(": x", ": y"),
            good.replace("Identity", "Identify"),
            good.replace("\r\n\r\n", "\r\nx-roomcast-identity: x\r\n\r\n"),
            good.replace("\r\n\r\n", "\r\nconnection: close\r\n\r\n"),
            format!("{good}H"),
            "nonsense\r\n\r\n".to_owned(),
        ] {
            assert_eq!(is_proof(&bad), Some(false), "{bad}");
        }
    }
}
