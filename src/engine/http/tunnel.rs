//! Tunnels for WebSockets whose sessions are on another server: bytes are forwarded unchanged.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::OwnedSemaphorePermit,
    time::timeout,
};

use crate::{
    engine::{forwarding::Forwarder, session::Engine, transport::Stream},
    metrics::Gauge,
};

/// Maximum number of bytes read in one call, per direction.
const BUFFER: usize = 4096;

/// A tunnel to the other server, before it is joined with the client's connection.
pub(super) struct Tunnel {
    engine: Arc<Engine>,
    forwarder: Arc<Forwarder>,
    server: Option<Upgraded>,
    _place: OwnedSemaphorePermit,
}

impl Tunnel {
    pub(super) fn new(
        engine: &Arc<Engine>,
        forwarder: &Arc<Forwarder>,
        server: Upgraded,
        place: OwnedSemaphorePermit,
    ) -> Self {
        engine.metrics.shift(Gauge::Tunnels, 1);
        Self {
            engine: Arc::clone(engine),
            forwarder: Arc::clone(forwarder),
            server: Some(server),
            _place: place,
        }
    }

    /// Forwards bytes until one side ends, one side is silent for longer than an open session can
    /// be, or this server closes its tunnels.
    pub(super) async fn run(mut self, stream: Stream, unread: Bytes) {
        let (Some(client), Some(server)) = (stream.into_duplex(), self.server.take()) else {
            return;
        };
        let session = &self.engine.config.session;
        let time_limit = session.ping_interval.saturating_add(session.ping_timeout);
        let (from_client, to_client) = tokio::io::split(client);
        let (from_server, mut to_server) = tokio::io::split(TokioIo::new(server));
        let passing = async {
            timeout(time_limit, to_server.write_all(&unread)).await??;
            drop(unread);
            // The end of one direction is forwarded and leaves the other direction open, like in
            // TCP. An error ends both.
            tokio::try_join!(
                copy_until_closed(from_client, to_server, time_limit),
                copy_until_closed(from_server, to_client, time_limit),
            )
        };
        tokio::select! {
            // A fault of the tunnel is also a fault of the session, which its server notices: both
            // connections are closed when their halves are dropped here.
            _ = passing => {}
            () = self.forwarder.wait_for_tunnel_close() => {}
        }
    }
}

impl Drop for Tunnel {
    fn drop(&mut self) {
        // The gauge decreases before the notification, because woken tasks read it.
        self.engine.metrics.shift(Gauge::Tunnels, -1);
        self.engine.ended.notify_waiters();
    }
}

/// Forwards one direction. Pings go one way and pongs the other, so neither direction is silent for
/// long.
async fn copy_until_closed(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
    time_limit: Duration,
) -> io::Result<()> {
    let mut buffer = vec![0; BUFFER];
    loop {
        let read = timeout(time_limit, from.read(&mut buffer)).await??;
        let bytes = buffer.get(..read).unwrap_or_default();
        if bytes.is_empty() {
            return timeout(time_limit, to.shutdown()).await?;
        }
        timeout(time_limit, to.write_all(bytes)).await??;
        timeout(time_limit, to.flush()).await??;
    }
}
