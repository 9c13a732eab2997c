//! Serves an [`Io`] on its own listeners.

use std::{convert::Infallible, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response};
use hyper::body::{Body, Incoming};
use tokio::{net::TcpListener, task::JoinSet, time::timeout};
use tower_service::Service;

use super::client_files;
use crate::{
    engine::{self, BoxError, Fallback, MaybeTls, RawEngine, Site},
    socket::{core::Io, types::BuildError},
};

/// An [`Io`] with listeners that accept clients.
///
/// ```no_run
/// # async fn example(io: roomcast::Io) -> Result<(), roomcast::Error> {
/// use roomcast::Server;
///
/// let app = axum::Router::new().route("/orders", axum::routing::get(|| async { "none" }));
/// Server::new(io)
///     .router(app)
///     .bind("127.0.0.1:3000")
///     .await?
///     .run()
///     .await;
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    io: Io,
    raw: Option<RawEngine>,
    fallback: Fallback,
    tls: Option<MaybeTls>,
    listeners: Vec<TcpListener>,
    drain: Duration,
    grace: Duration,
}

impl Server {
    /// Returns a server without listeners. Requests outside of the Socket.IO path return 404.
    #[must_use]
    pub fn new(io: Io) -> Self {
        Self {
            io,
            raw: None,
            fallback: Fallback::default(),
            tls: None,
            listeners: Vec::new(),
            drain: Duration::ZERO,
            grace: Duration::from_secs(10),
        }
    }

    /// Sets the service for requests outside of the Socket.IO path: an axum router or any `tower`
    /// service.
    ///
    /// The service is cloned for each request. The request extensions contain the client as
    /// [`Client`](crate::limit::Client). With the feature `axum`, they also contain its address as
    /// `axum::extract::ConnectInfo<SocketAddr>`.
    #[must_use]
    pub fn router<S, B>(mut self, service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        self.fallback = Fallback::new(service);
        self
    }

    /// Also serves plain Engine.IO, under the path of its own configuration.
    #[must_use]
    pub fn raw(mut self, raw: RawEngine) -> Self {
        self.raw = Some(raw);
        self
    }

    /// Encrypts all connections.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn tls(mut self, tls: engine::Tls) -> Self {
        self.tls = Some(tls);
        self
    }

    /// Sets the time window in which clients move to other servers before this server stops; see
    /// [`Io::drain`]. Zero closes all connections immediately. Default is zero.
    #[must_use]
    pub fn drain(mut self, window: Duration) -> Self {
        self.drain = window;
        self
    }

    /// Sets how long a shutdown may take before connections are aborted, after the window of
    /// [`drain`](Self::drain). Default is 10 s.
    #[must_use]
    pub fn grace(mut self, grace: Duration) -> Self {
        self.grace = grace;
        self
    }

    /// Listens on an address such as `"127.0.0.1:3000"`. Port 0 selects a free port. Can be called
    /// several times.
    ///
    /// # Errors
    ///
    /// Returns [`Error::Listen`] if the address is invalid or in use. In a cluster, returns
    /// `Error::Node` if another server has this server's id.
    pub async fn bind(mut self, address: &str) -> Result<Self, Error> {
        self.io.keep_runtime();
        // No client may connect before this server's id is known to be unique.
        self.io.check_node().await.map_err(Error::Node)?;
        let fault = |error| Error::Listen(address.to_owned(), error);
        let resolved = tokio::net::lookup_host(address).await.map_err(fault)?;
        let mut last = io::Error::from(io::ErrorKind::AddrNotAvailable);
        for candidate in resolved {
            match engine::bind(candidate, self.io.config()) {
                Ok(listener) => {
                    self.listeners.push(listener);
                    return Ok(self);
                }
                Err(error) => last = error,
            }
        }
        Err(fault(last))
    }

    /// Returns the addresses of the listeners, in the order of the [`bind`](Self::bind) calls.
    #[must_use]
    pub fn local_addrs(&self) -> Vec<SocketAddr> {
        self.listeners
            .iter()
            .filter_map(|listener| listener.local_addr().ok())
            .collect()
    }

    /// Serves until [`Io::close`] is called, or until `Io::node_taken` reports an id conflict in a
    /// cluster.
    pub async fn run(self) {
        self.run_until(std::future::pending()).await;
    }

    /// Serves until `stop` completes, then shuts down.
    ///
    /// Clients move during the window of [`drain`](Self::drain). Then queues are flushed and
    /// handlers end, for at most the [`grace`](Self::grace) period.
    pub async fn run_until(self, stop: impl Future<Output = ()>) {
        let io = self.io.clone();
        let mut running = self.start();
        tokio::pin!(stop);
        tokio::select! {
            biased;
            () = running.ended() => {}
            () = &mut stop => running.stop().await,
            () = io.until_node_taken() => {
                // If `stop` waits for the conflict as well, it may be notified a moment later than
                // this task, and its last steps must not be dropped.
                let _ = timeout(CONFLICT_NOTICE, stop).await;
                running.stop().await;
            }
        }
    }

    /// Starts to serve. Not `async`, so that the code below is compiled with the library instead of
    /// with each user.
    fn start(self) -> Running {
        self.io.keep_runtime();
        let site = Arc::new(Site {
            engine: self.io.engine(),
            raw: self.raw.map(|raw| raw.0),
            fallback: client_files::before(self.fallback, &self.io),
        });
        let mut sweeping = JoinSet::new();
        let tasks = self.io.tasks();
        if let Some(guard) = site.engine.guard().cloned() {
            let sweep = move || Arc::clone(&guard).sweep();
            sweeping.spawn(tasks.clone().keep("guard sweep", sweep));
        }
        #[cfg(feature = "tls")]
        if let Some(tls) = self.tls.clone() {
            let metrics = Arc::clone(self.io.metrics());
            let tls = tls.measured(&metrics);
            let watch = move || tls.clone().watch(Arc::clone(&metrics));
            sweeping.spawn(tasks.clone().keep("certificate watch", watch));
        }
        let mut serving = JoinSet::new();
        for listener in self.listeners {
            let (site, tls, listener) = (Arc::clone(&site), self.tls.clone(), Arc::new(listener));
            let serve =
                move || engine::serve(Arc::clone(&site), tls.clone(), Arc::clone(&listener));
            serving.spawn(tasks.clone().keep("listener", serve));
        }
        Running {
            io: self.io,
            site,
            serving,
            _sweeping: sweeping,
            drain: self.drain,
            grace: self.grace,
        }
    }
}

/// How long a conflict of ids waits for `stop`, which may wait for something else.
const CONFLICT_NOTICE: Duration = Duration::from_secs(1);

/// A server that serves its listeners until it is dropped.
struct Running {
    io: Io,
    site: Arc<Site>,
    serving: JoinSet<()>,
    /// Dropping the set aborts its tasks.
    _sweeping: JoinSet<()>,
    drain: Duration,
    grace: Duration,
}

impl Running {
    async fn ended(&mut self) {
        while self.serving.join_next().await.is_some() {}
    }

    fn stop(self) -> BoxFuture<'static, ()> {
        Box::pin(async move {
            // Moves all fields, because listeners must accept health checks while clients move.
            let Self {
                io,
                site,
                serving: _serving,
                _sweeping,
                drain,
                grace,
            } = self;
            let raw = site.raw.as_ref();
            if !drain.is_zero() {
                let raw = async {
                    if let Some(raw) = raw {
                        raw.drain(drain).await;
                    }
                };
                tokio::join!(io.drain(drain), raw);
            }
            let raw = async {
                if let Some(raw) = raw {
                    raw.shutdown(grace).await;
                }
            };
            tokio::join!(io.close(grace), raw);
        })
    }
}

impl Io {
    /// Serves on an address until [`close`](Self::close) is called; [`Server`] has more options.
    ///
    /// # Errors
    ///
    /// As [`Server::bind`].
    pub async fn serve(self, address: &str) -> Result<(), Error> {
        Server::new(self).bind(address).await?.run().await;
        Ok(())
    }
}

/// The error of building or starting a server.
#[derive(Debug)]
#[non_exhaustive]
pub enum Error {
    /// The builder's settings are invalid.
    Build(BuildError),
    /// The server cannot listen on the address.
    Listen(String, io::Error),
    /// Another server has this server's id.
    Node(crate::adapter::NodeIdConflict),
}

impl From<BuildError> for Error {
    fn from(error: BuildError) -> Self {
        Self::Build(error)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Build(_) => f.write_str("cannot build the server"),
            Self::Listen(address, _) => write!(f, "cannot listen on {address}"),
            Self::Node(_) => f.write_str("cannot join the cluster"),
        }
    }
}

impl std::error::Error for Error {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Build(error) => Some(error),
            Self::Listen(_, error) => Some(error),
            Self::Node(error) => Some(error),
        }
    }
}
