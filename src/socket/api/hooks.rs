//! What a builder takes for the engine below: functions that look at requests and answers.

use http::HeaderMap;

use super::builder::Builder;
use crate::engine::{ConnectionError, EngineRequest, Forbidden};

impl Builder {
    /// Asks whether a client may open a session, before anything is kept of it: the option
    /// `allowRequest` of the official server. Refused requests are answered 403 (a WebSocket: 400)
    /// with code 4 and the message. Requests of sessions that are open are not asked about.
    ///
    /// The function may wait, at most for
    /// [`allow_request_timeout`](crate::Config::allow_request_timeout), and
    /// [`max_pending_requests`](crate::Config::max_pending_requests) at the same time; a client
    /// that is not answered in time is refused. A second call replaces the first.
    ///
    /// ```
    /// use roomcast::{EngineRequest, Io};
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

    /// Makes the ids of sessions, which are random otherwise. An id has exactly 20 characters of
    /// `[A-Za-z0-9_-]`, so 15 bytes in URL-safe base64; a UUID is none. Whoever knows one can speak
    /// for the client, so they must not be guessed. Where servers hand requests on to each other
    /// (`NodeOptions::address`) clients get it with the tag of the server
    /// behind it.
    ///
    /// A request whose id is malformed, in use or an error is refused with code 3. The time it takes
    /// counts as [`allow_request`](Self::allow_request)'s.
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

    /// Allows further origins than [`Cors::origins`](crate::options::Cors::origins) does. It is called with
    /// what a browser sent as `Origin`, only if [`cors`](crate::Config::cors) is set.
    pub fn cors_origin(
        mut self,
        is_allowed: impl Fn(&str) -> bool + Send + Sync + 'static,
    ) -> Self {
        self.hooks.cors_origin = Some(Box::new(is_allowed));
        self
    }

    /// Changes the headers of the first answer of every session: that to a polling handshake, or
    /// the `101` of a WebSocket.
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

    /// Changes the headers of every answer of every session, the first one after
    /// [`initial_headers`](Self::initial_headers). Refusals are not answers of a session.
    pub fn headers(
        mut self,
        change: impl Fn(&mut HeaderMap, &EngineRequest) + Send + Sync + 'static,
    ) -> Self {
        self.hooks.headers = Some(Box::new(change));
        self
    }

    /// Looks at requests that were refused, with the code and the exact reason: the event
    /// `connection_error` of the official server. It must not block.
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
}
