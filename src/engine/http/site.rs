//! The services of a connection.

use std::{convert::Infallible, error::Error, fmt, future::poll_fn, sync::Arc};

use bytes::Bytes;
use futures_util::future::BoxFuture;
use http::{Request, Response, StatusCode, request::Parts};
use http_body_util::{BodyExt as _, Full, combinators::UnsyncBoxBody};
use hyper::body::{Body, Incoming};
use tower_service::Service;

use crate::engine::session::Engine;

/// The services to which the requests of a connection may go.
pub(crate) struct Site {
    /// The engine of Socket.IO.
    pub(crate) engine: Arc<Engine>,
    /// The engine of plain Engine.IO under another path.
    pub(crate) raw: Option<Arc<Engine>>,
    /// The service for requests to any other path.
    pub(crate) fallback: Fallback,
}

/// The reason why the body of a response is incomplete.
pub(crate) type BoxError = Box<dyn Error + Send + Sync>;

/// The body of a response of the application.
pub(super) type FallbackBody = UnsyncBoxBody<Bytes, BodyFault>;

type FallbackResponse = Response<FallbackBody>;

/// The error of a body. A separate type, because the compiler does not recognise futures that hold
/// a plain [`BoxError`] as `Send`.
#[derive(Debug)]
pub(super) struct BodyFault(BoxError);

impl fmt::Display for BodyFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl Error for BodyFault {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&*self.0)
    }
}

/// The service of the application, for requests that belong to no engine. Its type is erased at the
/// API, so that the code that serves connections is compiled with the library.
#[derive(Clone)]
pub(crate) struct Fallback(Arc<ErasedService>);

type ErasedService =
    dyn Fn(Request<Incoming>) -> BoxFuture<'static, FallbackResponse> + Send + Sync;

impl Fallback {
    /// Wraps a service; a clone of it handles each request.
    pub(crate) fn new<S, B>(service: S) -> Self
    where
        S: Service<Request<Incoming>, Response = Response<B>, Error = Infallible>,
        S: Clone + Send + Sync + 'static,
        S::Future: Send,
        B: Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        Self(Arc::new(move |request| {
            let mut service = service.clone();
            Box::pin(async move {
                let Ok(()) = poll_fn(|cx| service.poll_ready(cx)).await;
                let Ok(response) = service.call(request).await;
                response.map(|body| body.map_err(|error| BodyFault(error.into())).boxed_unsync())
            })
        }))
    }

    /// Wraps the service so that `before` may respond first.
    pub(crate) fn preceded_by(
        self,
        before: impl Fn(&Parts) -> Option<Response<Full<Bytes>>> + Send + Sync + 'static,
    ) -> Self {
        Self(Arc::new(move |request| {
            let (parts, body) = request.into_parts();
            match before(&parts) {
                Some(response) => Box::pin(async { boxed(response) }),
                None => self.call(Request::from_parts(parts, body)),
            }
        }))
    }

    pub(super) fn call(&self, request: Request<Incoming>) -> BoxFuture<'static, FallbackResponse> {
        self.0(request)
    }
}

/// Responds with 404.
impl Default for Fallback {
    fn default() -> Self {
        Self(Arc::new(|_| {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            Box::pin(async { boxed(response) })
        }))
    }
}

impl fmt::Debug for Fallback {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Fallback").finish_non_exhaustive()
    }
}

fn boxed(response: Response<Full<Bytes>>) -> FallbackResponse {
    response.map(|body| body.map_err(|never| match never {}).boxed_unsync())
}

impl Site {
    /// Returns the engine to which a path belongs.
    pub(super) fn owner(&self, path: &str) -> Option<&Arc<Engine>> {
        let mut engines = [Some(&self.engine), self.raw.as_ref()]
            .into_iter()
            .flatten();
        engines.find(|engine| engine.owns(path))
    }
}
