//! Options of the HTTP side that have fields of their own.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::options::{options, some_text, some_texts, texts};

options! {
    /// What pages of other sites may do, told by their `Origin`: the CORS protocol of WHATWG Fetch, with
    /// the fields and defaults of npm's `cors`. Requests without an origin, and those from the server's
    /// own host and port, are always allowed.
    ///
    /// [`Builder::cors_origin`](crate::Builder::cors_origin) allows further origins by a function.
    Cors {
        /// Origins that are allowed, as browsers send them (`https://app.example`). `*` alone is any;
        /// inside of one it stands for any characters but `/` and `:` (`https://*.example.com`).
        /// Default none.
        #[serde(alias = "origin")]
        origins: Vec<String>, as impl IntoIterator<Item = impl Into<String>>, by texts = Vec::new();
        /// Whether they may send cookies and authorization. Default `false`; not together with `*`.
        credentials: bool = false;
        /// Whether requests of other origins are refused with 403, WebSockets as well. Default
        /// `false`, as in the official server: they are answered without CORS headers.
        enforce: bool = false;
        /// Methods a preflight allows. Default `GET,HEAD,PUT,PATCH,POST,DELETE`.
        methods: Vec<String>, as impl IntoIterator<Item = impl Into<String>>, by texts = texts(["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"]);
        /// Headers a preflight allows. Default: those it asks for.
        #[serde(alias = "allowedHeaders")]
        allowed_headers: Option<Vec<String>>, as impl IntoIterator<Item = impl Into<String>>, by some_texts = None;
        /// Headers of an answer that a page may read. Default none.
        #[serde(alias = "exposedHeaders")]
        exposed_headers: Vec<String>, as impl IntoIterator<Item = impl Into<String>>, by texts = Vec::new();
        /// How long a browser may remember a preflight; whole seconds are sent. Default: not said.
        #[serde(alias = "maxAge", with = "humantime_serde")]
        max_age: Option<Duration>, as impl Into<Option<Duration>>, by Into::into = None;
        /// Whether a preflight is answered like any other request (with `400` by Engine.IO) instead of
        /// at once. For a router around the service that answers it. Default `false`.
        #[serde(alias = "preflightContinue")]
        preflight_continue: bool = false;
        /// Status of the answer to a preflight, 200 to 299. Default 204.
        #[serde(alias = "optionsSuccessStatus")]
        options_success_status: u16 = 204;
    }
}

options! {
    /// The cookie that the first answer of a polling session sets to the session's id, for load
    /// balancers that keep a client on one node by it (RFC 6265). The server never reads it.
    ///
    /// A session opened on a WebSocket sets none;
    /// [`Builder::initial_headers`](crate::Builder::initial_headers) can.
    Cookie {
        /// The name of the cookie. Default `io`.
        name: String, as impl Into<String>, by Into::into = "io".into();
        /// Paths it is sent for; empty: not said. Default `/`.
        path: String, as impl Into<String>, by Into::into = "/".into();
        /// Whether pages cannot read it. Default `true`.
        #[serde(alias = "httpOnly")]
        http_only: bool = true;
        /// Which requests from other sites bring it. Default [`SameSite::Lax`].
        #[serde(alias = "sameSite")]
        same_site: Option<SameSite>, as impl Into<Option<SameSite>>, by Into::into = Some(SameSite::Lax);
        /// How long it lives; whole seconds are sent. Default: as long as the browser runs.
        #[serde(alias = "maxAge", with = "humantime_serde")]
        max_age: Option<Duration>, as impl Into<Option<Duration>>, by Into::into = None;
        /// When it ends, as a point in time. Default: not said; `max_age` is meant for servers that run
        /// for long.
        #[serde(with = "humantime_serde")]
        expires: Option<SystemTime>, as impl Into<Option<SystemTime>>, by Into::into = None;
        /// Hosts it is sent to. Default: only the server's own.
        domain: Option<String>, as impl Into<String>, by some_text = None;
        /// Whether the cookie is sent over HTTPS only. Default `false`.
        secure: bool = false;
        /// Whether the cookie is kept apart for each site that embeds the page (CHIPS). Default `false`.
        partitioned: bool = false;
        /// Which cookies a browser drops first when it has too many. Default: not said.
        priority: Option<Priority>, as impl Into<Option<Priority>>, by Into::into = None;
    }
}

/// Which requests from other sites bring a cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "the values of RFC 6265bis")]
pub enum SameSite {
    /// None.
    Strict,
    /// Following a link.
    Lax,
    /// All; browsers want `secure` with it.
    None,
}

/// Which cookies a browser drops first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(clippy::exhaustive_enums, reason = "the values browsers know")]
pub enum Priority {
    /// The browser drops the cookie before all others.
    Low,
    /// The browser treats the cookie as those that do not say.
    Medium,
    /// The browser drops the cookie after all others.
    High,
}

options! {
    /// Compression of polling answers. It costs CPU time for every answer and helps on slow lines.
    HttpCompression {
        /// Answers of fewer bytes are sent as they are. Default 1,024.
        threshold: usize = 1024;
        /// 1 (fast) to 9 (small). Default 6.
        level: u32 = 6;
    }
}
