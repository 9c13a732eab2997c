//! Requests of sessions that are open at another server of the cluster: how servers prove to each other
//! that they are servers, and the connections between them. The server that is called proves itself first
//! ([`identity`]), once for each connection; then each request has a proof of the caller ([`proof`]).
//!
//! Sessions take the tag in their ids from this module, and HTTP hands requests on by it. It must
//! not know either of them, and of the cluster only a function that tells where a tag's server is.

mod connector;
mod identity;
mod outgoing;
mod places;
mod proof;

use std::{error::Error, fmt, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, Uri, header, uri::Authority};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::{Body as _, Incoming};
use hyper_util::{
    client::legacy::Client,
    rt::{TokioExecutor, TokioTimer},
};
use roomcast_protocol::Tag;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, watch},
    time::timeout,
};

use crate::{limit::LogThrottle, metrics::Metrics};

pub(crate) use self::places::Bounds;
use self::{
    connector::{NodeConnector, pool_name},
    identity::Claim,
    places::Places,
};
pub(in crate::engine) use self::{
    identity::{CHALLENGE, IDENTITY},
    outgoing::{Outgoing, Pieces},
    proof::{HEADER, Said, Unproved, sign},
};

/// The header by which a server says for how many milliseconds a poll that it hands on should wait at most. It is heeded
/// with a proof alone; servers of the version before let the poll wait for as long as it wants.
pub(in crate::engine) const HOLD: http::HeaderName =
    http::HeaderName::from_static("x-roomcast-hold");
/// Connections to one server that are kept without a request.
const MAX_IDLE: usize = 256;
/// How long they are kept: less than the shortest time for which a server waits for the next request.
const IDLE: Duration = Duration::from_secs(3);
/// The time between two looks whether the server that is waited for is still there.
const LOOK: Duration = Duration::from_secs(1);
/// Bytes of answers of other servers that are in memory at the same time, beyond one of the largest kind.
const MAX_ANSWERS: usize = 64 << 20;
/// What one permit of these bytes stands for.
const UNIT: usize = 1024;

/// Another server, and the key with which requests are signed that go there.
#[derive(Clone)]
pub(crate) struct Owner {
    authority: Authority,
    key: [u8; 32],
    /// For how long that server has been running; `None` if it reads no times.
    uptime: Option<Duration>,
}

/// What the servers of the cluster have told of themselves.
pub(crate) trait Directory: Send + Sync {
    /// The other server that has sessions with this tag.
    fn owner(&self, tag: Tag) -> Option<Owner>;
    /// For how long this server has been running.
    fn uptime(&self) -> Duration;
    /// Whether one of the others hands requests on without saying when.
    fn has_untimed(&self) -> bool;
}

impl Owner {
    /// The server at this address, if that is `http://HOST:PORT`.
    pub(crate) fn new(address: &str, key: [u8; 32], uptime: Option<Duration>) -> Option<Self> {
        Some(Self {
            authority: authority(address)?,
            key,
            uptime,
        })
    }
}

/// Returns the host and port of an address `http://HOST:PORT`.
fn authority(address: &str) -> Option<Authority> {
    let authority: Authority = address.strip_prefix("http://")?.parse().ok()?;
    // Parsing a number accepts a sign in front, which no port has.
    let is_number = |port: &str| port.bytes().all(|byte| byte.is_ascii_digit());
    let port = authority.port().filter(|port| is_number(port.as_str()));
    let is_plain = port.is_some_and(|port| port.as_u16() > 0)
        && !authority.host().is_empty()
        && !authority.as_str().contains('@');
    is_plain.then_some(authority)
}

/// Returns the URI of a request with this target for the server with this tag.
fn uri(tag: Tag, target: &str) -> Option<Uri> {
    let uri = Uri::builder().scheme("http");
    let uri = uri.authority(pool_name(tag));
    uri.path_and_query(target).build().ok()
}

/// What this server announces of itself.
#[derive(Clone, Copy)]
pub(crate) struct Own<'a> {
    pub(crate) tag: Tag,
    pub(crate) key: [u8; 32],
    /// The address at which other servers reach it.
    pub(crate) address: &'a str,
    /// The path at which it answers challenges, and others too.
    pub(crate) path: &'a str,
}

/// What hands requests on to other servers.
pub(crate) struct Forwarder {
    tag: Tag,
    key: [u8; 32],
    /// Where this server says that it is; `None` if others cannot reach it there.
    authority: Option<Authority>,
    directory: Arc<dyn Directory>,
    client: Client<NodeConnector, Outgoing>,
    places: Places,
    /// Limits the log lines about places that are not there.
    shortages: LogThrottle,
    /// Room for answers.
    answers: Arc<Semaphore>,
    max_answer: usize,
    /// Set once WebSockets of other servers' sessions are to go: within what time.
    leaving: watch::Sender<Option<Duration>>,
}

/// Why there is no answer of the other server.
#[derive(Debug)]
pub(in crate::engine) enum ForwardError {
    /// No server is known that has such sessions.
    Unowned,
    /// The server has gone meanwhile, or this one stops.
    Gone,
    /// The answer did not come in time.
    Late,
    /// The answer is too large, or does not end well.
    Answer(Box<dyn Error + Send + Sync>),
    Http(hyper_util::client::legacy::Error),
    /// The request cannot be told again.
    Request,
}

impl Forwarder {
    /// Makes the forwarder of a server. Answers have at most `max_answer` bytes.
    pub(crate) fn new(
        own: Own<'_>,
        bounds: Bounds,
        max_answer: usize,
        directory: impl Directory + 'static,
        metrics: &Arc<Metrics>,
    ) -> Self {
        let directory: Arc<dyn Directory> = Arc::new(directory);
        let path = format!("{}/", own.path.trim_end_matches('/'));
        let connector = NodeConnector::new(Arc::clone(&directory), &path, metrics);
        let client = Client::builder(TokioExecutor::new())
            .pool_timer(TokioTimer::new())
            .pool_idle_timeout(IDLE)
            .pool_max_idle_per_host(MAX_IDLE)
            // The host of a URI is the name of a pool.
            .set_host(false)
            .build(connector);
        // There is room for at least one answer of the largest size, so whoever waits for room gets
        // it in the end.
        let answers = MAX_ANSWERS.max(max_answer).div_ceil(UNIT);
        Self {
            tag: own.tag,
            key: own.key,
            authority: authority(own.address),
            directory,
            client,
            places: Places::new(bounds),
            shortages: LogThrottle::default(),
            answers: Arc::new(Semaphore::new(answers.min(Semaphore::MAX_PERMITS))),
            max_answer,
            leaving: watch::Sender::default(),
        }
    }

    /// The tag in the ids of this server's sessions.
    pub(in crate::engine) fn tag(&self) -> Tag {
        self.tag
    }

    /// A place for one more WebSocket, or for a request as soon as there is one; `None` if there are too many.
    pub(in crate::engine) async fn place(
        &self,
        is_websocket: bool,
        patience: Duration,
    ) -> Option<OwnedSemaphorePermit> {
        let place = match is_websocket {
            true => self.places.tunnel(),
            false => self.places.request(patience).await,
        };
        if place.is_none()
            && let Some(more) = self.shortages.permit()
        {
            // Whoever operates the server has set the bound too low, or has too few servers.
            tracing::warn!(
                is_websocket,
                more,
                "more requests or WebSockets of other servers' sessions than may be under way: refused"
            );
        }
        place
    }

    /// Whether so many requests wait for a place that new sessions should be opened elsewhere.
    pub(in crate::engine) fn is_crowded(&self) -> bool {
        self.places.are_crowded()
    }

    /// How long a poll should wait at the server of its session, if others want its place.
    pub(in crate::engine) fn hold(&self) -> Option<Duration> {
        self.places.hold()
    }

    pub(in crate::engine) fn owner(&self, tag: Tag) -> Option<Owner> {
        self.directory.owner(tag)
    }

    /// Who the client is of a request that another server has handed on to this one, or why no server
    /// of the cluster has.
    pub(in crate::engine) fn verify(
        &self,
        method: &http::Method,
        target: &str,
        proof: &HeaderValue,
    ) -> Result<crate::engine::primitives::Peer, Unproved> {
        let known = proof::Known {
            key: &self.key,
            uptime: self.directory.uptime(),
            takes_untimed: self.directory.has_untimed(),
        };
        proof::verify(&known, method, target, proof)
    }

    /// Returns the proof that this is the server that the challenge of another one names; `None` if it names
    /// another server or is malformed.
    pub(in crate::engine) fn identify(&self, challenge: &HeaderValue) -> Option<HeaderValue> {
        let claim = Claim {
            tag: self.tag,
            authority: self.authority.as_ref()?,
        };
        identity::answer(&self.key, claim, challenge)
    }

    /// Sends a request to the server with that tag, and returns the head of its answer. Dropping
    /// the future gives the request up: its connection is closed, by which the other server learns
    /// that the client has gone.
    pub(in crate::engine) async fn send(
        &self,
        tag: Tag,
        said: Said<'_>,
        headers: http::HeaderMap,
        body: Outgoing,
        patience: Duration,
    ) -> Result<Response<Incoming>, ForwardError> {
        let owner = self.owner(tag).ok_or(ForwardError::Unowned)?;
        let mut request = Request::new(body);
        *request.uri_mut() = uri(tag, said.target).ok_or(ForwardError::Request)?;
        *request.method_mut() = said.method.clone();
        *request.headers_mut() = headers;
        if !request.headers().contains_key(header::HOST) {
            let host = HeaderValue::try_from(owner.authority.as_str());
            let host = host.map_err(|_| ForwardError::Request)?;
            request.headers_mut().insert(header::HOST, host);
        }
        let proof = sign(&owner.key, said, owner.uptime).ok_or(ForwardError::Request)?;
        request.headers_mut().insert(HEADER, proof);
        // Nothing closes the connection to a machine that has failed, and a poll may be patient for
        // long: the request ends as soon as the cluster has noticed.
        let gone = async {
            while self.owner(tag).is_some() {
                tokio::time::sleep(LOOK).await;
            }
        };
        tokio::select! {
            answer = timeout(patience, self.client.request(request)) => {
                answer.map_err(|_| ForwardError::Late)?.map_err(ForwardError::Http)
            }
            () = gone => Err(ForwardError::Gone),
        }
    }

    /// Reads the body of an answer, which takes room among all answers as long as it is held.
    pub(in crate::engine) async fn body(
        &self,
        body: Incoming,
        patience: Duration,
    ) -> Result<Bytes, ForwardError> {
        // Servers say how long their answers are.
        let size = body
            .size_hint()
            .upper()
            .and_then(|size| usize::try_from(size).ok());
        // An answer of unknown length takes the room of the largest one.
        let size = size.unwrap_or(self.max_answer);
        if size > self.max_answer {
            return Err(ForwardError::Answer("too large".into()));
        }
        let reading = async {
            let units = u32::try_from(size.div_ceil(UNIT)).unwrap_or(u32::MAX);
            // The room is taken before the first byte is read: until then the answer waits in the
            // kernel, and TCP holds the other server back.
            let room = Arc::clone(&self.answers).acquire_many_owned(units).await;
            let room = room.map_err(|error| ForwardError::Answer(error.into()))?;
            let bytes = Limited::new(body, size).collect().await;
            let bytes = bytes.map_err(ForwardError::Answer)?.to_bytes();
            Ok(Bytes::from_owner(BudgetedBytes { bytes, _room: room }))
        };
        timeout(patience, reading)
            .await
            .map_err(|_| ForwardError::Late)?
    }

    /// WebSockets of other servers' sessions end within this time.
    pub(in crate::engine) fn send_away(&self, within: Duration) {
        self.leaving.send_replace(Some(within));
    }

    /// Waits until a WebSocket of another server's session has to end: at a random time within what
    /// was said, so that not all clients come back at once.
    pub(in crate::engine) async fn sent_away(&self) {
        let mut leaving = self.leaving.subscribe();
        // The part is drawn once, so that a shorter time that is said later can only bring the end
        // forward.
        let part = f64::from(getrandom::u32().unwrap_or_default()) / f64::from(u32::MAX);
        loop {
            let within = leaving
                .wait_for(Option::is_some)
                .await
                .map(|within| *within);
            let Ok(Some(within)) = within else {
                return;
            };
            tokio::select! {
                () = tokio::time::sleep(within.mul_f64(part)) => return,
                _ = leaving.changed() => {}
            }
        }
    }
}

/// An answer and the room that it takes.
struct BudgetedBytes {
    bytes: Bytes,
    _room: OwnedSemaphorePermit,
}

impl AsRef<[u8]> for BudgetedBytes {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Display for ForwardError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unowned => f.write_str("no server is known that has such sessions"),
            Self::Gone => f.write_str("the server of the session has gone"),
            Self::Late => f.write_str("the server of the session is late"),
            Self::Answer(error) => write!(f, "its answer cannot be read: {error}"),
            Self::Http(error) => match error.source() {
                Some(source) => write!(f, "{error}: {source}"),
                None => error.fmt(f),
            },
            Self::Request => f.write_str("the request cannot be told again"),
        }
    }
}

/// Shows no key.
impl fmt::Debug for Forwarder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Forwarder")
            .field("tag", &self.tag)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::Owner;

    #[test]
    fn a_server_is_reached_at_a_host_and_a_port_by_plain_http() {
        for address in [
            "http://b:1",
            "http://10.0.0.2:65535",
            "http://[fd00::1]:3000",
        ] {
            assert!(Owner::new(address, [0; 32], None).is_some(), "{address}");
        }
        for address in [
            "10.0.0.2:3000",
            "https://b:1",
            "http://b",
            "http://b:0",
            "http://b:1/",
            "http://:1",
            "http://u@b:1",
            "http://b:+1",
        ] {
            assert!(Owner::new(address, [0; 32], None).is_none(), "{address}");
        }
    }
}
