//! What an application may say about requests and sessions, by functions instead of options.

use std::{fmt, net::SocketAddr, pin::Pin, sync::Arc};

use http::{HeaderMap, Method, Uri, request::Parts};
use roomcast_protocol::engine::Transport;

use super::{peer::Peer, refusal::ConnectionError};

/// A request on the Engine.IO path, as hooks see it. Cloning is a reference count.
#[derive(Clone)]
pub struct EngineRequest(Arc<View>);

struct View {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    peer: Peer,
    trusted: bool,
}

impl EngineRequest {
    pub(super) fn new(request: &Parts, peer: Peer, trusted: bool) -> Self {
        Self(Arc::new(View {
            method: request.method.clone(),
            uri: original_uri(request).clone(),
            headers: request.headers.clone(),
            peer,
            trusted,
        }))
    }

    /// `GET` or `POST`, or something wrong.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.0.method
    }

    /// Path and query, as sent.
    #[must_use]
    pub fn url(&self) -> &str {
        self.0.uri.path_and_query().map_or("", |url| url.as_str())
    }

    /// All headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// The first header of this name, if it is text.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        self.0.headers.get(name)?.to_str().ok()
    }

    pub(super) fn lossy_header(&self, name: &str) -> String {
        let value = self.0.headers.get(name);
        value.map_or_else(String::new, |value| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        })
    }

    /// The decoded parameters of the query, in the order they came.
    pub fn query(&self) -> impl Iterator<Item = (String, String)> {
        let query = self.0.uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned()))
    }

    /// The first query parameter of this name, decoded.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<String> {
        self.query().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// The transport it asks for, if that is one.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        Transport::parse(&self.query_value("transport")?)
    }

    /// Whether it opens a session, as opposed to belonging to one.
    #[must_use]
    pub fn is_initial(&self) -> bool {
        self.query_value("sid").is_none()
    }

    /// The address the connection came from.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.peer.address
    }

    /// Whether the connection is encrypted.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.0.peer.secure
    }

    /// Whether a page that may use the cookies of its reader has sent it, as
    /// [`Handshake::is_trusted_origin`](crate::Handshake::is_trusted_origin) says of the session.
    #[must_use]
    pub fn is_trusted_origin(&self) -> bool {
        self.0.trusted
    }
}

impl fmt::Debug for EngineRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Not the query: a session's id is a secret.
        f.debug_struct("EngineRequest")
            .field("method", &self.0.method)
            .field("path", &self.0.uri.path())
            .field("address", &self.0.peer.address)
            .finish_non_exhaustive()
    }
}

/// The target of a request before a router took its prefix away.
pub(super) fn original_uri(request: &Parts) -> &Uri {
    request
        .extensions
        .get::<axum::extract::OriginalUri>()
        .map_or(&request.uri, |original| &original.0)
}

/// The answer of [`Builder::allow_request`](crate::Builder::allow_request) to somebody who may not:
/// its message, by default `Forbidden`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Forbidden {
    message: Box<str>,
    is_blamed: bool,
}

impl Forbidden {
    /// The default, to somebody whose credentials are no good. With a
    /// [guard](crate::Builder::guard) it counts towards an automatic block of the client's address
    /// ([`Limits::block_after_credentials`](crate::config::Limits)).
    #[must_use]
    pub fn unauthenticated() -> Self {
        Self {
            is_blamed: true,
            ..Self::default()
        }
    }

    pub(super) fn is_blamed(&self) -> bool {
        self.is_blamed
    }

    pub(super) fn into_message(self) -> Box<str> {
        self.message
    }
}

impl Default for Forbidden {
    fn default() -> Self {
        "Forbidden".into()
    }
}

impl From<()> for Forbidden {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<&str> for Forbidden {
    fn from(message: &str) -> Self {
        Self {
            message: message.into(),
            is_blamed: false,
        }
    }
}

impl From<String> for Forbidden {
    fn from(message: String) -> Self {
        message.as_str().into()
    }
}

type Decision<T, E> = Pin<Box<dyn Future<Output = Result<T, E>> + Send>>;
type OnRequest<T, E> = Box<dyn Fn(EngineRequest) -> Decision<T, E> + Send + Sync>;
type OnError = Box<dyn Fn(&ConnectionError) + Send + Sync>;
/// Whether an origin is allowed.
pub(crate) type IsAllowed = dyn Fn(&str) -> bool + Send + Sync;
type OnHeaders = Box<dyn Fn(&mut HeaderMap, &EngineRequest) + Send + Sync>;

/// The functions an application has given. What is absent costs nothing.
#[derive(Default)]
pub(crate) struct Hooks {
    pub(crate) allow_request: Option<OnRequest<(), Forbidden>>,
    pub(crate) generate_id: Option<OnRequest<String, String>>,
    pub(crate) cors_origin: Option<Box<IsAllowed>>,
    pub(crate) initial_headers: Option<OnHeaders>,
    pub(crate) headers: Option<OnHeaders>,
    pub(crate) connection_error: Option<OnError>,
}

impl Hooks {
    /// The request, if there is a function that may want it.
    pub(super) fn view(
        &self,
        request: &Parts,
        peer: Peer,
        is_trusted: impl FnOnce() -> bool,
    ) -> Option<EngineRequest> {
        self.want_requests()
            .then(|| EngineRequest::new(request, peer, is_trusted()))
    }

    /// Whether there is a function that may want requests.
    pub(super) fn want_requests(&self) -> bool {
        self.allow_request.is_some()
            || self.generate_id.is_some()
            || self.initial_headers.is_some()
            || self.headers.is_some()
            || self.connection_error.is_some()
    }

    /// Adds what functions want to an answer.
    pub(super) fn complete(
        &self,
        headers: &mut HeaderMap,
        is_initial: bool,
        request: &EngineRequest,
    ) {
        let initial = self.initial_headers.as_ref().filter(|_| is_initial);
        for hook in initial.into_iter().chain(&self.headers) {
            hook(headers, request);
        }
    }
}

impl fmt::Debug for Hooks {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hooks")
            .field("allow_request", &self.allow_request.is_some())
            .field("generate_id", &self.generate_id.is_some())
            .finish_non_exhaustive()
    }
}
