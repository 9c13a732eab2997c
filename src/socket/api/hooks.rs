//! Builder methods that set engine hooks: functions that inspect requests and responses.

use std::{sync::Arc, time::Duration};

use http::HeaderMap;

use super::builder::Builder;
use crate::engine::{ConnectionError, EngineRequest, Forbidden};

impl Builder {
    /// Decides whether a client may open a session, like the option `allowRequest` of the official
    /// server.
    ///
    /// Refused requests receive status 403 (a WebSocket: 400) with code 4 and the message. Requests
    /// of open sessions are not checked.
    ///
    /// The function must finish within
    /// [`allow_request_timeout`](crate::Config::allow_request_timeout); otherwise the client is
    /// refused. At most [`max_pending_requests`](crate::Config::max_pending_requests) calls run at
    /// the same time. A second call of this method replaces the function.
    ///
    /// ```
    /// use roomcast::{Io, connection::EngineRequest};
    ///
    /// let io = Io::builder().allow_request(async |request: EngineRequest| {
    ///     match request.header("x-api-key") {
    ///         Some("good") => Ok(()),
    ///         _ => Err("no key"),
    ///     }
    /// });
    /// ```
    pub fn allow_request<F, R, E>(mut self, allow: F) -> Self
    where
        F: Fn(EngineRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<(), E>> + Send + 'static,
        E: Into<Forbidden>,
    {
        self.hooks.allow_request = Some(Box::new(move |request| {
            let deciding = allow(request);
            Box::pin(async move { deciding.await.map_err(Into::into) })
        }));
        self
    }

    /// Generates the session ids. Default is random ids.
    ///
    /// An id has exactly 20 characters of `[A-Za-z0-9_-]`, i.e. 15 bytes in URL-safe base64. A UUID
    /// is not valid. A client that knows an id can act for its session, so ids must be unguessable.
    /// If servers forward requests (`NodeOptions::address`), the server's tag is appended to the
    /// id.
    ///
    /// A request fails with code 3 if the id is malformed, in use or an error. The limits of
    /// [`allow_request`](Self::allow_request) include this function.
    pub fn generate_id<F, R, E>(mut self, generate: F) -> Self
    where
        F: Fn(EngineRequest) -> R + Send + Sync + 'static,
        R: Future<Output = Result<String, E>> + Send + 'static,
        E: std::fmt::Display,
    {
        self.hooks.generate_id = Some(Box::new(move |request| {
            let generating = generate(request);
            Box::pin(async move { generating.await.map_err(|error| error.to_string()) })
        }));
        self
    }

    /// Allows origins in addition to [`Cors::origins`](crate::options::Cors::origins).
    ///
    /// The function receives the browser's `Origin`. It is called only if
    /// [`cors`](crate::Config::cors) is set.
    pub fn cors_origin(
        mut self,
        is_allowed: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.hooks.cors_origin = Some(Box::new(is_allowed));
        self
    }

    /// Modifies the headers of the first response of a session: the polling handshake, or the `101`
    /// of a WebSocket.
    ///
    /// ```
    /// # use roomcast::Io;
    /// # use http::HeaderValue;
    /// let io = Io::builder().initial_headers(|headers, request| {
    ///     if request.is_secure() {
    ///         headers.insert("set-cookie", HeaderValue::from_static("node=a; Secure"));
    ///     }
    /// });
    /// ```
    pub fn initial_headers(
        mut self,
        change: impl Fn(&mut HeaderMap, &EngineRequest) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.initial_headers = Some(Box::new(change));
        self
    }

    /// Modifies the headers of every response of a session, after
    /// [`initial_headers`](Self::initial_headers). Refusals are not part of a session.
    pub fn headers(
        mut self,
        change: impl Fn(&mut HeaderMap, &EngineRequest) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.headers = Some(Box::new(change));
        self
    }

    /// Observes refused requests with their code and exact reason, like the event
    /// `connection_error` of the official server. The function must not block.
    ///
    /// ```
    /// # use roomcast::Io;
    /// let io = Io::builder().on_connection_error(|error| {
    ///     eprintln!("{} from {}: {error}", error.code, error.request.address());
    /// });
    /// ```
    pub fn on_connection_error(
        mut self,
        look: impl Fn(&ConnectionError) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.connection_error = Some(Box::new(look));
        self
    }

    /// Catches up after the process stood still for more than a second, for example because it or
    /// its virtual machine was suspended.
    ///
    /// The function receives the duration. Until its future completes, nothing is read from
    /// clients and nothing is sent to them, not even events that other tasks emit. Handlers that
    /// have started continue, and no other handler starts. So it can read what other servers have
    /// revoked in the meantime. If it then calls
    /// [`Io::revalidate`](crate::Io::revalidate), rejected clients receive nothing that was queued
    /// before. If such a client is in further namespaces, its connection ends. The other clients
    /// receive everything, in order.
    ///
    /// After 30 seconds, clients that have sent something are disconnected without the events that
    /// are queued for them. The other clients disconnect when they miss a ping. If the wall clock
    /// is set forward by more than a second, the function is called as well. Without this function,
    /// stalls are not detected.
    ///
    /// ```
    /// # use roomcast::Io;
    /// # async fn read_revocations() {}
    /// let io = Io::builder().on_stall(async |_| read_revocations().await);
    /// ```
    pub fn on_stall<F, R>(mut self, catch_up: F) -> Self
    where
        F: Fn(Duration) -> R + Send + Sync + 'static,
        R: Future<Output = ()> + Send + 'static,
    {
        self.hooks.stall = Some(Arc::new(move |stalled| Box::pin(catch_up(stalled))));
        self
    }
}
