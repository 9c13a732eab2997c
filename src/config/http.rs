//! Options of the HTTP side that have fields of their own.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// What pages of other sites may do, told by their `Origin`: the CORS protocol of WHATWG Fetch, with
/// the fields and defaults of npm's `cors`. Requests without an origin, and those from the server's
/// own host and port, are always allowed.
///
/// [`Builder::cors_origin`](crate::Builder::cors_origin) allows further origins by a function.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cors {
    /// Origins that are allowed, as browsers send them (`https://app.example`). `*` alone is any;
    /// inside of one it stands for any characters but `/` and `:` (`https://*.example.com`).
    /// Default none.
    #[serde(alias = "origin")]
    pub origins: Vec<String>,
    /// Whether they may send cookies and authorization. Default `false`; not together with `*`.
    pub credentials: bool,
    /// Whether requests of other origins are refused with 403, WebSockets as well. Default
    /// `false`, as in the official server: they are answered without CORS headers.
    pub enforce: bool,
    /// Methods a preflight allows. Default `GET,HEAD,PUT,PATCH,POST,DELETE`.
    pub methods: Vec<String>,
    /// Headers a preflight allows. Default: those it asks for.
    #[serde(alias = "allowedHeaders")]
    pub allowed_headers: Option<Vec<String>>,
    /// Headers of an answer that a page may read. Default none.
    #[serde(alias = "exposedHeaders")]
    pub exposed_headers: Vec<String>,
    /// How long a browser may remember a preflight; whole seconds are sent. Default: not said.
    #[serde(alias = "maxAge", with = "humantime_serde")]
    pub max_age: Option<Duration>,
    /// Whether a preflight is answered like any other request (with `400` by Engine.IO) instead of
    /// at once. For a router around the service that answers it. Default `false`.
    #[serde(alias = "preflightContinue")]
    pub preflight_continue: bool,
    /// Status of the answer to a preflight, 200 to 299. Default 204.
    #[serde(alias = "optionsSuccessStatus")]
    pub options_success_status: u16,
}

impl Default for Cors {
    fn default() -> Self {
        Self {
            origins: Vec::new(),
            credentials: false,
            enforce: false,
            methods: ["GET", "HEAD", "PUT", "PATCH", "POST", "DELETE"]
                .map(str::to_owned)
                .into(),
            allowed_headers: None,
            exposed_headers: Vec::new(),
            max_age: None,
            preflight_continue: false,
            options_success_status: 204,
        }
    }
}

/// The cookie that the first answer of a polling session sets to the session's id, for load
/// balancers that keep a client on one node by it (RFC 6265). The server never reads it.
///
/// A session opened on a WebSocket sets none;
/// [`Builder::initial_headers`](crate::Builder::initial_headers) can.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Cookie {
    /// Its name. Default `io`.
    pub name: String,
    /// Paths it is sent for; empty: not said. Default `/`.
    pub path: String,
    /// Whether pages cannot read it. Default `true`.
    #[serde(alias = "httpOnly")]
    pub http_only: bool,
    /// Which requests from other sites bring it. Default [`SameSite::Lax`].
    #[serde(alias = "sameSite")]
    pub same_site: Option<SameSite>,
    /// How long it lives; whole seconds are sent. Default: as long as the browser runs.
    #[serde(alias = "maxAge", with = "humantime_serde")]
    pub max_age: Option<Duration>,
    /// When it ends, as a point in time. Default: not said; `max_age` is meant for servers that run
    /// for long.
    pub expires: Option<jiff::Timestamp>,
    /// Hosts it is sent to. Default: only the server's own.
    pub domain: Option<String>,
    /// Whether it is sent over HTTPS only. Default `false`.
    pub secure: bool,
    /// Whether it is kept apart for each site that embeds the page (CHIPS). Default `false`.
    pub partitioned: bool,
    /// Which cookies a browser drops first when it has too many. Default: not said.
    pub priority: Option<Priority>,
}

impl Default for Cookie {
    fn default() -> Self {
        Self {
            name: "io".into(),
            path: "/".into(),
            http_only: true,
            same_site: Some(SameSite::Lax),
            max_age: None,
            expires: None,
            domain: None,
            secure: false,
            partitioned: false,
            priority: None,
        }
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
    /// Before all others.
    Low,
    /// As those that do not say.
    Medium,
    /// After all others.
    High,
}

/// Compression of polling answers. It costs CPU time for every answer and helps on slow lines.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpCompression {
    /// Answers of fewer bytes are sent as they are. Default 1,024.
    pub threshold: usize,
    /// 1 (fast) to 9 (small). Default 6.
    pub level: u32,
}

impl Default for HttpCompression {
    fn default() -> Self {
        Self {
            threshold: 1024,
            level: 6,
        }
    }
}
