//! The view of a request for functions of the application.

use std::{fmt, net::SocketAddr, sync::Arc};

use http::{Extensions, HeaderMap, Method, Uri, request::Parts};
use roomcast_protocol::engine::Transport;

use crate::engine::primitives::Peer;

/// A request on the Engine.IO path, as hooks see it. Cloning only increments a reference count.
#[derive(Clone)]
pub struct EngineRequest(Arc<View>);

struct View {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    extensions: Extensions,
    peer: Peer,
    trusted: bool,
}

impl EngineRequest {
    pub(in crate::engine) fn new(request: &Parts, peer: Peer, trusted: bool) -> Self {
        Self(Arc::new(View {
            method: request.method.clone(),
            uri: original_uri(request).clone(),
            headers: request.headers.clone(),
            extensions: request.extensions.clone(),
            peer,
            trusted,
        }))
    }

    /// Returns the method: `GET` or `POST` for valid requests.
    #[must_use]
    pub fn method(&self) -> &Method {
        &self.0.method
    }

    /// Returns the path and query, as sent.
    #[must_use]
    pub fn url(&self) -> &str {
        self.0.uri.path_and_query().map_or("", |url| url.as_str())
    }

    /// Returns all headers.
    #[must_use]
    pub fn headers(&self) -> &HeaderMap {
        &self.0.headers
    }

    /// Returns the first header of this name, if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.header_bytes(name)?).ok()
    }

    /// Returns the bytes of the first header of this name.
    #[must_use]
    pub fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.headers.get(name).map(|value| value.as_bytes())
    }

    /// Returns an extension that a layer of the surrounding server added to the request, if there
    /// is one.
    #[must_use]
    pub fn extension<T: Send + Sync + 'static>(&self) -> Option<&T> {
        self.0.extensions.get()
    }

    pub(in crate::engine) fn lossy_header(&self, name: &str) -> String {
        let value = self.0.headers.get(name);
        value.map_or_else(String::new, |value| {
            String::from_utf8_lossy(value.as_bytes()).into_owned()
        })
    }

    /// Returns the decoded query parameters in their original order.
    pub fn query(&self) -> impl Iterator<Item = (String, String)> {
        let query = self.0.uri.query().unwrap_or_default();
        form_urlencoded::parse(query.as_bytes()).map(|(k, v)| (k.into_owned(), v.into_owned()))
    }

    /// Returns the first query parameter of this name, decoded.
    #[must_use]
    pub fn query_value(&self, name: &str) -> Option<String> {
        self.query().find(|(n, _)| n == name).map(|(_, v)| v)
    }

    /// Returns the requested transport, if its name is known.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        Transport::parse(&self.query_value("transport")?)
    }

    /// Returns whether the request opens a session instead of belonging to one.
    #[must_use]
    pub fn is_initial(&self) -> bool {
        self.query_value("sid").is_none()
    }

    /// Returns the remote address of the connection.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.0.peer.address
    }

    /// Returns whether the connection is encrypted.
    #[must_use]
    pub fn is_secure(&self) -> bool {
        self.0.peer.secure
    }

    /// Returns whether the request comes from a page that may use its user's cookies; see
    /// [`Handshake::is_trusted_origin`](crate::connection::Handshake::is_trusted_origin).
    #[must_use]
    pub fn is_trusted_origin(&self) -> bool {
        self.0.trusted
    }
}

impl fmt::Debug for EngineRequest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The query is omitted, because a session id is a secret.
        f.debug_struct("EngineRequest")
            .field("method", &self.0.method)
            .field("path", &self.0.uri.path())
            .field("address", &self.0.peer.address)
            .finish_non_exhaustive()
    }
}

/// Returns the target of a request before a router removed its prefix.
pub(in crate::engine) fn original_uri(request: &Parts) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(original)) = request.extensions.get() {
        return original;
    }
    &request.uri
}
