//! One polling request of a session: its post or poll, until the driver has answered.

use std::{future::poll_fn, time::Duration};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, StatusCode, header};
use roomcast_protocol::engine::CloseReason;
use tokio::{sync::oneshot, time::timeout};

use super::message::{
    body::Pieces,
    refusal::{RequestError, Unknown},
    reply::{self, Form, HttpAnswer, Reply},
};
use crate::{
    engine::{
        outbox::{Control, Outbox, PollAnswer, PollOutcome, PostAnswer},
        primitives::GaugeGuard,
        session::Engine,
    },
    metrics::{Counter, Gauge},
};

impl Engine {
    /// Waits for packets, for at most `hold` if it is set; then the response is an empty packet.
    pub(super) async fn poll(
        &self,
        outbox: Outbox,
        form: Form,
        hold: Option<Duration>,
    ) -> Result<HttpAnswer, RequestError> {
        let id = self.next_poll_id();
        let answer = match outbox.poll(id) {
            PollOutcome::Unknown => return Err(RequestError::UnknownSession(Unknown::Ended)),
            PollOutcome::Answered(answer) => Ok(answer),
            PollOutcome::Waiting(mut answered) => {
                // Cancellation point: if the client closes the connection, this future is dropped
                // here and the guard notifies the driver. Otherwise the driver would give packets
                // to an abandoned request.
                let mut guard = PollGuard {
                    outbox,
                    id,
                    waiting: true,
                    _counted: GaugeGuard::new(&self.metrics, Gauge::PollsWaiting),
                };
                let answer = match hold {
                    None => answered.await,
                    // The timeout is boxed, so that other polls reserve no memory for it.
                    Some(hold) => match Box::pin(timeout(hold, &mut answered)).await {
                        Ok(answer) => answer,
                        Err(_) => {
                            // A task that is answering the poll at this moment has already taken it
                            // out.
                            guard.outbox.release_poll(id);
                            answered.await
                        }
                    },
                };
                guard.waiting = false;
                answer
            }
        };
        let (packets, may_compress, form) = match answer {
            Ok(PollAnswer::Payload {
                packets,
                may_compress,
                is_binary,
            }) => (packets, may_compress, form.for_payload(is_binary)),
            Ok(PollAnswer::Refused) => return Ok(refused()),
            // The driver has dropped the sender without an answer, because the session has ended.
            Err(_) => return Err(RequestError::UnknownSession(Unknown::Ended)),
        };
        match (&self.config.http.http_compression, form.encoding) {
            (Some(options), Some(encoding))
                if may_compress && packets.len() >= options.threshold =>
            {
                // The compression is boxed, so that waiting polls reserve no memory for it.
                let compressing = reply::compressed(packets, options.level, encoding, form);
                Ok(HttpAnswer::Other(Box::pin(compressing).await))
            }
            _ => Ok(HttpAnswer::Packets(packets, form)),
        }
    }

    /// Refuses a binary body and ends the session, as the official server does: only clients of
    /// revision 3 send such bodies.
    pub(super) fn refuse_binary(&self, outbox: &Outbox) -> Reply {
        self.metrics.count(Counter::RejectedRequest);
        outbox.abort(CloseReason::TransportError);
        reply::empty(StatusCode::BAD_REQUEST)
    }

    /// Reads posted packets and passes them to the driver.
    pub(super) async fn post(
        &self,
        outbox: Outbox,
        body: &mut dyn Pieces,
        is_binary: bool,
    ) -> Result<HttpAnswer, RequestError> {
        let Some(mut guard) = PostGuard::begin(outbox) else {
            self.metrics.count(Counter::RejectedOverlap);
            return Ok(refused());
        };
        let waiting = GaugeGuard::new(&self.metrics, Gauge::PostsWaiting);
        let limit = self.config.session.max_payload;
        // Cancellation point: an incomplete payload ends the session when the guard is dropped,
        // because its packets would be silently lost.
        let body = timeout(self.config.http.body_timeout, collect(body, limit)).await;
        let body = match body {
            Ok(Ok(body)) => body,
            Ok(Err(BodyError::TooLarge)) => {
                // The session continues, as in the official server: no packet of the payload was
                // read, so the client knows that all of them are missing.
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
        drop(waiting);
        let (answer, answered) = oneshot::channel();
        let post = Control::Post {
            body,
            is_binary,
            answer,
        };
        if !guard.hand_over(post) {
            return Err(RequestError::UnknownSession(Unknown::Ended));
        }
        // From here on the driver has the payload, and cancellation loses only the response.
        match answered.await {
            Ok(PostAnswer::Accepted) => Ok(HttpAnswer::Accepted),
            Ok(PostAnswer::Refused) => Ok(refused()),
            Err(_) => Err(RequestError::UnknownSession(Unknown::Ended)),
        }
    }
}

fn refused() -> HttpAnswer {
    HttpAnswer::Other(reply::empty(StatusCode::BAD_REQUEST))
}

fn closing(status: StatusCode) -> HttpAnswer {
    HttpAnswer::Other(reply::closing(status))
}

/// Notifies the driver if the client aborts its poll.
struct PollGuard<'a> {
    outbox: Outbox,
    id: u64,
    waiting: bool,
    _counted: GaugeGuard<'a>,
}

impl Drop for PollGuard<'_> {
    fn drop(&mut self) {
        if self.waiting {
            self.outbox.control(Control::PollAborted { id: self.id });
        }
    }
}

/// Marks the session as being posted to. A concurrent second post ends the session, and so does an
/// aborted one.
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

    /// Ends the post without a payload.
    fn finish(&mut self) {
        self.finished = true;
        self.outbox.lock().end_post();
    }

    /// Passes the payload to the driver, which answers when it has read it. Returns whether the
    /// session still exists.
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

/// Reads a body of at most `limit` bytes. A longer body is refused by its announced length, or as
/// soon as it exceeds the limit.
async fn collect(body: &mut dyn Pieces, limit: usize) -> Result<Bytes, BodyError> {
    if body.at_least() > limit as u64 {
        return Err(BodyError::TooLarge);
    }
    let mut collected = BytesMut::new();
    while let Some(piece) = poll_fn(|cx| body.poll_piece(cx)).await {
        let piece = piece.map_err(|()| BodyError::Aborted)?;
        if collected.len() + piece.len() > limit {
            return Err(BodyError::TooLarge);
        }
        collected.extend_from_slice(&piece);
    }
    Ok(collected.freeze())
}

pub(super) fn is_octet_stream(headers: &HeaderMap) -> bool {
    headers
        .get(header::CONTENT_TYPE)
        .is_some_and(|value| value.as_bytes().starts_with(b"application/octet-stream"))
}
