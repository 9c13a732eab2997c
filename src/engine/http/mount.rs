//! Mounts an engine inside another HTTP server: requests arrive through `tower`, WebSockets through
//! hyper's upgrades.
//!
//! Both ways of serving share one engine. The TCP stream of a WebSocket is taken out of hyper's
//! upgrade, because flushers write to TCP streams directly. Other streams, such as TLS, cost a
//! lock.

use std::{net::SocketAddr, sync::Arc};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Extensions, StatusCode, request::Parts};
use http_body_util::Full;
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::{rt::TokioIo, server::conn::auto};
use tokio::net::TcpStream;

use super::{
    handoff::{Handoff, HandoffCell},
    message::{
        body::Pieces,
        refusal::RequestError,
        reply::{self, Reply},
        request,
    },
};
use crate::engine::{primitives::Peer, session::Engine, transport::Stream};

/// The advice for a surrounding server that does not provide client addresses.
macro_rules! remedy {
    () => {
        "the surrounding server does not provide client addresses: serve \
         `app.into_make_service_with_connect_info::<SocketAddr>()` of axum with the feature `axum` of roomcast, \
         or put a `SocketAddr` into the extensions of requests"
    };
}

impl Engine {
    /// Responds to a request that the surrounding server has received. A WebSocket continues in its
    /// own task after that server has sent the response.
    pub(crate) async fn answer_mounted(
        self: Arc<Self>,
        mut parts: Parts,
        mut body: Box<dyn Pieces>,
        secure: bool,
    ) -> Reply {
        let address = address(&parts.extensions);
        if address.is_none() && self.guard.is_some() {
            // The guard would treat all clients as one, with common limits and blocks.
            if let Some(more) = self.missing_address_log.permit() {
                tracing::error!(more, "{NO_ADDRESSES}");
            }
            let mut reply = reply::closing(StatusCode::INTERNAL_SERVER_ERROR);
            *reply.body_mut() = Full::from(NO_ADDRESSES);
            return reply;
        }
        if address.is_none() {
            self.missing_addresses_logged
                .call_once(|| tracing::warn!("{UNADDRESSED}"));
        }
        let peer = Peer {
            address: address.unwrap_or(UNKNOWN),
            secure,
        };
        let upgrade = parts.extensions.remove::<OnUpgrade>();
        if upgrade.is_none() && request::is_upgrade(&parts.headers) {
            // The connection cannot be handed over: the request is HTTP/1.0, or a layer has removed
            // the extension.
            let view = self.view(&parts, peer);
            return self.refuse(&RequestError::BadHandshake, true, peer, None, view);
        }
        let handoff = HandoffCell::default();
        let reply = self.answer(parts, &mut *body, peer, &handoff).await;
        if let Some(upgrade) = upgrade
            && let Some(handoff) = handoff.into_inner()
        {
            // hyper completes the upgrade only after it has sent the response returned here, so a
            // separate task waits for it.
            tokio::spawn(self.take_over(upgrade, handoff).boxed());
        }
        reply
    }

    async fn take_over(self: Arc<Self>, upgrade: OnUpgrade, handoff: Handoff) {
        let open = self.count_connection();
        // The response is being sent. A server that never sends it must not block this task
        // forever.
        let write_timeout = self.config.http.write_timeout;
        let Ok(Ok(upgraded)) = tokio::time::timeout(write_timeout, upgrade).await else {
            return;
        };
        let (stream, unread) = stream_of(upgraded);
        match handoff {
            Handoff::Open(engine, opening) => {
                let driver = engine.open_websocket(stream, unread, opening);
                drop((self, engine));
                driver.run().await;
            }
            Handoff::Attach(attaching, deflate) => {
                attaching.attach(&self.compress(stream, deflate), unread, open);
            }
            #[cfg(feature = "forwarding")]
            Handoff::Tunnel(tunnel) => {
                drop(self);
                tunnel.run(stream, unread).await;
            }
        }
    }
}

/// Returns the client address that the surrounding server provides.
fn address(extensions: &Extensions) -> Option<SocketAddr> {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::ConnectInfo(address)) = extensions.get() {
        return Some(*address);
    }
    extensions.get().copied()
}

/// Returns the connection of an upgrade: the TCP stream if the connection is one, otherwise a
/// generic stream.
fn stream_of(upgraded: Upgraded) -> (Stream, Bytes) {
    // The first attempt matches axum's server, the second plain hyper. A TCP stream is then written
    // directly, without a layer in between.
    let upgraded = match auto::upgrade::downcast::<TokioIo<TcpStream>>(upgraded) {
        Ok(parts) => return tcp(parts.io, &parts.read_buf),
        Err(upgraded) => upgraded,
    };
    match upgraded.downcast::<TokioIo<TcpStream>>() {
        Ok(parts) => tcp(parts.io, &parts.read_buf),
        Err(upgraded) => (
            Stream::other(Box::new(TokioIo::new(upgraded))),
            Bytes::new(),
        ),
    }
}

fn tcp(io: TokioIo<TcpStream>, unread: &[u8]) -> (Stream, Bytes) {
    let stream = io.into_inner();
    // A frame is written completely; waiting for more data would only delay it.
    let _ = stream.set_nodelay(true);
    // The bytes are copied, so that hyper's buffer is freed.
    (Stream::tcp(stream), Bytes::copy_from_slice(unread))
}

/// The response to a client without an address if there is a guard, and the log message.
const NO_ADDRESSES: &str = concat!("the guard limits clients by address, and ", remedy!());

/// The log message about a client without an address if there is no guard.
const UNADDRESSED: &str = concat!("the address of every client is 0.0.0.0:0: ", remedy!());

/// The placeholder for an address that the surrounding server does not provide.
const UNKNOWN: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);
