//! The admin listener: metrics, and the state of connections.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use axum::{Router, body::Body};
use http::Request;
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{
    net::{TcpListener, TcpStream},
    sync::Semaphore,
};
use tower::ServiceExt as _;

use super::super::RunError;
use crate::config::{AdminListen, Settings};
use crate::http::scrape::Reach;
use crate::supervisor::Supervisor;

/// A bound listener that does not serve yet.
#[derive(Debug)]
pub(in crate::server) struct AdminListener {
    listener: Arc<TcpListener>,
    address: SocketAddr,
}

impl AdminListener {
    /// Listens at the configured address, or at the default one if that is free.
    ///
    /// # Errors
    ///
    /// If the configured address cannot be bound.
    pub(in crate::server) async fn bind(settings: &Settings) -> Result<Option<Self>, RunError> {
        let AdminListen::At(address) = settings.server.admin_listen() else {
            return Ok(None);
        };
        match Self::listen(address).await {
            Ok(bound) => Ok(Some(bound)),
            // The default address is optional, so the server continues without it.
            Err(error) if settings.server.admin_listen.is_none() => {
                tracing::warn!(
                    %address,
                    %error,
                    "cannot listen at the default admin address, metrics are not served there: set server.admin_listen"
                );
                Ok(None)
            }
            Err(error) => Err(RunError::Admin(address, error)),
        }
    }

    async fn listen(address: SocketAddr) -> io::Result<Self> {
        let listener = TcpListener::bind(address).await?;
        Ok(Self {
            address: listener.local_addr()?,
            listener: Arc::new(listener),
        })
    }

    /// Returns the clients that can reach the listener.
    pub(in crate::server) fn reach(&self) -> Reach {
        if self.address.ip().is_loopback() {
            Reach::Machine
        } else {
            Reach::Network
        }
    }

    /// Serves the routes until the process ends.
    pub(in crate::server) fn serve(self, router: Router, supervisor: &Supervisor) {
        tracing::info!(url = %format_args!("http://{}", self.address), "admin listener ready");
        let places = Arc::new(Semaphore::new(CONNECTIONS));
        let listener = self.listener;
        supervisor.start("admin listener", move || {
            accept(Arc::clone(&listener), router.clone(), Arc::clone(&places))
        });
    }
}

async fn accept(listener: Arc<TcpListener>, router: Router, places: Arc<Semaphore>) {
    loop {
        // The semaphore is never closed.
        let Ok(place) = Arc::clone(&places).acquire_owned().await else {
            return;
        };
        let stream = match listener.accept().await {
            Ok((stream, _)) => stream,
            Err(error) => {
                tracing::debug!(%error, "could not accept a connection on the admin listener");
                // If no file descriptors are free, every attempt fails immediately.
                tokio::time::sleep(ACCEPT_DELAY).await;
                continue;
            }
        };
        let router = router.clone();
        tokio::spawn(async move {
            let _ = tokio::time::timeout(LIFETIME, serve(stream, router)).await;
            drop(place);
        });
    }
}

/// Serves one connection.
async fn serve(stream: TcpStream, router: Router) {
    let service = service_fn(move |request: Request<Incoming>| {
        router.clone().oneshot(request.map(Body::new))
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEADER_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    if let Err(error) = connection.await {
        tracing::debug!(%error, "a connection on the admin listener failed");
    }
}

/// Maximum concurrent connections. Further ones wait.
const CONNECTIONS: usize = 64;
/// The maximum duration of a connection, so that slow readers do not occupy slots.
const LIFETIME: Duration = Duration::from_secs(60);
/// The maximum time for a request to arrive, and for a connection to be idle.
const HEADER_TIMEOUT: Duration = Duration::from_secs(10);
/// The delay after a failed accept.
const ACCEPT_DELAY: Duration = Duration::from_millis(100);
