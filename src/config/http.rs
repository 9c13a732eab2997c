//! HTTP options that have fields of their own.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::options::{options, some_text, some_texts, texts};

options! {
    /// CORS: what pages of other sites may do, by their `Origin` (WHATWG Fetch).
    ///
    /// The fields and defaults are those of npm's `cors`. Requests without an origin, and requests
    /// from the server's own host and port, are always allowed.
    ///
    /// [`Builder::cors_origin`](crate::Builder::cors_origin) allows further origins by a function.
    Cors {
        /// Allowed origins, as browsers send them (`https://app.example`). `*` alone allows any
        /// origin. Within an origin it matches any characters except `/` and `:`
        /// (`https://*.example.com`). Default none.
        #[serde(alias = "origin")]
        origins: Vec<String>, as impl IntoIterator<Item = impl Into<String>>, by texts = Vec::new();
        /// Whether these origins may send cookies and authorization. Must not be combined with `*`.
        /// Default `false`.
        credentials: bool = false, allow_credentials: true;
        /// Whether requests from other origins, including WebSockets, are refused with 403. Default
        /// `false`, as in the official server: they are answered without CORS headers.
        enforce: bool = false, enforce: true;
        /// Methods that a preflight allows. Default `GET,HEAD,PUT,PATCH,POST,DELETE`.
        methods: Vec<String>, as impl IntoIterator<Item = impl Into<String>>, by texts = texts(["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"]);
        /// Headers that a preflight allows. Default: the requested headers.
        #[serde(alias = "allowedHeaders")]
        allowed_headers: Option<Vec<String>>, as impl IntoIterator<Item = impl Into<String>>, by some_texts = None;
        /// Response headers that a page may read. Default none.
        #[serde(alias = "exposedHeaders")]
        exposed_headers: Vec<String>, as impl IntoIterator<Item = impl Into<String>>, by texts = Vec::new();
        /// Maximum time that a browser caches a preflight; sent in whole seconds. Default: not
        /// sent.
        #[serde(alias = "maxAge", with = "humantime_serde")]
        max_age: Option<Duration>, as impl Into<Option<Duration>>, by Into::into = None;
        /// Whether preflights are processed like other requests (Engine.IO answers `400`) instead
        /// of immediately. Useful if a router around the service answers them. Default `false`.
        #[serde(alias = "preflightContinue")]
        preflight_continue: bool = false, preflight_continue: true;
        /// Status of the response to a preflight, 200 to 299. Default 204.
        #[serde(alias = "optionsSuccessStatus")]
        options_success_status: u16 = 204;
    }
}

options! {
    /// The cookie with the session id, set by the first response of a polling session.
    ///
    /// Load balancers can use it to route a client to the same node (RFC 6265). The server never
    /// reads it.
    ///
    /// A session that is opened over WebSocket sets no cookie;
    /// [`Builder::initial_headers`](crate::Builder::initial_headers) can set one.
    Cookie {
        /// The name of the cookie. Default `io`. In a configuration file, no cookie is sent unless
        /// a key of this section is set.
        name: String, as impl Into<String>, by Into::into = "io".into();
        /// The `Path` attribute; empty to omit it. Default `/`.
        path: String, as impl Into<String>, by Into::into = "/".into();
        /// Whether the cookie is hidden from scripts. Default `true`.
        #[serde(alias = "httpOnly")]
        http_only: bool = true, without_http_only: false;
        /// Which requests from other sites include the cookie. Default [`SameSite::Lax`].
        #[serde(alias = "sameSite")]
        same_site: Option<SameSite>, as impl Into<Option<SameSite>>, by Into::into = Some(SameSite::Lax);
        /// The lifetime of the cookie; sent in whole seconds. Default: until the browser closes.
        #[serde(alias = "maxAge", with = "humantime_serde")]
        max_age: Option<Duration>, as impl Into<Option<Duration>>, by Into::into = None;
        /// The expiry as a point in time. Long-running servers should use `max_age` instead.
        /// Default: not sent.
        #[serde(with = "humantime_serde")]
        expires: Option<SystemTime>, as impl Into<Option<SystemTime>>, by Into::into = None;
        /// The `Domain` attribute. Default: only the server's own host.
        domain: Option<String>, as impl Into<String>, by some_text = None;
        /// Whether the cookie is sent over HTTPS only. Default `false`.
        secure: bool = false, secure: true;
        /// Whether the cookie is stored separately for each site that embeds the page (CHIPS).
        /// Default `false`.
        partitioned: bool = false, partitioned: true;
        /// Which cookies a browser evicts first when it has too many. Default: not sent.
        priority: Option<Priority>, as impl Into<Option<Priority>>, by Into::into = None;
    }
}

/// Which requests from other sites include a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "the values of RFC 6265bis")]
pub enum SameSite {
    /// No requests.
    Strict,
    /// Only navigation by a link.
    Lax,
    /// All requests; browsers require `secure` with it.
    None,
}

/// The priority with which a browser evicts cookies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "the values that browsers know")]
pub enum Priority {
    /// The browser evicts the cookie before cookies of higher priority.
    Low,
    /// The default of browsers, as for a cookie without a priority.
    Medium,
    /// The browser evicts the cookie after all cookies of lower priority.
    High,
}

options! {
    /// Compression of polling responses. It costs CPU time for each response and helps on slow
    /// links.
    HttpCompression {
        /// Minimum size of a compressed response, in bytes. Default 1,024.
        threshold: usize = 1024;
        /// Compression level, 1 (fast) to 9 (small). Default 6.
        level: u32 = 6;
    }
}
