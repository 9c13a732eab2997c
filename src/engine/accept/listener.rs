//! Accepts connections and starts a task for each.

use std::{io, net::SocketAddr, pin::pin, sync::Arc, time::Duration};

use futures_util::FutureExt as _;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::{proxied, tls::Tls};
use crate::{
    Config,
    engine::{
        admission::{PendingConnection, reject_full},
        http::{Accepted, Site},
        primitives::Peer,
    },
    limit::LogThrottle,
    metrics::Counter,
};

/// Delay after a failed `accept`. Usually the process is out of file descriptors, and the pending
/// connection would make `accept` fail again immediately.
const ACCEPT_RETRY_DELAY: Duration = Duration::from_millis(50);
/// Number of accepted connections before the task yields.
const ACCEPTS_PER_YIELD: u32 = 16;

/// Serves connections, which use TLS if it is given, until the engine stops.
pub(crate) async fn serve(site: Arc<Site>, tls: Option<Tls>, listener: Arc<TcpListener>) {
    let mut stop = pin!(site.engine.stopped());
    let (mut accepts, log_throttle) = (0, LogThrottle::default());
    loop {
        // `accept` is cancel safe: if the stop wins, no accepted connection is lost. Connections in
        // the backlog are refused when the listener is closed.
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut stop => return,
        };
        match accepted {
            Ok((stream, address)) => start_connection(&site, tls.as_ref(), stream, address),
            // The connection is already closed; the next one may be available.
            Err(error) if is_of_one_connection(&error) => {}
            Err(error) => {
                site.engine.metrics.count(Counter::AcceptErrors);
                if let Some(more) = log_throttle.permit() {
                    tracing::warn!(%error, more, "cannot accept connections");
                }
                tokio::time::sleep(ACCEPT_RETRY_DELAY).await;
            }
        }
        accepts = (accepts + 1) % ACCEPTS_PER_YIELD;
        if accepts == 0 {
            // Sessions continue between new connections.
            tokio::task::yield_now().await;
        }
    }
}

/// Returns whether the failure concerns only one connection (accept(2)).
fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
            | io::ErrorKind::Interrupted
    )
}

/// Starts a task for a connection if the limit permits.
fn start_connection(site: &Arc<Site>, tls: Option<&Tls>, stream: TcpStream, address: SocketAddr) {
    let Some(pending) = site.engine.connection_limiter.try_admit() else {
        site.engine.metrics.count(Counter::RejectedUnread);
        // A client that starts with TLS could not read a plain response.
        if tls.is_none() {
            reject_full(&stream);
        }
        return;
    };
    // On Linux, a connection inherits the option from its listener. Other systems do not guarantee
    // that.
    #[cfg(not(any(target_os = "android", target_os = "linux")))]
    let _ = stream.set_nodelay(true);
    let site = Arc::clone(site);
    if site.engine.expects_proxy_protocol(address) {
        // These futures are boxed, so that the code that runs tasks is not compiled for each type.
        // Direct connections have their own type of task, which takes one allocation.
        tokio::spawn(serve_proxied(site, tls.cloned(), stream, address, pending).boxed());
    } else if let Some(tls) = tls.cloned() {
        tokio::spawn(serve_tls(site, tls, stream, address, pending).boxed());
    } else {
        tokio::spawn(serve_plain(site, stream, address, pending));
    }
}

/// Serves a connection forwarded by a load balancer.
async fn serve_proxied(
    site: Arc<Site>,
    tls: Option<Tls>,
    mut stream: TcpStream,
    balancer: SocketAddr,
    pending: PendingConnection,
) {
    let header_timeout = site.engine.config.http.header_timeout;
    match proxied::client(&mut stream, balancer, header_timeout).await {
        Ok(client) => match tls {
            Some(tls) => serve_tls(site, tls, stream, client, pending).await,
            None => serve_plain(site, stream, client, pending).await,
        },
        Err(error) => {
            site.engine.metrics.count(Counter::ProxyHeadersRejected);
            tracing::debug!(%balancer, %error, "connection refused");
        }
    }
}

/// Serves a TLS connection of this client.
async fn serve_tls(
    site: Arc<Site>,
    tls: Tls,
    stream: TcpStream,
    address: SocketAddr,
    pending: PendingConnection,
) {
    let client = site.engine.limited(address);
    let accepted = {
        // The handle is dropped at the end of this block, because an open connection does not need
        // it.
        let acceptor = tls;
        // The handshake is boxed, so that the task of a WebSocket does not retain the memory that
        // it needed.
        Box::pin(acceptor.accept(stream, client, &site.engine.metrics)).await
    };
    let Some(stream) = accepted else {
        return;
    };
    let stream = Accepted::other(Box::new(stream), site.engine.config.http.write_timeout);
    let peer = Peer {
        address,
        secure: true,
    };
    site.connection(stream, peer, pending).await;
}

/// Serves an unencrypted connection of this client.
fn serve_plain(
    site: Arc<Site>,
    stream: TcpStream,
    address: SocketAddr,
    pending: PendingConnection,
) -> impl Future<Output = ()> + Send {
    let stream = Accepted::tcp(stream, site.engine.config.http.write_timeout);
    let peer = Peer {
        address,
        secure: false,
    };
    site.connection(stream, peer, pending)
}

/// Limits the kernel's buffers for a client; connections inherit the options from their listener.
fn limit_kernel(listening: &TcpSocket, config: &Config) {
    let socket = SockRef::from(listening);
    let mut outcome = Ok(());
    if let Some(bytes) = config.outbox.send_buffer_bytes {
        outcome = socket.set_send_buffer_size(bytes as usize);
    }
    #[cfg(any(target_os = "android", target_os = "linux"))]
    if let Some(bytes) = config.outbox.unsent_bytes {
        outcome = outcome.and_then(|()| socket.set_tcp_notsent_lowat(bytes));
    }
    if let Err(error) = outcome {
        crate::throttled_log!(warn, %error, "could not limit the kernel's socket buffers");
    }
}

/// Creates a listening socket with a backlog for a burst of clients.
pub(crate) fn bind(address: SocketAddr, config: &Config) -> io::Result<TcpListener> {
    let socket = if address.is_ipv4() {
        TcpSocket::new_v4()
    } else {
        TcpSocket::new_v6()
    }?;
    // A restarted server must not wait until the connections of its predecessor have left the state
    // TIME_WAIT.
    socket.set_reuseaddr(true)?;
    // Connections inherit the limits, so these are set before the first connection can arrive.
    limit_kernel(&socket, config);
    // A frame is written completely; waiting for more data would only delay it.
    socket.set_nodelay(true)?;
    socket.bind(address)?;
    socket.listen(BACKLOG)
}

/// Number of connections that may wait for `accept`; the kernel caps it at `net.core.somaxconn`.
const BACKLOG: u32 = 4096;
