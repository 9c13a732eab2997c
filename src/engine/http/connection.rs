//! Serves one connection: first HTTP, then a WebSocket or nothing.
//!
//! Plain requests for an engine are handled directly ([`http1`](super::http1)). From the first
//! other request on, hyper handles the connection.

use std::{
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;

use super::{
    accepted::{Accepted, SharedConnection, unless_disconnected},
    handoff::{Handoff, HandoffCell},
    http1::{ConnectionRemains, MAX_HEADER_BYTES, MAX_HEADERS, ServeOutcome},
    message::reply,
    site::{FallbackBody, Site},
};
use crate::{
    engine::{
        admission::PendingConnection,
        primitives::Peer,
        transport::{MAX_DISCARDED, Stream},
    },
    limit::Client,
    metrics::Counter,
};

/// Maximum time for a client to read the last response and close.
const LINGER: Duration = Duration::from_secs(1);

impl Site {
    /// Serves one connection until it ends, or until the driver of a session takes its WebSocket
    /// over.
    pub(in crate::engine) async fn connection(
        self: Arc<Self>,
        stream: Accepted,
        peer: Peer,
        pending: PendingConnection,
    ) {
        let open = self.engine.count_connection();
        // The future is boxed, so that the task of a WebSocket does not retain the memory that HTTP
        // needed.
        let rest = match Box::pin(self.requests(stream, peer, pending)).await {
            ServeOutcome::Finished(rest) => rest,
            ServeOutcome::Unsupported(stream, pending) => {
                match Box::pin(self.http(stream, peer, pending)).await {
                    Some(rest) => rest,
                    None => return,
                }
            }
            ServeOutcome::Closed => return,
        };
        match rest.handoff {
            Some(Handoff::Open(engine, opening)) => {
                let driver = engine.open_websocket(rest.stream, rest.unread, opening);
                // The driver holds its engine. Everything that only HTTP needs is dropped for the
                // lifetime of the WebSocket.
                drop((self, engine));
                driver.run().await;
            }
            Some(Handoff::Attach(attaching, deflate)) => {
                let stream = self.engine.compress(rest.stream, deflate);
                attaching.attach(&stream, rest.unread, open);
            }
            #[cfg(feature = "forwarding")]
            Some(Handoff::Tunnel(tunnel)) => {
                drop(self);
                // The tunnel is boxed, so that the task of a WebSocket reserves no memory for it.
                Box::pin(tunnel.run(rest.stream, rest.unread)).await;
            }
            None => linger(&rest.stream).await,
        }
    }

    /// Serves requests with hyper until the connection ends or is handed off.
    async fn http(
        self: &Arc<Self>,
        stream: Accepted,
        peer: Peer,
        pending: Option<PendingConnection>,
    ) -> Option<ConnectionRemains> {
        let handoff = HandoffCell::default();
        let pending = Mutex::new(pending);
        let accepted = Mutex::new(stream);
        let stream = &accepted;
        // The service returns boxed futures, because `poll_without_shutdown` requires them to be
        // `Unpin`.
        let service = service_fn(|request: Request<Incoming>| {
            // The client has sent a complete head, so the connection no longer counts as pending.
            drop(pending.lock().take());
            // hyper notices a disconnect unless the client has sent more than this request. That is
            // looked for here, but not in a request with a body, whose bytes hyper must read.
            let has_body = !request.body().is_end_stream();
            let disconnected = move |cx: &mut Context<'_>| match has_body {
                true => Poll::Pending,
                false => stream.lock().poll_disconnect(cx),
            };
            let answering = self.answer(request, peer, &handoff);
            Box::pin(async move {
                let answer = unless_disconnected(disconnected, pin!(answering)).await;
                answer.ok_or_else(|| io::Error::from(io::ErrorKind::ConnectionAborted))
            })
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.engine.config.http.header_timeout)
            .max_buf_size(MAX_HEADER_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(SharedConnection(stream)), service);
        // The losing branch is only a borrow: the connection outlives it, and a request in flight
        // is answered below.
        let served = tokio::select! {
            served = poll_fn(|cx| connection.poll_without_shutdown(cx)) => Some(served),
            () = self.engine.stopped() => None,
        };
        let served = match served {
            Some(served) => served,
            None => {
                Pin::new(&mut connection).graceful_shutdown();
                poll_fn(|cx| connection.poll_without_shutdown(cx)).await
            }
        };
        if let Err(error) = &served {
            self.count_http_error(error);
        }
        let read = connection.into_parts().read_buf;
        let handoff = handoff.lock().take();
        // The `101` was not sent, so no WebSocket follows. Dropping the handoff undoes the upgrade.
        if served.is_err() && handoff.is_some() {
            return None;
        }
        let (stream, front) = accepted.into_inner().into_parts();
        // The bytes are copied, so that hyper's buffer is freed.
        let mut unread = BytesMut::with_capacity(read.len() + front.len());
        // hyper read its bytes before those that were read while the client waited for a response.
        unread.extend_from_slice(&read);
        unread.extend_from_slice(&front);
        Some(ConnectionRemains {
            stream,
            unread: unread.freeze(),
            handoff,
        })
    }

    async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
        handoff: &HandoffCell,
    ) -> Response<Either<Full<Bytes>, FallbackBody>> {
        let (parts, mut body) = request.into_parts();
        if let Some(refusal) = self.engine.refuse_invalid_host(&parts) {
            return refusal.map(Either::Left);
        }
        if let Some(engine) = self.owner(parts.uri.path()) {
            let response = engine.answer(parts, &mut body, peer, handoff).await;
            return response.map(Either::Left);
        }
        let mut request = Request::from_parts(parts, body);
        let peer = self.engine.identify(peer, request.headers());
        let extensions = request.extensions_mut();
        #[cfg(feature = "axum")]
        extensions.insert(axum::extract::ConnectInfo(peer.address));
        extensions.insert(Client::connected(peer.address, peer.secure));
        let is_upgrade = request.headers().contains_key(http::header::UPGRADE);
        let answering = self.fallback.call(request);
        let config = &self.engine.config;
        // The official server destroys an upgrade that no other code in the process has handled
        // within this time (`destroyUpgrade`).
        if !(is_upgrade && config.http.destroy_upgrade) {
            return answering.await.map(Either::Right);
        }
        match tokio::time::timeout(config.http.destroy_upgrade_timeout, answering).await {
            Ok(response) => response.map(Either::Right),
            Err(_) => {
                self.engine.metrics.count(Counter::RejectedTimeout);
                reply::closing(StatusCode::BAD_REQUEST).map(Either::Left)
            }
        }
    }

    fn count_http_error(&self, error: &hyper::Error) {
        let io = std::error::Error::source(error).and_then(|e| e.downcast_ref::<io::Error>());
        let is_stalled = io.is_some_and(|error| error.kind() == io::ErrorKind::TimedOut);
        if error.is_timeout() || is_stalled {
            self.engine.metrics.count(Counter::RejectedTimeout);
        } else if error.is_parse() {
            self.engine.metrics.count(Counter::RejectedMalformed);
        }
    }
}

/// Closes the write side, then briefly reads what the client still sends, because unread input
/// would turn the last response into a reset.
async fn linger(stream: &Stream) {
    stream.shutdown();
    let mut left = MAX_DISCARDED;
    let closed = poll_fn(|cx| {
        if stream.discard(cx, &mut left) {
            Poll::Ready(())
        } else {
            Poll::Pending
        }
    });
    let _ = tokio::time::timeout(LINGER, closed).await;
}
