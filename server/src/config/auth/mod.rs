//! Section `[auth]`: authentication and permissions.

mod backend;

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::store::without_password;
pub use backend::Backend;

/// Section `[auth]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Auth {
    /// Whether guests are admitted. Default: only in the development profile.
    pub guests: Option<bool>,
    /// URL at which users sign in; the chat page links to it. Default: none, and the page asks for
    /// a token instead.
    pub login_url: Option<String>,
    /// URL at which users sign out; the chat page links to it. Default: none.
    pub logout_url: Option<String>,
    /// Whether a request that opens a connection must already have a valid header or cookie.
    /// Excludes guests. Default `false`: the `CONNECT` packet may contain the credentials.
    pub at_handshake: bool,
    /// Whether the query parameter `token` is accepted. Default `false`, because URLs are logged.
    pub query_token: bool,
    /// How long before the expiry of a token or session the client receives `auth:expiring`.
    /// Default 1 min.
    #[serde(with = "humantime_serde")]
    pub expiring_lead: Duration,
    /// How long a socket stays connected after the expiry of its token or session. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub grace: Duration,
    /// Maximum time until an unused session expires. Default 30 days.
    #[serde(with = "crate::config::days")]
    pub session_max_ttl: Duration,
    /// Maximum number of principals whose permissions are cached. Default 10,000.
    pub permission_cache: usize,
    /// Tokens.
    pub jwt: Jwt,
    /// Sessions of a Node backend.
    pub backend: Backend,
    /// Permissions of each role.
    pub roles: BTreeMap<String, Role>,
}

impl Default for Auth {
    fn default() -> Self {
        Self {
            guests: None,
            login_url: None,
            logout_url: None,
            at_handshake: false,
            query_token: false,
            expiring_lead: Duration::from_secs(60),
            grace: Duration::from_secs(10),
            session_max_ttl: Duration::from_secs(30 * 86_400),
            permission_cache: 10_000,
            jwt: Jwt::default(),
            backend: Backend::default(),
            roles: roles(),
        }
    }
}

/// Section `[auth.jwt]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Jwt {
    /// Secret that signs tokens, at least as long as the hash: 32 bytes for HS256.
    pub secret: Option<Secret>,
    /// Algorithm of the secret: `HS256`, `HS384` or `HS512`. Default `HS256`.
    pub algorithm: String,
    /// File with a JWK set; reloaded when it changes.
    pub keys_file: Option<PathBuf>,
    /// URL of a JWK set, fetched every `jwks_refresh` and for an unknown `kid`. `https`, or `http`
    /// on a loopback address.
    pub jwks_url: Option<String>,
    /// PEM file with the certificate authorities for `jwks_url`. Default: those that the system
    /// trusts.
    pub jwks_ca_file: Option<PathBuf>,
    /// Interval between fetches of the JWK set. Default 5 min.
    #[serde(with = "humantime_serde")]
    pub jwks_refresh: Duration,
    /// Timeout of a fetch of the JWK set. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub jwks_timeout: Duration,
    /// Required `iss`.
    pub issuer: Option<String>,
    /// Required `aud`.
    pub audience: Option<String>,
    /// Maximum difference between the issuer's clock and this server's, in whole seconds. Default
    /// 30 s.
    #[serde(with = "humantime_serde")]
    pub leeway: Duration,
    /// Maximum length of a token in bytes. Default 8,192.
    pub max_bytes: usize,
    /// Maximum time from a token's `iat` to its `exp`, in whole seconds; requires `iat`. Default:
    /// no limit, and revocations without an end never expire.
    #[serde(with = "crate::config::days")]
    pub max_lifetime: Option<Duration>,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            secret: None,
            algorithm: "HS256".into(),
            keys_file: None,
            jwks_url: None,
            jwks_ca_file: None,
            jwks_refresh: Duration::from_secs(300),
            jwks_timeout: Duration::from_secs(5),
            issuer: None,
            audience: None,
            leeway: Duration::from_secs(30),
            max_bytes: 8192,
            max_lifetime: None,
        }
    }
}

impl Jwt {
    /// Returns the URL of the JWK set without possible secrets: the query and the password.
    pub(super) fn shown_jwks_url(&self) -> Option<String> {
        let url = self.jwks_url.as_ref()?;
        let (url, _) = url.split_once('#').unwrap_or((url, ""));
        let (mut shown, query) = without_password(url);
        if !query.is_empty() {
            shown.push_str("?***");
        }
        Some(shown)
    }

    /// Returns whether any source of keys is configured.
    #[must_use]
    pub fn has_keys(&self) -> bool {
        self.secret.is_some() || self.keys_file.is_some() || self.jwks_url.is_some()
    }
}

/// Section `[auth.roles.NAME]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Role {
    /// Permissions of the role: names, `chat:*` for all of an area, or `*` for all.
    pub permissions: Vec<String>,
    /// Roles whose permissions this role has as well.
    pub inherits: Vec<String>,
}

/// Returns the default roles.
fn roles() -> BTreeMap<String, Role> {
    let table: [(&str, &[&str], &[&str]); 6] = [
        (
            "user",
            &["chat:read", "chat:send", "chat:manage", "chat:type"],
            &[],
        ),
        // Guests are not verified, so they must not add users to conversations.
        ("guest", &["chat:read", "chat:send", "chat:type"], &[]),
        ("coach", &[], &["user"]),
        ("ai", &["chat:send_ai"], &["user"]),
        // The role administers the chat for its users, regardless of ownership.
        (
            "service",
            &[
                "api:*",
                "chat:moderate",
                "trades:publish",
                "signals:publish",
                "portfolio:publish",
                "prices:publish",
                "notifications:publish",
                "channels:publish",
                "trades:read",
                "signals:read",
                "portfolio:read",
                "notifications:read",
                "channels:read",
            ],
            &["ai"],
        ),
        ("admin", &["*"], &[]),
    ];
    let texts = |texts: &[&str]| texts.iter().map(|&text| text.to_owned()).collect();
    table
        .into_iter()
        .map(|(name, permissions, inherits)| {
            let role = Role {
                permissions: texts(permissions),
                inherits: texts(inherits),
            };
            (name.to_owned(), role)
        })
        .collect()
}

/// A text that is never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(String);

impl Secret {
    /// Returns the text that `print-config` shows instead.
    #[must_use]
    pub fn hidden() -> Self {
        Self("(hidden)".into())
    }

    /// Returns the text.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl From<String> for Secret {
    fn from(text: String) -> Self {
        Self(text)
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

impl Auth {
    /// Checks the values.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let sizes = [
            (self.permission_cache, "auth.permission_cache is zero"),
            (self.jwt.max_bytes, "auth.jwt.max_bytes is zero"),
        ];
        if let Some((_, fault)) = sizes.into_iter().find(|(size, _)| *size == 0) {
            return Err(fault);
        }
        let short = [
            (
                self.session_max_ttl,
                "auth.session_max_ttl is under a second",
            ),
            (
                self.jwt.jwks_refresh,
                "auth.jwt.jwks_refresh is under a second",
            ),
            (
                self.jwt.jwks_timeout,
                "auth.jwt.jwks_timeout is under a second",
            ),
        ];
        if let Some((_, fault)) = short.into_iter().find(|(time, _)| *time < SECOND) {
            return Err(fault);
        }
        let long = [
            (self.expiring_lead, "auth.expiring_lead is over a year"),
            (self.grace, "auth.grace is over a year"),
            (self.jwt.leeway, "auth.jwt.leeway is over a year"),
            (self.session_max_ttl, "auth.session_max_ttl is over a year"),
            (
                self.jwt.jwks_refresh,
                "auth.jwt.jwks_refresh is over a year",
            ),
            (
                self.jwt.jwks_timeout,
                "auth.jwt.jwks_timeout is over a year",
            ),
        ];
        if let Some((_, fault)) = long.into_iter().find(|(time, _)| *time > YEAR) {
            return Err(fault);
        }
        match self.jwt.max_lifetime {
            Some(max) if max < SECOND => return Err("auth.jwt.max_lifetime is under a second"),
            Some(max) if max > YEAR * 10 => {
                return Err("auth.jwt.max_lifetime is over ten years");
            }
            Some(_) | None => {}
        }
        self.backend.check()?;
        if self.jwt.jwks_ca_file.is_some() && self.jwt.jwks_url.is_none() {
            return Err("auth.jwt.jwks_ca_file has no effect without auth.jwt.jwks_url");
        }
        if ![&self.login_url, &self.logout_url]
            .into_iter()
            .flatten()
            .all(|url| is_page(url))
        {
            return Err(
                "auth.login_url and auth.logout_url are addresses of pages: https://…, http://…, \
                 or a path of this server that begins with one /",
            );
        }
        if self.at_handshake && self.guests == Some(true) {
            return Err("auth.at_handshake excludes guests: set auth.guests to false");
        }
        Ok(())
    }
}

/// Returns whether a URL can be the address of a page. Other schemes in a link could run scripts.
fn is_page(url: &str) -> bool {
    let is_whole = url.starts_with("https://") || url.starts_with("http://");
    let is_path = url.starts_with('/') && !url.starts_with("//");
    (is_whole || is_path)
        && url
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && byte != b'\\')
}

const SECOND: Duration = Duration::from_secs(1);
const YEAR: Duration = Duration::from_secs(366 * 86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_in_url_is_an_http_url_or_a_path() {
        for url in [
            "https://id.example/login?to=/",
            "http://127.0.0.1/",
            "/login",
        ] {
            assert!(is_page(url), "{url}");
        }
        for url in [
            "javascript:alert(1)",
            "data:text/html,x",
            "//evil.example",
            "/\\evil.example",
            "id.example",
            "https://a b",
            "",
        ] {
            let auth = Auth {
                login_url: Some(url.into()),
                ..Auth::default()
            };
            assert!(auth.check().is_err(), "{url}");
        }
    }

    #[test]
    fn jwks_url_is_shown_without_query_and_password() {
        for (url, shown) in [
            ("https://id.example/jwks", "https://id.example/jwks"),
            (
                "https://id.example/jwks?key=secret",
                "https://id.example/jwks?***",
            ),
            (
                "https://u:secret@id.example/jwks",
                "https://u:***@id.example/jwks",
            ),
            ("https://id.example/jwks#secret", "https://id.example/jwks"),
        ] {
            let jwt = Jwt {
                jwks_url: Some(url.into()),
                ..Jwt::default()
            };
            assert_eq!(jwt.shown_jwks_url().as_deref(), Some(shown));
        }
    }
}
