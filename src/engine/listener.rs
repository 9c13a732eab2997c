//! Accepts connections and serves HTTP on them, until one becomes a WebSocket.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    net::SocketAddr,
    pin::{Pin, pin},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::{Either, Full};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use parking_lot::Mutex;
use socket2::SockRef;
use tokio::{
    net::{TcpListener, TcpSocket, TcpStream},
    sync::Notify,
};
use tower::ServiceExt as _;

use super::{
    Application, Engine, Raw,
    accepted::{Accepted, Peer},
    door::{Knock, hang_up},
    driver::goodbye,
    http::{Handoff, HandoffCell},
    proxied, reply,
    stream::Stream,
    tls::Tls,
};
use crate::{
    Config,
    limit::{Client, Quiet},
    metrics::{Counter, Gauge, Metrics},
};
use roomcast_protocol::websocket::CloseCode;

/// Bytes that the headers of a request may have.
const MAX_HEADER_BYTES: usize = 32 * 1024;
/// Headers that a request may have.
const MAX_HEADERS: usize = 100;
/// How long to wait after `accept` failed: most often the process is out of descriptors,
/// and the connection that waits would make it fail again at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Connections taken in before others have their turn.
const ACCEPTS_PER_TURN: u32 = 16;
/// How long a client may take to read the last answer and close.
const LINGER: Duration = Duration::from_secs(1);

/// What a listener serves.
pub(crate) struct Endpoints<A: Application> {
    /// Socket.IO.
    pub(crate) engine: Arc<Engine<A>>,
    /// Plain Engine.IO under another path.
    pub(crate) raw: Option<Arc<Engine<Raw>>>,
    /// Everything else.
    pub(crate) router: axum::Router,
    /// What connections are encrypted with, if they are.
    pub(crate) tls: Option<Tls>,
}

/// Serves connections until the engine stops.
pub(crate) async fn serve<A: Application>(server: Arc<Endpoints<A>>, listener: TcpListener) {
    let mut stopped = server.engine.stopped();
    let mut stop = pin!(async { stopped.wait_for(|stopped| *stopped).await.is_ok() });
    let (mut turn, quiet) = (0, Quiet::default());
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = &mut stop => return,
        };
        match accepted {
            Ok((stream, address)) => server.take_in(stream, address),
            // That one has gone already; the next may be there.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                server.engine.metrics.count(Counter::AcceptErrors);
                if let Some(more) = quiet.speak() {
                    tracing::warn!(%error, more, "cannot accept connections");
                }
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
        turn = (turn + 1) % ACCEPTS_PER_TURN;
        if turn == 0 {
            // Those who are in have their turn between newcomers.
            tokio::task::yield_now().await;
        }
    }
}

/// Whether accepting failed for a reason that the next connection does not share (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// What is left of a connection after its last HTTP request.
struct Rest {
    stream: Stream,
    unread: Bytes,
    handoff: Option<Handoff>,
}

impl<A: Application> Endpoints<A> {
    /// Gives a connection a task of its own, if there is room.
    fn take_in(self: &Arc<Self>, stream: TcpStream, address: SocketAddr) {
        let Some(knock) = self.engine.door.knock() else {
            self.engine.metrics.count(Counter::RejectedUnheard);
            if self.tls.is_none() {
                hang_up(&stream);
            }
            return;
        };
        // A frame is written whole; waiting for more would only delay it.
        let _ = stream.set_nodelay(true);
        let server = Arc::clone(self);
        if server.engine.expects_proxy_protocol(address) {
            tokio::spawn(server.proxied(stream, address, knock));
        } else if server.tls.is_some() {
            tokio::spawn(server.secured(stream, address, knock));
        } else {
            tokio::spawn(server.direct(stream, address, knock));
        }
    }

    /// Serves a connection that a load balancer has passed on.
    async fn proxied(self: Arc<Self>, mut stream: TcpStream, balancer: SocketAddr, knock: Knock) {
        let patience = self.engine.config.header_timeout;
        match proxied::client(&mut stream, balancer, patience).await {
            Ok(client) if self.tls.is_some() => self.secured(stream, client, knock).await,
            Ok(client) => self.direct(stream, client, knock).await,
            Err(error) => {
                self.engine.metrics.count(Counter::ProxyHeadersRejected);
                tracing::debug!(%balancer, %error, "connection refused");
            }
        }
    }

    /// Serves an encrypted connection of this client.
    async fn secured(self: Arc<Self>, stream: TcpStream, address: SocketAddr, knock: Knock) {
        let Some(tls) = &self.tls else { return };
        let client = self.engine.limited(address);
        // Boxed, so that the task of a WebSocket does not keep the room the handshake needed.
        let Some(stream) = Box::pin(tls.accept(stream, client, &self.engine.metrics)).await else {
            return;
        };
        let stream = Accepted::other(Box::new(stream), self.engine.config.write_timeout);
        let peer = Peer {
            address,
            secure: true,
        };
        self.connection(stream, peer, knock).await;
    }

    /// Serves a connection of this client.
    fn direct(
        self: Arc<Self>,
        stream: TcpStream,
        address: SocketAddr,
        knock: Knock,
    ) -> impl Future<Output = ()> + Send {
        let stream = Accepted::tcp(stream, self.engine.config.write_timeout);
        let peer = Peer {
            address,
            secure: false,
        };
        self.connection(stream, peer, knock)
    }

    /// Serves one connection until it ends.
    pub(super) async fn connection(self: Arc<Self>, stream: Accepted, peer: Peer, knock: Knock) {
        let _open = self.engine.count_connection();
        // Boxed, so that the task of a WebSocket does not keep the room HTTP needed.
        let Some(rest) = Box::pin(self.http(stream, peer, knock)).await else {
            return;
        };
        match rest.handoff {
            Some(Handoff::Open(opening)) => {
                let driver = self
                    .engine
                    .open_websocket(rest.stream, rest.unread, opening);
                drop(self);
                driver.run().await;
            }
            Some(Handoff::OpenRaw(opening)) => {
                let Some(raw) = &self.raw else { return };
                let driver = raw.open_websocket(rest.stream, rest.unread, opening);
                drop(self);
                // Boxed: one of two drivers in this task's future is enough.
                Box::pin(driver.run()).await;
            }
            Some(Handoff::Attach(attaching)) => {
                if !attaching.attach(rest.stream.clone(), rest.unread) {
                    goodbye(&rest.stream, CloseCode::NORMAL);
                }
            }
            None => linger(&rest.stream).await,
        }
    }

    /// Serves requests until the connection ends or is handed off.
    async fn http(self: &Arc<Self>, stream: Accepted, peer: Peer, knock: Knock) -> Option<Rest> {
        let handoff = HandoffCell::default();
        let knock = Mutex::new(Some(knock));
        // Boxed: `poll_without_shutdown` wants a future that can be moved.
        let service = service_fn(|request| {
            // It has said what it wants.
            drop(knock.lock().take());
            Box::pin(self.answer(request, peer, &handoff))
        });
        let mut connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.engine.config.header_timeout)
            .max_buf_size(MAX_HEADER_BYTES)
            .max_headers(MAX_HEADERS)
            .serve_connection(TokioIo::new(stream), service);
        let mut stopped = self.engine.stopped();
        let served = {
            let mut stop = pin!(async { stopped.wait_for(|stopped| *stopped).await.is_ok() });
            let serving = poll_fn(|cx| connection.poll_without_shutdown(cx));
            let mut serving = pin!(serving);
            tokio::select! {
                served = &mut serving => Some(served),
                _ = &mut stop => None,
            }
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
        let parts = connection.into_parts();
        let handoff = handoff.lock().take();
        if served.is_err() && handoff.is_some() {
            return None;
        }
        Some(Rest {
            stream: parts.io.into_inner().into_stream(),
            // Copied, so that hyper's buffer is given back.
            unread: Bytes::copy_from_slice(&parts.read_buf),
            handoff,
        })
    }

    async fn answer(
        self: &Arc<Self>,
        request: Request<Incoming>,
        peer: Peer,
        handoff: &HandoffCell,
    ) -> Result<Response<Either<Full<Bytes>, axum::body::Body>>, Infallible> {
        if self.engine.owns(request.uri().path()) {
            let response = self.engine.answer(request, peer, handoff).await;
            return Ok(response.map(Either::Left));
        }
        if let Some(raw) = self
            .raw
            .as_ref()
            .filter(|raw| raw.owns(request.uri().path()))
        {
            let response = Box::pin(raw.answer(request, peer, handoff)).await;
            let mut handoff = handoff.lock();
            if let Some(Handoff::Open(opening)) = handoff.take_if(|h| matches!(h, Handoff::Open(_)))
            {
                *handoff = Some(Handoff::OpenRaw(opening));
            }
            return Ok(response.map(Either::Left));
        }
        let mut request = request.map(axum::body::Body::new);
        let peer = self.engine.identify(peer, request.headers());
        let extensions = request.extensions_mut();
        extensions.insert(axum::extract::ConnectInfo(peer.address));
        extensions.insert(Client::new(peer.address, peer.secure));
        let is_upgrade = request.headers().contains_key(http::header::UPGRADE);
        let answering = self.router.clone().oneshot(request);
        let config = &self.engine.config;
        if !(is_upgrade && config.destroy_upgrade) {
            let Ok(response) = answering.await;
            return Ok(response.map(Either::Right));
        }
        match tokio::time::timeout(config.destroy_upgrade_timeout, answering).await {
            Ok(Ok(response)) => Ok(response.map(Either::Right)),
            Err(_) => {
                self.engine.metrics.count(Counter::RejectedTimeout);
                Ok(reply::closing(StatusCode::BAD_REQUEST).map(Either::Left))
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

/// Closes our side, then reads what the client still sends for a moment: unread input
/// would turn the last answer into a reset.
async fn linger(stream: &Stream) {
    stream.shutdown();
    let closed = poll_fn(|cx| {
        if stream.discard(cx) {
            std::task::Poll::Ready(())
        } else {
            std::task::Poll::Pending
        }
    });
    let _ = tokio::time::timeout(LINGER, closed).await;
}

/// Limits what the kernel holds for a client; connections take the options over from their listener.
fn limit_kernel(listening: &TcpSocket, config: &Config) {
    let socket = SockRef::from(listening);
    let mut outcome = Ok(());
    if let Some(bytes) = config.send_buffer_bytes {
        outcome = socket.set_send_buffer_size(bytes as usize);
    }
    #[cfg(any(target_os = "android", target_os = "linux"))]
    if let Some(bytes) = config.unsent_bytes {
        outcome = outcome.and_then(|()| socket.set_tcp_notsent_lowat(bytes));
    }
    if let Err(error) = outcome {
        tracing::warn!(%error, "the kernel's buffers cannot be limited");
    }
}

/// A listening socket with room for a burst of clients.
pub(crate) fn bind(address: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    socket.set_reuseaddr(true)?;
    // Before anybody can connect.
    limit_kernel(&socket, config);
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Connections that may wait for `accept`; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 4096;

/// Counts a connection for as long as it lives.
pub(super) struct OpenConnection {
    pub(super) metrics: Arc<Metrics>,
    pub(super) ended: Arc<Notify>,
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        self.metrics.shift(Gauge::Connections, -1);
        self.ended.notify_waiters();
    }
}
