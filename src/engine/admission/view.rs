//! A request as functions of the application see it.

use std::{fmt, net::SocketAddr, sync::Arc};

use http::{Extensions, HeaderMap, Method, Uri, request::Parts};
use roomcast_protocol::engine::Transport;

use crate::engine::primitives::Peer;

/// A request on the Engine.IO path, as hooks see it. Cloning is a reference count.
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
    pub(super) fn new(request: &Parts, peer: Peer, trusted: bool) -> Self {
        Self(Arc::new(View {
            method: request.method.clone(),
            uri: original_uri(request).clone(),
            headers: request.headers.clone(),
            extensions: request.extensions.clone(),
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

    /// The first header of this name, if it is UTF-8.
    #[must_use]
    pub fn header(&self, name: &str) -> Option<&str> {
        str::from_utf8(self.header_bytes(name)?).ok()
    }

    /// The first header of this name, whatever its bytes are.
    #[must_use]
    pub fn header_bytes(&self, name: &str) -> Option<&[u8]> {
        self.0.headers.get(name).map(|value| value.as_bytes())
    }

    /// What a layer of the server around has put with the request, where there is one.
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

    /// The transport that the request asks for, if there is one of that name.
    #[must_use]
    pub fn transport(&self) -> Option<Transport> {
        Transport::parse(&self.query_value("transport")?)
    }

    /// Whether the request opens a session, as opposed to belonging to one.
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
        // The query is left out, because the id of a session is a secret.
        f.debug_struct("EngineRequest")
            .field("method", &self.0.method)
            .field("path", &self.0.uri.path())
            .field("address", &self.0.peer.address)
            .finish_non_exhaustive()
    }
}

/// The target of a request before a router took its prefix away.
pub(in crate::engine) fn original_uri(request: &Parts) -> &Uri {
    #[cfg(feature = "axum")]
    if let Some(axum::extract::OriginalUri(original)) = request.extensions.get() {
        return original;
    }
    &request.uri
}
