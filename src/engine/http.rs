//! Answers HTTP requests on the Engine.IO path.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full};
use hyper::body::{Body, Incoming};
use parking_lot::Mutex;
use roomcast_protocol::{
    Frame,
    engine::{CloseReason, Packet, Transport},
};
use tokio::sync::oneshot;

use super::{
    Application, Engine,
    accepted::Peer,
    control::{Control, PollAnswer, PostAnswer},
    cors::Verdict,
    handshake::Handshake,
    outbox::{Attaching, Outbox},
    request::{self, Ask, RequestError},
};
use crate::metrics::Counter;

/// What becomes of the connection after a `101`.
#[derive(Debug)]
pub(super) enum Handoff {
    /// It carries a new session.
    Open(Arc<Handshake>),
    /// It carries a new session of the plain Engine.IO endpoint.
    OpenRaw(Arc<Handshake>),
    /// It wants to take this session over.
    Attach(Attaching),
}

/// Where a request leaves its [`Handoff`] for the connection's task.
pub(super) type HandoffCell = Mutex<Option<Handoff>>;

impl<A: Application> Engine<A> {
    /// Whether a request path is this engine's: the configured one, with or without its
    /// last slash.
    pub(super) fn owns(&self, path: &str) -> bool {
        let own = self.config.path.trim_end_matches('/');
        path.strip_prefix(own)
            .is_some_and(|rest| rest.is_empty() || rest == "/")
    }

    pub(super) async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
        handoff: &HandoffCell,
    ) -> Response<Full<Bytes>> {
        let Some(cors) = &self.config.cors else {
            return self.answer_any(request, peer, handoff).await;
        };
        let verdict = cors.judge(request.headers());
        if let Some(preflight) = cors.preflight(&request, &verdict) {
            return preflight;
        }
        if cors.enforce && verdict == Verdict::Foreign {
            let is_upgrade = request::is_upgrade(request.headers());
            return self.refuse(RequestError::Forbidden, is_upgrade, peer);
        }
        let mut response = self.answer_any(request, peer, handoff).await;
        cors.mark(&mut response, &verdict);
        response
    }

    async fn answer_any(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
        handoff: &HandoffCell,
    ) -> Response<Full<Bytes>> {
        match self.respond(request, peer, handoff).await {
            Ok(response) => response,
            Err((error, is_upgrade)) => self.refuse(error, is_upgrade, peer),
        }
    }

    fn refuse(&self, error: RequestError, is_upgrade: bool, peer: Peer) -> Response<Full<Bytes>> {
        self.metrics.count(error.counter());
        let (code, message, _) = error.answer();
        tracing::debug!(address = %peer.address, code, message, "request refused");
        refusal(error, is_upgrade)
    }

    async fn respond(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
        handoff: &HandoffCell,
    ) -> Result<Response<Full<Bytes>>, (RequestError, bool)> {
        let is_upgrade = request::is_upgrade(request.headers());
        let refuse = |error| (error, is_upgrade);
        let find = |sid| {
            self.sessions
                .get(sid)
                .ok_or_else(|| refuse(RequestError::UnknownSession))
        };
        match request::parse(&request, &self.config).map_err(refuse)? {
            Ask::Open => {
                let open = self.open_polling(self.handshake(&request, peer));
                Ok(payload(open))
            }
            Ask::OpenWebSocket { accept } => {
                let handshake = self.handshake(&request, peer);
                *handoff.lock() = Some(Handoff::Open(handshake));
                Ok(switching_protocols(&accept))
            }
            Ask::Mismatch(sid) => {
                find(sid)?;
                Err(refuse(RequestError::BadRequest))
            }
            Ask::Poll(sid) => {
                let outbox = find(sid)?;
                if outbox.transport() != Transport::Polling {
                    return Err(refuse(RequestError::BadRequest));
                }
                self.poll(outbox).await.map_err(refuse)
            }
            Ask::Post(sid) => {
                let outbox = find(sid)?;
                if outbox.transport() != Transport::Polling {
                    return Err(refuse(RequestError::BadRequest));
                }
                self.post(outbox, request).await.map_err(refuse)
            }
            Ask::Upgrade { sid, accept } => {
                let outbox = find(sid)?;
                if !self.config.allow_upgrades {
                    return Err(refuse(RequestError::BadRequest));
                }
                *handoff.lock() = Some(Handoff::Attach(Attaching::new(outbox)));
                Ok(switching_protocols(&accept))
            }
        }
    }

    fn handshake<B>(&self, request: &Request<B>, peer: Peer) -> Arc<Handshake> {
        Arc::new(Handshake::new(
            request.headers(),
            request.uri(),
            peer,
            self.config.handshake_header_bytes,
        ))
    }

    async fn poll(&self, outbox: Outbox) -> Result<Response<Full<Bytes>>, RequestError> {
        let id = self.next_poll_id();
        let (answer, answered) = oneshot::channel();
        if !outbox.control(Control::Poll { id, answer }) {
            return Err(RequestError::UnknownSession);
        }
        // Dropped with this future when the client closes the connection.
        let mut guard = PollGuard {
            outbox,
            id,
            waiting: true,
        };
        let answer = answered.await;
        guard.waiting = false;
        match answer {
            Ok(PollAnswer::Payload(packets)) => Ok(payload(packets)),
            Ok(PollAnswer::Refused) => Ok(empty(StatusCode::BAD_REQUEST)),
            Err(_) => Err(RequestError::UnknownSession),
        }
    }

    async fn post(
        &self,
        outbox: Outbox,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, RequestError> {
        if is_octet_stream(request.headers()) {
            // Binary bodies are of protocol 3; in 4 nobody would read this one.
            self.metrics.count(Counter::RejectedRequest);
            outbox.abort(CloseReason::TransportError);
            return Ok(empty(StatusCode::BAD_REQUEST));
        }
        let Some(mut guard) = PostGuard::begin(outbox) else {
            self.metrics.count(Counter::RejectedOverlap);
            return Ok(empty(StatusCode::BAD_REQUEST));
        };
        let limit = self.config.max_payload;
        let body = tokio::time::timeout(self.config.body_timeout, collect(request, limit)).await;
        let body = match body {
            Ok(Ok(body)) => body,
            Ok(Err(BodyError::TooLarge)) => {
                self.metrics.count(Counter::RejectedTooLarge);
                guard.finish();
                return Ok(closing(StatusCode::PAYLOAD_TOO_LARGE));
            }
            Ok(Err(BodyError::Aborted)) => return Ok(closing(StatusCode::BAD_REQUEST)),
            Err(_) => {
                self.metrics.count(Counter::RejectedTimeout);
                return Ok(closing(StatusCode::REQUEST_TIMEOUT));
            }
        };
        let (answer, answered) = oneshot::channel();
        if !guard.hand_over(Control::Post { body, answer }) {
            return Err(RequestError::UnknownSession);
        }
        match answered.await {
            Ok(PostAnswer::Accepted) => {
                let mut response = Response::new(Full::from("ok"));
                let html = HeaderValue::from_static("text/html");
                response.headers_mut().insert(header::CONTENT_TYPE, html);
                Ok(response)
            }
            Ok(PostAnswer::Refused) => Ok(empty(StatusCode::BAD_REQUEST)),
            Err(_) => Err(RequestError::UnknownSession),
        }
    }

    /// A polling session and the answer that tells the client of it.
    fn open_polling(self: &Arc<Self>, handshake: Arc<Handshake>) -> Bytes {
        let outbox = self.new_outbox(super::outbox::Sink::Poll { parked: false });
        let open = Frame::packet(&Packet::Open(
            self.open_packet(outbox.sid(), Transport::Polling),
        ));
        let driver = self.open(outbox, Transport::Polling, handshake, None);
        tokio::spawn(driver.run());
        open.polling()
    }
}

/// Tells the driver when a client gave up its poll.
struct PollGuard {
    outbox: Outbox,
    id: u64,
    waiting: bool,
}

impl Drop for PollGuard {
    fn drop(&mut self) {
        if self.waiting {
            self.outbox.control(Control::PollAborted { id: self.id });
        }
    }
}

/// Marks the session as being posted to. A second request at the same time ends the
/// session, and so does one that is given up half-way.
struct PostGuard {
    outbox: Outbox,
    finished: bool,
}

impl PostGuard {
    fn begin(outbox: Outbox) -> Option<Self> {
        if outbox.lock().begin_post() {
            return Some(Self {
                outbox,
                finished: false,
            });
        }
        outbox.abort(CloseReason::TransportError);
        None
    }

    /// Nothing is posted after all.
    fn finish(&mut self) {
        self.finished = true;
        self.outbox.lock().end_post();
    }

    /// Gives the payload to the driver, which says when it has been read. `false`: the session
    /// is gone.
    fn hand_over(&mut self, post: Control) -> bool {
        self.finished = true;
        self.outbox.control(post)
    }
}

impl Drop for PostGuard {
    fn drop(&mut self) {
        if !self.finished {
            self.outbox.abort(CloseReason::TransportError);
        }
    }
}

enum BodyError {
    TooLarge,
    Aborted,
}

/// Reads a body of at most `limit` bytes. A longer one is refused by its announced length,
/// or as soon as it passes the limit.
async fn collect(request: Request<Incoming>, limit: usize) -> Result<Bytes, BodyError> {
    let mut body = request.into_body();
    if body.size_hint().lower() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    let mut collected = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| BodyError::Aborted)?;
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if collected.len() + data.len() > limit {
            return Err(BodyError::TooLarge);
        }
        collected.extend_from_slice(&data);
    }
    Ok(collected.freeze())
}

fn is_octet_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/octet-stream"))
}

fn payload(packets: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::from(packets));
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static("text/plain; charset=UTF-8"),
    );
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

fn empty(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = Response::default();
    *response.status_mut() = status;
    response
}

fn closing(status: StatusCode) -> Response<Full<Bytes>> {
    let mut response = empty(status);
    let close = HeaderValue::from_static("close");
    response.headers_mut().insert(header::CONNECTION, close);
    response
}

/// The official answer: JSON with a code, and plain text for a request that wanted a
/// WebSocket.
fn refusal(error: RequestError, is_upgrade: bool) -> Response<Full<Bytes>> {
    let (code, message, status) = error.answer();
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST);
    let mut response = if is_upgrade {
        closing(status)
    } else {
        empty(status)
    };
    let headers = response.headers_mut();
    if status == StatusCode::UPGRADE_REQUIRED {
        headers.insert(
            header::SEC_WEBSOCKET_VERSION,
            HeaderValue::from_static("13"),
        );
    }
    let (kind, body) = if is_upgrade {
        ("text/html", message.to_owned())
    } else {
        let body = format!(r#"{{"code":{code},"message":"{message}"}}"#);
        ("application/json", body)
    };
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    *response.body_mut() = Full::from(body);
    response
}

fn switching_protocols(accept: &str) -> Response<Full<Bytes>> {
    let mut response = empty(StatusCode::SWITCHING_PROTOCOLS);
    let headers = response.headers_mut();
    headers.insert(header::UPGRADE, HeaderValue::from_static("websocket"));
    headers.insert(header::CONNECTION, HeaderValue::from_static("Upgrade"));
    if let Ok(accept) = HeaderValue::from_str(accept) {
        headers.insert(header::SEC_WEBSOCKET_ACCEPT, accept);
    }
    response
}
