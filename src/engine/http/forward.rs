//! Forwards requests to the server that has their session, and recognises forwarded requests.

use std::{future::poll_fn, pin::pin, sync::Arc, time::Duration};

use futures_util::future::{Either, select};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header, request::Parts};
use http_body_util::Full;
use roomcast_protocol::Tag;
use tokio::time::timeout;

use super::{
    handoff::{ForwardedRequest, Handoff, HandoffCell},
    message::{
        body,
        refusal::{RequestError, Unknown},
        reply::{self, RemoteResponse, Reply},
    },
    tunnel::Tunnel,
};
use crate::{
    engine::{
        admission::{original_uri, retry_later},
        forwarding::{self, ForwardError, Forwarder, Outgoing, Pieces, SignedFields},
        primitives::{GaugeGuard, Peer},
        session::Engine,
    },
    metrics::{Counter, Gauge},
};

/// Hop-by-hop headers (RFC 9110, 7.6.1).
const HOP_BY_HOP_HEADERS: [HeaderName; 9] = [
    header::CONNECTION,
    header::EXPECT,
    HeaderName::from_static("keep-alive"),
    header::PROXY_AUTHORIZATION,
    HeaderName::from_static("proxy-connection"),
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

impl Engine {
    /// Removes the proof of another server from a forwarded request and returns its contents, or
    /// `None` if there is no proof. An error means that no server of the cluster has sent the
    /// request.
    pub(super) fn take_proof(
        &self,
        parts: &mut Parts,
    ) -> Result<Option<ForwardedRequest>, RequestError> {
        let Some(forwarder) = &self.forwarder else {
            return Ok(None);
        };
        let mut proofs = parts.headers.get_all(forwarding::HEADER).iter();
        let (Some(proof), None) = (proofs.next(), proofs.next()) else {
            let has_none = !parts.headers.contains_key(forwarding::HEADER);
            return if has_none {
                Ok(None)
            } else {
                Err(RequestError::Forged)
            };
        };
        // Two proofs are refused above, because a proxy might use one of them and this server the
        // other.
        let target = target(parts);
        let client = forwarder.verify(&parts.method, target, proof);
        let client = client.map_err(|why| {
            tracing::debug!(%why, "forwarded request refused: it has no valid proof of a cluster server");
            RequestError::Forged
        })?;
        parts.headers.remove(forwarding::HEADER);
        self.metrics.count(Counter::ForwardedReceived);
        let hold = parts.headers.remove(forwarding::HOLD);
        let hold = hold.and_then(|hold| hold.to_str().ok()?.parse().ok());
        let hold = hold.map(Duration::from_millis);
        Ok(Some(ForwardedRequest { client, hold }))
    }

    /// Answers another server that verifies the identity of this one; `None` if the request is not
    /// such a challenge.
    pub(super) fn prove_identity(&self, parts: &Parts) -> Option<Reply> {
        let forwarder = self.forwarder.as_ref()?;
        let mut challenges = parts.headers.get_all(forwarding::CHALLENGE).iter();
        let challenge = challenges.next()?;
        let identity = forwarder
            .identify(challenge)
            .filter(|_| challenges.next().is_none() && parts.method == Method::GET);
        Some(match identity {
            Some(identity) => {
                let mut reply = reply::empty(StatusCode::NO_CONTENT);
                reply.headers_mut().insert(forwarding::IDENTITY, identity);
                reply
            }
            None => reply::empty(StatusCode::NOT_FOUND),
        })
    }

    /// Returns the response of another server to a request of its session. If there is none, the
    /// response is that the session is unknown, and the client opens a new one.
    pub(super) async fn forward_request(
        self: &Arc<Self>,
        parts: Parts,
        body: &mut dyn body::Pieces,
        client: Peer,
        tag: Tag,
        accept: Option<&str>,
        handoff: &HandoffCell,
    ) -> Result<Reply, RequestError> {
        let forwarder = self.forwarder.as_ref();
        let forwarder = forwarder.ok_or(RequestError::UnknownSession(Unknown::Unowned))?;
        let mut stopped = pin!(self.stopped());
        // The session ends anyway if its pong does not arrive within this time.
        let time_limit = self.config.session.ping_timeout;
        let slot = tokio::select! {
            slot = forwarder.acquire_slot(accept.is_some(), time_limit) => slot,
            () = &mut stopped => None,
        };
        let Some(slot) = slot else {
            self.metrics.count(match accept {
                Some(_) => Counter::TunnelsRefused,
                None => Counter::ForwardedFull,
            });
            return Err(RequestError::Busy(retry_later()));
        };
        let counted = GaugeGuard::new(&self.metrics, Gauge::RequestsForwarded);
        let exchange = self.exchange_with(forwarder, parts, body, client, tag, accept);
        // Dropping `exchange` on stop closes the connection to the other server, so that a poll
        // there is also aborted.
        let answered = tokio::select! {
            answered = exchange => answered,
            () = &mut stopped => Err(ForwardError::Aborted),
        };
        match answered {
            Ok((reply, upgraded)) => {
                self.metrics.count(Counter::Forwarded);
                if let Some(upgraded) = upgraded {
                    drop(counted);
                    let tunnel = Tunnel::new(self, forwarder, upgraded, slot);
                    *handoff.lock() = Some(Handoff::Tunnel(Box::new(tunnel)));
                }
                Ok(reply)
            }
            Err(error) => {
                self.metrics.count(Counter::ForwardedFailed);
                tracing::debug!(tag = tag.as_str(), %error, "could not forward a request to the session's server");
                Err(RequestError::UnknownSession(match error {
                    ForwardError::Unowned => Unknown::Unowned,
                    ForwardError::Aborted
                    | ForwardError::Timeout
                    | ForwardError::Answer(_)
                    | ForwardError::Http(_)
                    | ForwardError::Request => Unknown::Unreached,
                }))
            }
        }
    }

    async fn exchange_with(
        &self,
        forwarder: &Forwarder,
        parts: Parts,
        body: &mut dyn body::Pieces,
        client: Peer,
        tag: Tag,
        accept: Option<&str>,
    ) -> Result<(Reply, Option<hyper::upgrade::Upgraded>), ForwardError> {
        let target = target(&parts).to_owned();
        let signed = SignedFields {
            method: &parts.method,
            target: &target,
            client,
        };
        let mut headers = parts.headers;
        if parts.method != Method::POST || headers.contains_key(header::TRANSFER_ENCODING) {
            // Either no body is forwarded, or a chunked one. A length in addition could contradict
            // the chunks, which enables request smuggling (RFC 9112, 6.1).
            headers.remove(header::CONTENT_LENGTH);
        }
        strip(&mut headers);
        // The value sent by a client is ignored.
        headers.remove(forwarding::HOLD);
        if accept.is_some() {
            request_websocket(&mut headers);
        } else if parts.method == Method::GET
            && let Some(hold) = forwarder.hold()
        {
            let hold = u64::try_from(hold.as_millis()).unwrap_or(u64::MAX);
            headers.insert(forwarding::HOLD, hold.into());
        }
        if let Some(host) = parts
            .uri
            .authority()
            .filter(|_| !headers.contains_key(header::HOST))
        {
            // HTTP/2 has the host in the URL, HTTP/1.1 requires it in a header.
            let host = HeaderValue::try_from(host.as_str()).map_err(|_| ForwardError::Request)?;
            headers.insert(header::HOST, host);
        }
        let (pieces, outgoing) = match parts.method {
            Method::POST => {
                let (pieces, outgoing) = Outgoing::new();
                (Some(pieces), outgoing)
            }
            _ => (None, Outgoing::empty()),
        };
        // An open session answers a poll with a ping at the latest.
        let session = &self.config.session;
        let time_limit = session.ping_interval.saturating_add(session.ping_timeout);
        let time_limit = time_limit.max(self.config.http.body_timeout);
        // Both run concurrently: a server may refuse a request before it has read the whole body,
        // and then nothing more is sent to it.
        let sending = pin!(forwarder.send(tag, signed, headers, outgoing, time_limit));
        let feeding = pin!(feed(pieces, body));
        let response = match select(sending, feeding).await {
            Either::Left((response, _)) => response?,
            Either::Right(((), sending)) => sending.await?,
        };
        if response.status() == StatusCode::SWITCHING_PROTOCOLS {
            let accept = accept.ok_or(ForwardError::Aborted)?;
            let mut reply = reply::switching_protocols(accept);
            reply.extensions_mut().insert(RemoteResponse);
            let mut headers = response.headers().clone();
            strip(&mut headers);
            headers.remove(header::SEC_WEBSOCKET_ACCEPT);
            reply.headers_mut().extend(headers);
            let upgraded = timeout(self.config.http.write_timeout, hyper::upgrade::on(response));
            let upgraded = upgraded.await.map_err(|_| ForwardError::Timeout)?;
            let upgraded = upgraded.map_err(|error| ForwardError::Answer(error.into()))?;
            return Ok((reply, Some(upgraded)));
        }
        let (mut parts, body) = response.into_parts();
        let body = forwarder.body(body, self.config.http.write_timeout).await?;
        strip(&mut parts.headers);
        parts.headers.remove(header::CONTENT_LENGTH);
        parts.extensions.clear();
        let mut reply = Reply::from_parts(parts, Full::new(body));
        reply.extensions_mut().insert(RemoteResponse);
        Ok((reply, None))
    }
}

/// Returns the path and query as the client sent them.
fn target(parts: &Parts) -> &str {
    let target = original_uri(parts).path_and_query();
    target.map_or("/", |target| target.as_str())
}

/// Forwards a body until its end, or until the receiver is closed. An incomplete body is not
/// terminated, so that the other server does not treat it as complete.
async fn feed(pieces: Option<Pieces>, body: &mut dyn body::Pieces) {
    let Some(pieces) = pieces else {
        return;
    };
    loop {
        let piece = match poll_fn(|cx| body.poll_piece(cx)).await {
            Some(Ok(piece)) => Some(piece),
            Some(Err(())) => return,
            None => None,
        };
        let is_last = piece.is_none();
        if pieces.send(piece).await.is_err() || is_last {
            return;
        }
    }
}

/// Removes hop-by-hop headers, including those that `Connection` lists.
fn strip(headers: &mut HeaderMap) {
    let named: Vec<_> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| HeaderName::try_from(name.trim()).ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP_HEADERS) {
        headers.remove(name);
    }
}

fn request_websocket(headers: &mut HeaderMap) {
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
}
