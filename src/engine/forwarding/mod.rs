//! Forwarding of requests to the server of the cluster that has their session.
//!
//! This module contains the connections between servers and their mutual authentication. The called
//! server proves its identity first ([`identity`]), once per connection. Then each request carries
//! a proof of the caller ([`proof`]).
//!
//! Sessions take the tag in their ids from this module, and `http` forwards requests with it. It
//! must not know either of them. It knows the cluster only through [`Directory`].

mod connector;
mod identity;
mod outgoing;
mod proof;
mod slots;

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

use crate::{engine::primitives::Peer, limit::LogThrottle, metrics::Metrics};

pub(crate) use self::slots::Bounds;
use self::{
    connector::{NodeConnector, pool_name},
    identity::Claim,
    slots::ForwardingSlots,
};
pub(in crate::engine) use self::{
    identity::{CHALLENGE, IDENTITY},
    outgoing::{Outgoing, Pieces},
    proof::{HEADER, ProofError, SignedFields, sign},
};

/// The header with the maximum time that a forwarded poll should wait, in milliseconds. It is only
/// evaluated together with a proof.
pub(in crate::engine) const HOLD: http::HeaderName =
    http::HeaderName::from_static("x-roomcast-hold");
/// Maximum number of idle connections to one server.
const MAX_IDLE: usize = 256;
/// Maximum time that connections stay idle: less than the shortest wait of a server for the next
/// request.
const IDLE_TIMEOUT: Duration = Duration::from_secs(3);
/// The interval between checks whether the awaited server is still registered.
const OWNER_CHECK_INTERVAL: Duration = Duration::from_secs(1);
/// Maximum size of all buffered responses of other servers, in bytes. One response of maximum size
/// is always allowed.
const MAX_ANSWERS: usize = 64 << 20;
/// The number of bytes per permit.
const UNIT: usize = 1024;

/// Another server, and the key with which requests to it are signed.
#[derive(Clone)]
pub(crate) struct Owner {
    authority: Authority,
    key: [u8; 32],
    /// The uptime of that server.
    uptime: Duration,
}

/// The announcements of the servers of the cluster.
pub(crate) trait Directory: Send + Sync {
    /// Returns the other server that has sessions with this tag.
    fn owner(&self, tag: Tag) -> Option<Owner>;
    /// Returns the uptime of this server.
    fn uptime(&self) -> Duration;
}

impl Owner {
    /// Creates an owner from an address of the form `http://HOST:PORT`; `None` for other forms.
    pub(crate) fn new(address: &str, key: [u8; 32], uptime: Duration) -> Option<Self> {
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
    // Parsing a number accepts a leading sign, but a port has none.
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

/// The announcement of this server.
#[derive(Clone, Copy)]
pub(crate) struct LocalServer<'a> {
    pub(crate) tag: Tag,
    pub(crate) key: [u8; 32],
    /// The address at which other servers reach it.
    pub(crate) address: &'a str,
    /// The path at which all servers answer challenges.
    pub(crate) path: &'a str,
}

/// Forwards requests to other servers.
pub(crate) struct Forwarder {
    tag: Tag,
    key: [u8; 32],
    /// The announced address of this server; `None` if other servers cannot reach it.
    authority: Option<Authority>,
    directory: Arc<dyn Directory>,
    client: Client<NodeConnector, Outgoing>,
    slots: ForwardingSlots,
    /// Limits the log lines about missing slots.
    slot_shortage_log: LogThrottle,
    /// Permits for the bytes of buffered responses.
    answers: Arc<Semaphore>,
    max_answer: usize,
    /// Set once tunnels must close: the time within which they close.
    leaving: watch::Sender<Option<Duration>>,
}

/// Why there is no response of the other server.
#[derive(Debug)]
pub(in crate::engine) enum ForwardError {
    /// No server is known that has such sessions.
    Unowned,
    /// The server has left in the meantime, or this server stops.
    Aborted,
    /// The response did not arrive in time.
    Timeout,
    /// The response is too large or incomplete.
    Answer(Box<dyn Error + Send + Sync>),
    Http(hyper_util::client::legacy::Error),
    /// The request cannot be encoded again.
    Request,
}

impl Forwarder {
    /// Creates the forwarder of a server. Responses are limited to `max_answer` bytes.
    pub(crate) fn new(
        own: LocalServer<'_>,
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
            .pool_idle_timeout(IDLE_TIMEOUT)
            .pool_max_idle_per_host(MAX_IDLE)
            // The host of a URI is the name of a pool.
            .set_host(false)
            .build(connector);
        // One response of maximum size always fits, so a caller that waits for room eventually gets
        // it.
        let answers = MAX_ANSWERS.max(max_answer).div_ceil(UNIT);
        Self {
            tag: own.tag,
            key: own.key,
            authority: authority(own.address),
            directory,
            client,
            slots: ForwardingSlots::new(bounds),
            slot_shortage_log: LogThrottle::default(),
            answers: Arc::new(Semaphore::new(answers.min(Semaphore::MAX_PERMITS))),
            max_answer,
            leaving: watch::Sender::default(),
        }
    }

    /// Returns the tag in the ids of this server's sessions.
    pub(crate) fn tag(&self) -> Tag {
        self.tag
    }

    /// Returns a slot for a WebSocket immediately, or for a request as soon as one is free; `None`
    /// if there are too many.
    pub(in crate::engine) async fn acquire_slot(
        &self,
        is_websocket: bool,
        time_limit: Duration,
    ) -> Option<OwnedSemaphorePermit> {
        let slot = match is_websocket {
            true => self.slots.tunnel(),
            false => self.slots.request(time_limit).await,
        };
        if slot.is_none()
            && let Some(more) = self.slot_shortage_log.permit()
        {
            // The operator has set the limit too low, or runs too few servers.
            tracing::warn!(
                is_websocket,
                more,
                "request refused: too many forwarded requests or WebSockets are in flight"
            );
        }
        slot
    }

    /// Returns whether so many requests wait for a slot that new sessions should be opened on other
    /// servers.
    pub(in crate::engine) fn is_crowded(&self) -> bool {
        self.slots.are_crowded()
    }

    /// Returns how long a poll should wait at the server of its session, if other requests need its
    /// slot.
    pub(in crate::engine) fn hold(&self) -> Option<Duration> {
        self.slots.hold()
    }

    pub(in crate::engine) fn owner(&self, tag: Tag) -> Option<Owner> {
        self.directory.owner(tag)
    }

    /// Verifies the proof of a forwarded request. Returns its client, or why the proof is not one
    /// of a server of the cluster.
    pub(in crate::engine) fn verify(
        &self,
        method: &http::Method,
        target: &str,
        proof: &HeaderValue,
    ) -> Result<Peer, ProofError> {
        proof::verify(&self.key, self.directory.uptime(), method, target, proof)
    }

    /// Returns the proof that this is the server named in a challenge; `None` if the challenge is
    /// malformed or names another server.
    pub(in crate::engine) fn identify(&self, challenge: &HeaderValue) -> Option<HeaderValue> {
        let claim = Claim {
            tag: self.tag,
            authority: self.authority.as_ref()?,
        };
        identity::answer(&self.key, claim, challenge)
    }

    /// Sends a request to the server with that tag and returns the head of its response. Dropping
    /// the future cancels the request: its connection is closed, which informs the other server
    /// that the client has disconnected.
    pub(in crate::engine) async fn send(
        &self,
        tag: Tag,
        signed: SignedFields<'_>,
        headers: http::HeaderMap,
        body: Outgoing,
        time_limit: Duration,
    ) -> Result<Response<Incoming>, ForwardError> {
        let owner = self.owner(tag).ok_or(ForwardError::Unowned)?;
        let mut request = Request::new(body);
        *request.uri_mut() = uri(tag, signed.target).ok_or(ForwardError::Request)?;
        *request.method_mut() = signed.method.clone();
        *request.headers_mut() = headers;
        if !request.headers().contains_key(header::HOST) {
            let host = HeaderValue::try_from(owner.authority.as_str());
            let host = host.map_err(|_| ForwardError::Request)?;
            request.headers_mut().insert(header::HOST, host);
        }
        let proof = sign(&owner.key, signed, owner.uptime).ok_or(ForwardError::Request)?;
        request.headers_mut().insert(HEADER, proof);
        // A failed machine does not close its connections, and a poll may wait for a long time. So
        // the request ends as soon as the cluster has noticed the failure.
        let owner_left = async {
            while self.owner(tag).is_some() {
                tokio::time::sleep(OWNER_CHECK_INTERVAL).await;
            }
        };
        tokio::select! {
            answer = timeout(time_limit, self.client.request(request)) => {
                answer.map_err(|_| ForwardError::Timeout)?.map_err(ForwardError::Http)
            }
            () = owner_left => Err(ForwardError::Aborted),
        }
    }

    /// Reads the body of a response, whose size counts against the limit while it is held.
    pub(in crate::engine) async fn body(
        &self,
        body: Incoming,
        time_limit: Duration,
    ) -> Result<Bytes, ForwardError> {
        // Servers specify the length of their responses.
        let size = body
            .size_hint()
            .upper()
            .and_then(|size| usize::try_from(size).ok());
        // A response of unknown length counts as one of maximum size.
        let size = size.unwrap_or(self.max_answer);
        if size > self.max_answer {
            return Err(ForwardError::Answer("too large".into()));
        }
        let reading = async {
            let units = u32::try_from(size.div_ceil(UNIT)).unwrap_or(u32::MAX);
            // The permits are acquired before the first byte is read: until then the response stays
            // in the kernel, and TCP slows the other server down.
            let room = Arc::clone(&self.answers).acquire_many_owned(units).await;
            let room = room.map_err(|error| ForwardError::Answer(error.into()))?;
            let bytes = Limited::new(body, size).collect().await;
            let bytes = bytes.map_err(ForwardError::Answer)?.to_bytes();
            Ok(Bytes::from_owner(BudgetedBytes { bytes, _room: room }))
        };
        timeout(time_limit, reading)
            .await
            .map_err(|_| ForwardError::Timeout)?
    }

    /// Closes tunnels for other servers' sessions within this time.
    pub(in crate::engine) fn close_tunnels(&self, within: Duration) {
        self.leaving.send_replace(Some(within));
    }

    /// Waits until a tunnel must close: at a random time within the announced one, so that not all
    /// clients reconnect simultaneously.
    pub(in crate::engine) async fn wait_for_tunnel_close(&self) {
        let mut leaving = self.leaving.subscribe();
        // The fraction is drawn once, so that a shorter time announced later can only bring the end
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

/// A response and its permits.
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
            Self::Unowned => f.write_str("the server of the session is unknown"),
            Self::Aborted => {
                f.write_str("the server of the session has left, or this server is stopping")
            }
            Self::Timeout => f.write_str("the server of the session did not respond in time"),
            Self::Answer(error) => {
                write!(
                    f,
                    "the response of the session's server is invalid: {error}"
                )
            }
            Self::Http(error) => match error.source() {
                Some(source) => write!(f, "{error}: {source}"),
                None => error.fmt(f),
            },
            Self::Request => f.write_str("the request cannot be repeated"),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::Owner;

    #[test]
    fn a_server_is_reached_at_a_host_and_a_port_by_plain_http() {
        for address in [
            "http://b:1",
            "http://10.0.0.2:65535",
            "http://[fd00::1]:3000",
        ] {
            assert!(
                Owner::new(address, [0; 32], Duration::ZERO).is_some(),
                "{address}"
            );
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
            assert!(
                Owner::new(address, [0; 32], Duration::ZERO).is_none(),
                "{address}"
            );
        }
    }
}
