//! Plain requests for an engine, one after the other, without hyper and its buffers: connecting,
//! polling and posting.
//!
//! While a poll waits, its connection holds no buffer and nothing of its request.

use std::{
    future::poll_fn,
    io,
    pin::pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use http::Request;
use parking_lot::Mutex;
use roomcast_protocol::Sid;
use tokio::time::Instant;

use super::{
    head::{Brief, Paths},
    line::{Inbound, Line, Next, Outbound},
    response,
};
use crate::{
    engine::{
        admission::PendingConnection,
        ground::Peer,
        http::{
            accepted::{Accepted, attended},
            handoff::{Handoff, HandoffCell},
            message::{reply::Answer, request},
            site::Site,
        },
        transport::Stream,
    },
    metrics::Counter,
};

/// What is left of a connection after its last HTTP request.
pub(in crate::engine) struct Rest {
    pub(in crate::engine::http) stream: Stream,
    pub(in crate::engine::http) unread: Bytes,
    pub(in crate::engine::http) handoff: Option<Handoff>,
}

/// What serving a connection came to.
pub(in crate::engine) enum Served {
    /// There are no more requests.
    Over(Rest),
    /// The next request is for hyper, and all after it. The connection is still pending if it is the
    /// first.
    Odd(Accepted, Option<PendingConnection>),
    /// The client has gone.
    Gone,
}

impl Site {
    /// Serves plain requests until the connection ends, is handed off, or has another one.
    pub(in crate::engine) async fn requests(
        self: &Arc<Self>,
        stream: Accepted,
        peer: Peer,
        pending: PendingConnection,
    ) -> Served {
        let mut pending = Some(pending);
        if stream.is_put_back() {
            return Served::Odd(stream, pending);
        }
        let own = Own {
            site: self,
            may_be_brief: self.engine.looks_at_sessions_only(peer),
        };
        let line = Mutex::new(Line::new(stream));
        let patience = self.engine.config.http.header_timeout;
        let mut stopped = self.engine.stopped();
        let mut stop = pin!(async { stopped.wait_for(|stopped| *stopped).await.is_ok() });
        // One timer for all heads. It is set again when it has run out, not for each.
        let mut timer = pin!(tokio::time::sleep(patience));
        let mut deadline = timer.deadline();
        loop {
            let waiting = poll_fn(|cx| {
                let mut line = line.lock();
                if let Poll::Ready(next) = line.poll_head(cx, &own) {
                    return Poll::Ready(next);
                }
                while timer.as_mut().poll(cx).is_ready() {
                    if timer.deadline() >= deadline {
                        return Poll::Ready(Next::Late);
                    }
                    timer.as_mut().reset(deadline);
                }
                // A request that has begun is answered.
                if line.is_idle() && stop.as_mut().poll(cx).is_ready() {
                    return Poll::Ready(Next::Stopped);
                }
                Poll::Pending
            });
            let next = waiting.await;
            if matches!(next, Next::Request(_) | Next::Brief(_)) {
                // It has said what it wants.
                drop(pending.take());
            }
            let cell = HandoffCell::default();
            let gone = |cx: &mut Context<'_>| line.lock().poll_gone(cx);
            let (answer, keep_alive) = match next {
                Next::Gone => return Served::Gone,
                Next::Late => {
                    self.engine.metrics.count(Counter::RejectedTimeout);
                    return over(line, None);
                }
                Next::Stopped => return over(line, None),
                Next::Odd => {
                    return Served::Odd(line.into_inner().into_accepted(), pending);
                }
                Next::Brief(brief) => {
                    line.lock().begin(brief.body);
                    let Brief { sid, form, .. } = brief;
                    let body = brief.is_post.then_some(Inbound(&line));
                    let answering = pin!(self.engine.answer_session(sid, form, body, peer));
                    (attended(gone, answering).await, brief.keep_alive)
                }
                Next::Request(head) => {
                    line.lock().begin(head.body);
                    let keep_alive = head.keep_alive;
                    let engine = self.owner(head.parts.uri.path()).unwrap_or(&self.engine);
                    let request = Request::from_parts(head.parts, Inbound(&line));
                    // Boxed, so that a connection that polls does not keep the room for it.
                    let mut answering = Box::pin(engine.answer(request, peer, &cell));
                    let reply = attended(gone, answering.as_mut()).await;
                    (reply.map(Answer::Other), keep_alive)
                }
            };
            let Some(answer) = answer else {
                return Served::Gone;
            };
            let mut handoff = cell.into_inner();
            let (head, mut body) = answer.into_parts();
            let is_drained = poll_fn(|cx| Poll::Ready(line.lock().drain(cx))).await;
            let is_last = !(keep_alive && is_drained) || self.engine.is_stopped();
            if let Some(Handoff::Open(engine, opening)) = &mut handoff {
                body = engine.announce(opening);
            }
            let is_over = is_last || response::is_last(&head) || handoff.is_some();
            let mut outbound = Outbound::new(head, body, is_last);
            let sent = poll_fn(|cx| outbound.poll_send(&mut line.lock(), cx)).await;
            if let Err(error) = sent {
                if error.kind() == io::ErrorKind::TimedOut {
                    self.engine.metrics.count(Counter::RejectedTimeout);
                }
                return over(line, None);
            }
            if is_over {
                return over(line, handoff);
            }
            deadline = Instant::now()
                .checked_add(patience)
                .unwrap_or_else(|| timer.deadline());
        }
    }
}

/// The paths of a server's engines, for one peer.
struct Own<'a> {
    site: &'a Site,
    may_be_brief: bool,
}

impl Paths for Own<'_> {
    fn owns(&self, path: &str) -> bool {
        self.site.owner(path).is_some()
    }

    fn session(&self, path: &str, query: &str) -> Option<Sid> {
        let engine = &self.site.engine;
        let is_brief = self.may_be_brief && engine.owns(path);
        is_brief.then(|| request::session(query, &engine.config))?
    }
}

fn over(line: Mutex<Line>, handoff: Option<Handoff>) -> Served {
    let (stream, unread) = line.into_inner().into_accepted().into_parts();
    Served::Over(Rest {
        stream,
        // Copied, so that it is no larger than it must be.
        unread: Bytes::copy_from_slice(&unread),
        handoff,
    })
}
