//! Serves the plain requests of a connection (handshakes, polls, posts) one after the other,
//! without hyper and its buffers.
//!
//! While a poll waits, its connection holds no buffer and no part of its request.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use parking_lot::Mutex;
use roomcast_protocol::Sid;
use tokio::time::Instant;

use super::{
    connection::{Connection, Next, RequestBody, ResponseWriter},
    parser::{Paths, SessionRequest},
    writer,
};
use crate::{
    engine::{
        admission::PendingConnection,
        http::{
            accepted::{Accepted, unless_disconnected},
            handoff::{Handoff, HandoffCell},
            message::{body::Pieces, reply::HttpAnswer, request},
            site::Site,
        },
        primitives::Peer,
        transport::Stream,
    },
    metrics::Counter,
};

/// The remains of a connection after its last HTTP request.
pub(in crate::engine) struct ConnectionRemains {
    pub(in crate::engine::http) stream: Stream,
    pub(in crate::engine::http) unread: Bytes,
    pub(in crate::engine::http) handoff: Option<Handoff>,
}

/// The result of serving plain requests.
pub(in crate::engine) enum ServeOutcome {
    /// There are no more requests.
    Finished(ConnectionRemains),
    /// hyper must parse this request and all later ones. The connection is still pending if this is
    /// its first request.
    Unsupported(Accepted, Option<PendingConnection>),
    /// The client closed the connection.
    Closed,
}

impl Site {
    /// Serves plain requests until the connection ends, is handed off, or receives another kind of
    /// request.
    pub(in crate::engine) async fn requests(
        self: &Arc<Self>,
        stream: Accepted,
        peer: Peer,
        pending: PendingConnection,
    ) -> ServeOutcome {
        let mut pending = Some(pending);
        if stream.is_put_back() {
            return ServeOutcome::Unsupported(stream, pending);
        }
        let paths = SitePaths {
            site: self,
            may_be_session_request: self.engine.needs_only_session(peer),
        };
        // The head, the body, the response and the disconnect check alternate within this task. The
        // lock is never contended nor held across an await; it makes the future `Send`.
        let connection = Mutex::new(Connection::new(stream));
        let header_timeout = self.engine.config.http.header_timeout;
        let mut stop = pin!(self.engine.stopped());
        // One timer serves all heads. It is reset only after it has expired.
        let mut timer = pin!(tokio::time::sleep(header_timeout));
        let mut deadline = timer.deadline();
        loop {
            let waiting = poll_fn(|cx| {
                let mut connection = connection.lock();
                if let Poll::Ready(next) = connection.poll_head(cx, &paths) {
                    return Poll::Ready(next);
                }
                while timer.as_mut().poll(cx).is_ready() {
                    if timer.deadline() >= deadline {
                        return Poll::Ready(Next::TimedOut);
                    }
                    timer.as_mut().reset(deadline);
                }
                // A partially received request is still answered when the server stops.
                if connection.is_idle() && stop.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Next::Stopped);
                }
                Poll::Pending
            });
            let next = waiting.await;
            if matches!(next, Next::Request(_) | Next::SessionRequest(_)) {
                // The client has sent a complete request, so the connection no longer counts as
                // pending.
                drop(pending.take());
            }
            let cell = HandoffCell::default();
            let disconnected = |cx: &mut Context<'_>| connection.lock().poll_disconnect(cx);
            let (answer, keep_alive) = match next {
                Next::Closed => return ServeOutcome::Closed,
                Next::TimedOut => {
                    self.engine.metrics.count(Counter::RejectedTimeout);
                    return over(connection, None);
                }
                Next::Stopped => return over(connection, None),
                Next::Unsupported => {
                    return ServeOutcome::Unsupported(
                        connection.into_inner().into_accepted(),
                        pending,
                    );
                }
                Next::SessionRequest(session_request) => {
                    connection.lock().begin(session_request.body);
                    let SessionRequest { sid, form, .. } = session_request;
                    let mut body = RequestBody(&connection);
                    let body = session_request
                        .is_post
                        .then_some(&mut body as &mut dyn Pieces);
                    let answering = pin!(self.engine.answer_session(sid, form, body, peer));
                    (
                        unless_disconnected(disconnected, answering).await,
                        session_request.keep_alive,
                    )
                }
                Next::Request(head) => {
                    connection.lock().begin(head.body);
                    let keep_alive = head.keep_alive;
                    let engine = self.owner(head.parts.uri.path()).unwrap_or(&self.engine);
                    let mut body = RequestBody(&connection);
                    // The future is boxed, so that polling connections reserve no memory for it.
                    let mut answering = Box::pin(engine.answer(head.parts, &mut body, peer, &cell));
                    let reply = unless_disconnected(disconnected, answering.as_mut()).await;
                    (reply.map(HttpAnswer::Other), keep_alive)
                }
            };
            // The client has disconnected. The dropped future has already notified the session
            // (`PollGuard`, `PostGuard` in `exchange`).
            let Some(answer) = answer else {
                return ServeOutcome::Closed;
            };
            let mut handoff = cell.into_inner();
            let (head, mut body) = answer.into_parts();
            let is_drained = poll_fn(|cx| Poll::Ready(connection.lock().drain(cx))).await;
            let is_last = !(keep_alive && is_drained) || self.engine.is_stopped();
            if let Some(Handoff::Open(engine, opening)) = &mut handoff {
                // The first packet of the session is written together with the `101`.
                body = engine.announce(opening);
            }
            let is_over = is_last || writer::is_last(&head) || handoff.is_some();
            let mut outbound = ResponseWriter::new(head, body, is_last);
            let sent = poll_fn(|cx| outbound.poll_send(&mut connection.lock(), cx)).await;
            if let Err(error) = sent {
                if error.kind() == io::ErrorKind::TimedOut {
                    self.engine.metrics.count(Counter::RejectedTimeout);
                }
                return over(connection, None);
            }
            if is_over {
                return over(connection, handoff);
            }
            deadline = Instant::now()
                .checked_add(header_timeout)
                .unwrap_or_else(|| timer.deadline());
        }
    }
}

/// The paths of a server's engines, for one peer.
struct SitePaths<'a> {
    site: &'a Site,
    may_be_session_request: bool,
}

impl Paths for SitePaths<'_> {
    fn owns(&self, path: &str) -> bool {
        self.site.owner(path).is_some()
    }

    fn session(&self, path: &str, query: &str) -> Option<Sid> {
        let engine = &self.site.engine;
        let is_session_request = self.may_be_session_request && engine.owns(path);
        let id = is_session_request.then(|| request::session(query, &engine.config))??;
        (!engine.is_foreign(id)).then_some(id.sid)
    }
}

fn over(connection: Mutex<Connection>, handoff: Option<Handoff>) -> ServeOutcome {
    let (stream, unread) = connection.into_inner().into_accepted().into_parts();
    ServeOutcome::Finished(ConnectionRemains {
        stream,
        // The bytes are copied, so that they do not keep a larger buffer alive.
        unread: Bytes::copy_from_slice(&unread),
        handoff,
    })
}
