//! An [`Io`] as a `tower` service and layer, for axum, hyper and other `tower` servers.

use std::{
    convert::Infallible,
    fmt,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use bytes::Bytes;
use futures_util::future::{Either as Branch, MapOk, TryFutureExt as _};
use http::{Request, Response, request::Parts};
use http_body_util::{Either, Full};
use hyper::body::Body;
use tower_layer::Layer;
use tower_service::Service;

use super::client_files;
use crate::{
    engine::{Engine, Pieces},
    socket::core::Io,
};

impl Io {
    /// Returns a `tower` service that treats every request as Socket.IO, to mount under a path of
    /// another server.
    ///
    /// The rest of the path is ignored, except for the
    /// [files of the client](crate::Builder::client_files).
    ///
    /// WebSockets require that the outer server supports HTTP/1 upgrades, as `axum::serve` does.
    ///
    /// The outer server provides the client's address as a `SocketAddr` in the request extensions.
    /// With the feature `axum`, axum's `ConnectInfo<SocketAddr>` also works
    /// (`Router::into_make_service_with_connect_info`). Without an address, it is `0.0.0.0:0`,
    /// which is logged with the first request. A server with a [guard](crate::Builder::guard) then
    /// answers every request with 500.
    ///
    /// The [`Handshake`](crate::connection::Handshake) contains the full URL, even if axum's
    /// `nest_service` removed a prefix. Request extensions of outer layers are available with
    /// [`Handshake::extension`](crate::connection::Handshake::extension). The outer server's
    /// request timeouts and limits apply, and this server's own for everything else.
    ///
    /// ```no_run
    /// # use std::net::SocketAddr;
    /// # async fn example(io: roomcast::Io) -> std::io::Result<()> {
    /// let app = axum::Router::new()
    ///     .route("/orders", axum::routing::get(async || "none"))
    ///     .nest_service("/socket.io", io.service())
    ///     .into_make_service_with_connect_info::<SocketAddr>();
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    /// axum::serve(listener, app).await
    /// # }
    /// ```
    ///
    /// # Panics
    ///
    /// The service panics when it is called outside of a tokio runtime.
    #[must_use]
    pub fn service(&self) -> IoService {
        IoService {
            engine: self.engine(),
            io: self.clone(),
            secure: false,
        }
    }

    /// Returns a `tower` layer that answers requests of its [`path`](crate::Config::path) as
    /// Socket.IO, and passes other requests to the inner service.
    ///
    /// See [`service`](Self::service) for the requirements on the outer server.
    ///
    /// ```no_run
    /// # use std::net::SocketAddr;
    /// # async fn example(io: roomcast::Io) -> std::io::Result<()> {
    /// let app = axum::Router::new()
    ///     .route("/orders", axum::routing::get(async || "none"))
    ///     .layer(io.layer())
    ///     .into_make_service_with_connect_info::<SocketAddr>();
    /// let listener = tokio::net::TcpListener::bind("127.0.0.1:3000").await?;
    /// axum::serve(listener, app).await
    /// # }
    /// ```
    #[must_use]
    pub fn layer(&self) -> IoLayer {
        IoLayer(self.service())
    }
}

/// The service of [`Io::service`]. Clones share a reference count.
#[derive(Clone)]
pub struct IoService {
    engine: Arc<Engine>,
    io: Io,
    secure: bool,
}

impl IoService {
    /// States that the outer server encrypts, for
    /// [`Handshake::is_secure`](crate::connection::Handshake::is_secure).
    #[must_use]
    pub fn secure(mut self) -> Self {
        self.secure = true;
        self
    }

    fn answer<B>(&self, request: Request<B>) -> ResponseFuture
    where
        B: Body + Send + 'static,
        B::Data: Send,
        B::Error: Send,
    {
        let (parts, body) = request.into_parts();
        // The code from here on is not generic, so that it is compiled once.
        self.answer_parts(parts, Box::new(Box::pin(body)))
    }

    fn answer_parts(&self, request: Parts, body: Box<dyn Pieces>) -> ResponseFuture {
        let refused = self.engine.refuse_invalid_host(&request);
        if let Some(answer) = refused.or_else(|| client_files::answer(&self.io, &request)) {
            return Box::pin(async { answer });
        }
        let engine = Arc::clone(&self.engine);
        Box::pin(engine.answer_mounted(request, body, self.secure))
    }
}

type ResponseFuture = Pin<Box<dyn Future<Output = Response<Full<Bytes>>> + Send>>;

/// The response to one request.
pub type IoFuture<B, E> = Pin<Box<dyn Future<Output = Result<Response<B>, E>> + Send>>;

impl<B> Service<Request<B>> for IoService
where
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Send,
{
    type Response = Response<Full<Bytes>>;
    type Error = Infallible;
    type Future = IoFuture<Full<Bytes>, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let answer = self.answer(request);
        Box::pin(async { Ok(answer.await) })
    }
}

/// The layer of [`Io::layer`].
#[derive(Clone, Debug)]
pub struct IoLayer(IoService);

impl IoLayer {
    /// See [`IoService::secure`].
    #[must_use]
    pub fn secure(self) -> Self {
        Self(self.0.secure())
    }
}

impl<S> Layer<S> for IoLayer {
    type Service = Layered<S>;

    fn layer(&self, inner: S) -> Layered<S> {
        Layered {
            io: self.0.clone(),
            inner,
        }
    }
}

/// A service with Socket.IO in front of it. See [`Io::layer`].
#[derive(Clone, Debug)]
pub struct Layered<S> {
    io: IoService,
    inner: S,
}

/// The response body of a [`Layered`] service: Socket.IO's or that of the inner service.
pub type LayeredBody<B> = Either<Full<Bytes>, B>;

impl<S, B, R> Service<Request<B>> for Layered<S>
where
    S: Service<Request<B>, Response = Response<R>>,
    S::Error: 'static,
    R: 'static,
    B: Body + Send + 'static,
    B::Data: Send,
    B::Error: Send,
{
    type Response = Response<LayeredBody<R>>;
    type Error = S::Error;
    type Future = Branch<
        IoFuture<LayeredBody<R>, S::Error>,
        MapOk<S::Future, fn(Response<R>) -> Response<LayeredBody<R>>>,
    >;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let path = request.uri().path();
        if self.io.engine.owns(path) || client_files::owns(&self.io.io, path) {
            let answer = self.io.answer(request);
            return Branch::Left(Box::pin(async { Ok(answer.await.map(Either::Left)) }));
        }
        let to_right: fn(Response<R>) -> Response<LayeredBody<R>> =
            |response| response.map(Either::Right);
        Branch::Right(self.inner.call(request).map_ok(to_right))
    }
}

impl fmt::Debug for IoService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("IoService").finish_non_exhaustive()
    }
}
