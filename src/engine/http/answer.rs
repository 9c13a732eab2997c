//! Responds to HTTP requests on the Engine.IO path.

use std::{
    panic::AssertUnwindSafe,
    sync::{Arc, LazyLock},
};

use futures_util::FutureExt as _;
use http::{HeaderMap, StatusCode, header, request::Parts};
use roomcast_protocol::{
    Frame, Sid,
    engine::{Packet, Revision, Transport},
};
use tracing::Level;

use super::{
    exchange,
    handoff::{ForwardedRequest, Handoff, HandoffCell},
    message::{
        body::Pieces,
        cors::OriginCheck,
        extensions, host,
        refusal::{RequestError, Unknown},
        reply::{self, Form, HttpAnswer, RemoteResponse, Reply},
        request::{self, ParsedRequest},
    },
};
use crate::{
    config::Cors,
    engine::{
        admission::{
            EngineRequest, Forbidden, Handshake, merge_cookie_headers, original_uri, retry_later,
        },
        outbox::{Attaching, Outbox, Sink, encode_payload},
        primitives::{ConnectionId, Peer, now},
        session::{Engine, Opening},
    },
    limit::{Guard, Permit, Violation},
    metrics::Counter,
};

impl Engine {
    /// Returns whether a request path belongs to this engine.
    pub(crate) fn owns(&self, path: &str) -> bool {
        let own = self.config.http.path.trim_end_matches('/');
        path.strip_prefix(own).is_some_and(|rest| {
            rest == "/" || (rest.is_empty() && !self.config.http.add_trailing_slash)
        })
    }

    /// Returns the refusal of an HTTP/1 request without exactly one valid host, on any path.
    /// Nothing more is read from its connection.
    pub(crate) fn refuse_invalid_host(&self, request: &Parts) -> Option<Reply> {
        if host::is_named(request.version, &request.headers) {
            return None;
        }
        self.metrics.count(Counter::RejectedMalformed);
        tracing::debug!("request refused: the Host header is missing, repeated or invalid");
        Some(reply::closing(StatusCode::BAD_REQUEST))
    }

    /// Responds to a request on any path.
    pub(super) async fn answer(
        self: &Arc<Self>,
        mut parts: Parts,
        body: &mut dyn Pieces,
        peer: Peer,
        handoff: &HandoffCell,
    ) -> Reply {
        if let Some(proof) = self.prove_identity(&parts) {
            return proof;
        }
        let forwarded = self.take_proof(&mut parts);
        let peer = match &forwarded {
            // The server that accepted the client has already evaluated the headers of its proxies.
            Ok(Some(received)) => received.client,
            Ok(None) | Err(_) => self.identify(peer, &parts.headers),
        };
        merge_cookie_headers(&mut parts.headers);
        let origin_check = match &self.config.http.cors {
            None => OriginCheck::Silent,
            Some(cors) => {
                let origin_check = cors.judge(&parts.headers, self.hooks.cors_origin.as_deref());
                // Browsers send a preflight without cookies and credentials, so it is answered
                // before anything is checked.
                let preflight = cors.preflight(&parts.method, &parts.headers, &origin_check);
                if let Some(mut preflight) = preflight {
                    reply::harden(&mut preflight);
                    return preflight;
                }
                origin_check
            }
        };
        let view = self.view(&parts, peer);
        let is_upgrade = request::is_upgrade(&parts.headers);
        let is_foreign = origin_check == OriginCheck::Foreign;
        // Only the log line of a refusal needs it.
        let mut session = tracing::enabled!(Level::DEBUG)
            .then(|| request::named_session(&parts))
            .flatten();
        let outcome = match &self.config.http.cors {
            Some(cors) if cors.enforce && is_foreign => {
                session = request::named_session(&parts);
                Err(RequestError::ForeignOrigin)
            }
            Some(_) | None => match forwarded {
                Ok(by) => {
                    self.respond(parts, body, peer, view.as_ref(), handoff, by)
                        .await
                }
                Err(forged) => Err(forged),
            },
        };
        let mut reply = match outcome {
            Ok(reply) => reply,
            Err(error) => self.refuse(&error, is_upgrade, peer, session, view),
        };
        // A response of another server already contains that server's CORS headers.
        if let Some(cors) = &self.config.http.cors
            && !(cors.enforce && is_foreign)
            && reply.extensions().get::<RemoteResponse>().is_none()
        {
            cors.mark(&mut reply, &origin_check);
        }
        reply
    }

    /// Returns whether, for polling requests without an `Origin`, only the session matters: no
    /// function of the application needs the request, and the peer is not a proxy.
    pub(super) fn needs_only_session(&self, peer: Peer) -> bool {
        let is_proxy = |guard: &Arc<Guard>| guard.trusts(peer.address.ip());
        !self.hooks.need_requests() && !self.guard.as_ref().is_some_and(is_proxy)
    }

    /// Responds to such a request: a poll, or a post with packets.
    pub(super) async fn answer_session(
        &self,
        sid: Sid,
        form: Form,
        body: Option<&mut dyn Pieces>,
        peer: Peer,
    ) -> HttpAnswer {
        let found = self.check(peer).and_then(|()| self.find_polling(sid));
        let outcome = match (found, body) {
            (Ok(outbox), None) => self.poll(outbox, form, None).await,
            // The post is boxed, so that connections with waiting polls do not reserve memory for
            // it.
            (Ok(outbox), Some(body)) => Box::pin(self.post(outbox, body, false)).await,
            (Err(error), _) => Err(error),
        };
        let answer = outcome.unwrap_or_else(|error| {
            let reply = self.refuse(&error, false, peer, Some(sid), None);
            HttpAnswer::Other(reply)
        });
        let Some(cors) = &self.config.http.cors else {
            return answer;
        };
        let mut reply = answer.into_reply();
        // The parser does not handle requests with an `Origin` on this path, so there is no origin
        // here.
        cors.mark(&mut reply, &OriginCheck::Silent);
        HttpAnswer::Other(reply)
    }

    /// Checks whether this address may send requests.
    fn check(&self, peer: Peer) -> Result<(), RequestError> {
        let guard = self.guard.as_ref();
        let checked = guard.map_or(Ok(()), |guard| guard.check(peer.address.ip()));
        checked.map_err(RequestError::Refused)
    }

    /// Returns a view of the request if any hook may use it.
    pub(super) fn view(&self, parts: &Parts, peer: Peer) -> Option<EngineRequest> {
        let view = || EngineRequest::new(parts, peer, self.trusts(&parts.headers));
        self.hooks.need_requests().then(view)
    }

    pub(super) fn refuse(
        &self,
        error: &RequestError,
        is_upgrade: bool,
        peer: Peer,
        session: Option<Sid>,
        view: Option<EngineRequest>,
    ) -> Reply {
        self.metrics.count(error.counter());
        let (code, _, _) = error.answer();
        let reason = error.reason();
        let address = peer.address;
        // A forged id has no connection.
        let connection = || {
            let known =
                |sid: &Sid| self.sessions.get(*sid).is_some() || self.sessions.has_ended(*sid);
            let known = session.filter(known);
            known.map(|sid| tracing::field::display(ConnectionId::of(sid)))
        };
        if matches!(error, RequestError::Forged) {
            // The sender pretends to be a server of the cluster, or is one that has an old key of
            // this server.
            if let Some(more) = self.forgery_log.permit() {
                tracing::warn!(%address, reason, more, "request refused");
            }
        } else if !matches!(error, RequestError::ForeignOrigin) {
            tracing::debug!(%address, connection = connection(), code, reason, "request refused");
        } else if let Some(more) = self.foreign_origin_log.permit() {
            // The operator may have forgotten to allow the origin, so the refusal is logged. The
            // log is throttled, because clients can repeat the request.
            tracing::info!(
                %address, connection = connection(), code, reason, more, "request refused"
            );
        }
        if let (Some(hook), Some(view)) = (&self.hooks.connection_error, view) {
            hook(&error.describe(view));
        }
        reply::refusal(error, is_upgrade)
    }

    async fn respond(
        self: &Arc<Self>,
        parts: Parts,
        body: &mut dyn Pieces,
        peer: Peer,
        view: Option<&EngineRequest>,
        handoff: &HandoffCell,
        forwarded: Option<ForwardedRequest>,
    ) -> Result<Reply, RequestError> {
        self.check(peer)?;
        let parsed = request::parse(&parts, &self.config);
        if parsed == Err(RequestError::UnsupportedVersion) {
            // The official server calls `allowRequest` before it rejects the version.
            self.admit(view).await?;
        }
        let parsed = parsed?;
        if let Some((id, accept)) = parsed.session()
            && self.is_foreign(id)
            && let Some(tag) = id.tag
        {
            if forwarded.is_some() {
                // A request is forwarded only once. Otherwise two servers that take each other for
                // the owner would forward it back and forth.
                return Err(RequestError::UnknownSession(Unknown::Misdirected));
            }
            // Forwarding is boxed, so that requests of local sessions reserve no memory for it.
            let forwarding =
                Box::pin(self.forward_request(parts, body, peer, tag, accept, handoff));
            return forwarding.await;
        }
        let is_initial = parsed.session().is_none();
        let mut reply = match parsed {
            ParsedRequest::Open(revision) => {
                // Limits are checked first, because a client above them must not cause work in the
                // application. The permit is a guard, which a refusal below returns. Requests of
                // open sessions have priority over new sessions.
                let forwarder = self.forwarder.as_ref();
                if forwarder.is_some_and(|forwarder| forwarder.is_crowded()) {
                    return Err(RequestError::Busy(retry_later()));
                }
                let permit = self.permit(peer)?;
                let sid = self.admit(view).await?;
                let handshake = self.handshake(&parts, peer, permit);
                self.open_polling(sid, revision, handshake, &parts)
            }
            ParsedRequest::OpenWebSocket { accept, revision } => {
                let deflate = extensions::negotiate(&parts.headers, &self.config)?;
                let permit = self.permit(peer)?;
                let sid = self.admit(view).await?;
                let opening = Opening {
                    handshake: self.handshake(&parts, peer, permit),
                    sid,
                    revision,
                    announced: None,
                    deflate,
                };
                *handoff.lock() = Some(Handoff::Open(Arc::clone(self), opening));
                extensions::answer(reply::switching_protocols(&accept), deflate.as_ref())
            }
            ParsedRequest::Mismatch(id) => {
                let outbox = self.find(id.sid)?;
                return Err(RequestError::TransportMismatch(outbox.transport()));
            }
            ParsedRequest::Unserved(id) => {
                self.find(id.sid)?;
                self.metrics.count(Counter::RejectedMethod);
                return Ok(reply::empty(StatusCode::INTERNAL_SERVER_ERROR));
            }
            ParsedRequest::Poll(id) => {
                let outbox = self.find_polling(id.sid)?;
                let form = Form::of(&parts.headers);
                // A poll may wait for a long time, and its headers keep a read buffer alive.
                drop(parts);
                let hold = forwarded.and_then(|received| received.hold);
                self.poll(outbox, form, hold).await?.into_reply()
            }
            ParsedRequest::Post(id) => {
                let outbox = self.find_polling(id.sid)?;
                let is_binary = exchange::is_octet_stream(&parts.headers);
                if is_binary && !outbox.revision().is_v3() {
                    self.refuse_binary(&outbox)
                } else {
                    self.post(outbox, body, is_binary).await?.into_reply()
                }
            }
            ParsedRequest::Upgrade { sid: id, accept } => {
                let outbox = self.find(id.sid)?;
                if !self.config.session.allow_upgrades {
                    return Err(RequestError::BadRequest);
                }
                let deflate = extensions::negotiate(&parts.headers, &self.config)?;
                *handoff.lock() = Some(Handoff::Attach(Attaching::new(outbox), deflate));
                extensions::answer(reply::switching_protocols(&accept), deflate.as_ref())
            }
        };
        let is_good = [StatusCode::OK, StatusCode::SWITCHING_PROTOCOLS].contains(&reply.status());
        if is_good && let Some(view) = view {
            self.hooks.complete(reply.headers_mut(), is_initial, view);
        }
        Ok(reply)
    }

    fn find(&self, sid: Sid) -> Result<Outbox, RequestError> {
        self.sessions.get(sid).ok_or_else(|| {
            if self.is_draining() {
                // The session may have been opened at another server, which a load balancer tries
                // next.
                RequestError::Draining(retry_later())
            } else if self.sessions.has_ended(sid) {
                RequestError::UnknownSession(Unknown::Ended)
            } else {
                RequestError::UnknownSession(Unknown::Never)
            }
        })
    }

    fn find_polling(&self, sid: Sid) -> Result<Outbox, RequestError> {
        let outbox = self.find(sid)?;
        match outbox.transport() {
            Transport::Polling => Ok(outbox),
            other @ Transport::WebSocket => Err(RequestError::TransportMismatch(other)),
        }
    }

    /// Calls the hooks that admit a session and generate its id.
    async fn admit(&self, view: Option<&EngineRequest>) -> Result<Option<Sid>, RequestError> {
        let hooks = &self.hooks;
        let decides = hooks.allow_request.is_some() || hooks.generate_id.is_some();
        let Some(view) = view.filter(|_| decides) else {
            return Ok(None);
        };
        let permit = self.admissions.try_acquire();
        let _permit = permit.map_err(|_| RequestError::Busy(retry_later()))?;
        let deciding = async {
            if let Some(allow) = &hooks.allow_request {
                let allowed = allow(view.clone()).await;
                allowed.map_err(|forbidden| self.denied(forbidden, view))?;
            }
            let Some(generate) = &hooks.generate_id else {
                return Ok(None);
            };
            let fault = |error: &str| RequestError::IdGeneration(error.into());
            let id = generate(view.clone())
                .await
                .map_err(|error| fault(&error))?;
            let sid = Sid::parse(&id).ok_or_else(|| fault("not 20 characters of [A-Za-z0-9_-]"))?;
            // This check refuses ids in use. If an id is taken between here and the opening of the
            // session, `new_outbox` replaces it by a random one.
            if self.sessions.get(sid).is_some() {
                return Err(fault("in use"));
            }
            Ok(Some(sid))
        };
        // A panic is caught here, because a proxy may multiplex requests of other clients on this
        // connection. A hook that is too slow is cancelled.
        let deciding = AssertUnwindSafe(deciding).catch_unwind();
        match tokio::time::timeout(self.config.admission.allow_request_timeout, deciding).await {
            Ok(Ok(admission)) => admission,
            Ok(Err(_)) => {
                self.metrics.count(Counter::HandlerPanics);
                crate::throttled_log!(error, "allow_request hook panicked, request denied");
                Err(RequestError::Denied("Forbidden".into()))
            }
            Err(_) => {
                self.metrics.count(Counter::RejectedTimeout);
                Err(RequestError::Denied("Forbidden".into()))
            }
        }
    }

    /// Converts the refusal by the application, and counts a violation if it is the client's fault.
    fn denied(&self, forbidden: Forbidden, request: &EngineRequest) -> RequestError {
        if let Some(guard) = self.guard.as_ref().filter(|_| forbidden.is_violation()) {
            let _ = guard.violation(request.address().ip(), Violation::Credentials);
        }
        RequestError::Denied(forbidden.into_message())
    }

    /// Returns the permit of a client to open a session, or `None` if addresses are not limited.
    fn permit(&self, peer: Peer) -> Result<Option<Permit>, RequestError> {
        if self.is_draining() {
            return Err(RequestError::Draining(retry_later()));
        }
        // The rate is checked first without charging it. So clients refused by the rate are not
        // charged by the guard, and clients refused by the guard do not use up the rate.
        let now = now();
        let limiter = &self.connection_limiter;
        limiter.check_session(now).map_err(RequestError::Crowded)?;
        let permit = self.guard.as_ref();
        let permit = permit.map(|guard| guard.admit(peer.address.ip()));
        let permit = permit.transpose().map_err(RequestError::Refused)?;
        limiter.take_session(now).map_err(RequestError::Crowded)?;
        Ok(permit)
    }

    fn handshake(&self, parts: &Parts, peer: Peer, permit: Option<Permit>) -> Arc<Handshake> {
        let handshake = Handshake::new(
            &parts.headers,
            original_uri(parts),
            peer,
            self.config.sockets.handshake_header_bytes,
        );
        let handshake = handshake
            .with_trust(self.trusts(&parts.headers))
            .with_extensions(&parts.extensions)
            .with_permit(permit);
        Arc::new(handshake)
    }

    /// Returns whether a request comes from a page that may use its user's cookies.
    fn trusts(&self, headers: &HeaderMap) -> bool {
        static DEFAULT: LazyLock<Cors> = LazyLock::new(Cors::default);
        let also = self.hooks.cors_origin.as_deref();
        let cors = self.config.http.cors.as_ref();
        cors.unwrap_or_else(|| &DEFAULT).trusts(headers, also)
    }

    /// Opens a polling session and returns the response with its open packet.
    fn open_polling(
        self: &Arc<Self>,
        sid: Option<Sid>,
        revision: Revision,
        handshake: Arc<Handshake>,
        client: &Parts,
    ) -> Reply {
        let outbox = self.new_outbox(sid, revision, Sink::polling);
        let sid = outbox.sid();
        let open = self.open_packet(sid, Transport::Polling);
        let mut frames = vec![Frame::packet(&Packet::Open(open))];
        frames.extend(self.initial_frame());
        let (packets, _) = encode_payload(&frames, revision);
        let driver = self.open(outbox, Transport::Polling, handshake, None);
        // The future is boxed, so that the code that runs tasks is not compiled for this type.
        tokio::spawn(driver.run().boxed());
        let mut reply = reply::payload(packets, Form::of(&client.headers));
        let cookie = self.config.http.cookie.as_ref();
        if let Some(cookie) = cookie.and_then(|cookie| cookie.header(self.session_id(sid))) {
            reply.headers_mut().insert(header::SET_COOKIE, cookie);
        }
        reply
    }
}
