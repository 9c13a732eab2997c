//! Section `[auth]`: authentication and permissions.

use std::{collections::BTreeMap, fmt, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Backend, store::without_password};

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
    /// Seconds before the expiry of a token or session at which the client receives
    /// `auth:expiring`. Default 60.
    pub expiring_lead_s: u64,
    /// Seconds that a socket stays connected after the expiry of its token or session. Default 10.
    pub grace_s: u64,
    /// Maximum seconds until an unused session expires. Default 2,592,000 (30 days).
    pub session_max_ttl_s: u64,
    /// Maximum principals whose permissions are cached. Default 10,000.
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
            expiring_lead_s: 60,
            grace_s: 10,
            session_max_ttl_s: 30 * 86_400,
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
    /// URL of a JWK set, fetched every `jwks_refresh_s` and for an unknown `kid`. `https`, or
    /// `http` on a loopback address.
    pub jwks_url: Option<String>,
    /// PEM file with the certificate authorities for `jwks_url`. Default: those that the system
    /// trusts.
    pub jwks_ca_file: Option<PathBuf>,
    /// Seconds between two fetches of the JWK set. Default 300.
    pub jwks_refresh_s: u64,
    /// Timeout of a fetch of the JWK set, in seconds. Default 5.
    pub jwks_timeout_s: u64,
    /// Required `iss`.
    pub issuer: Option<String>,
    /// Required `aud`.
    pub audience: Option<String>,
    /// Maximum seconds by which the issuer's clock may differ from this server's. Default 30.
    pub leeway_s: u64,
    /// Maximum bytes of a token. Default 8,192.
    pub max_bytes: usize,
    /// Maximum seconds from a token's `iat` to its `exp`; requires `iat`. Default: no limit, and
    /// revocations without an end never expire.
    pub max_lifetime_s: Option<u64>,
}

impl Default for Jwt {
    fn default() -> Self {
        Self {
            secret: None,
            algorithm: "HS256".into(),
            keys_file: None,
            jwks_url: None,
            jwks_ca_file: None,
            jwks_refresh_s: 300,
            jwks_timeout_s: 5,
            issuer: None,
            audience: None,
            leeway_s: 30,
            max_bytes: 8192,
            max_lifetime_s: None,
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
                "trades:read",
                "signals:read",
                "portfolio:read",
                "notifications:read",
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
    /// Returns how long before the expiry a client is notified.
    #[must_use]
    pub fn expiring_lead(&self) -> Duration {
        Duration::from_secs(self.expiring_lead_s)
    }

    /// Returns how long a socket stays connected after the expiry.
    #[must_use]
    pub fn grace(&self) -> Duration {
        Duration::from_secs(self.grace_s)
    }

    /// Checks the values.
    pub(super) fn check(&self) -> Result<(), &'static str> {
        let numbers = [
            (self.session_max_ttl_s, "auth.session_max_ttl_s is zero"),
            (
                self.permission_cache as u64,
                "auth.permission_cache is zero",
            ),
            (self.jwt.jwks_refresh_s, "auth.jwt.jwks_refresh_s is zero"),
            (self.jwt.jwks_timeout_s, "auth.jwt.jwks_timeout_s is zero"),
            (self.jwt.max_bytes as u64, "auth.jwt.max_bytes is zero"),
        ];
        if let Some((_, fault)) = numbers.into_iter().find(|(number, _)| *number == 0) {
            return Err(fault);
        }
        let spans = [
            (self.expiring_lead_s, "auth.expiring_lead_s is over a year"),
            (self.grace_s, "auth.grace_s is over a year"),
            (self.jwt.leeway_s, "auth.jwt.leeway_s is over a year"),
            (
                self.session_max_ttl_s,
                "auth.session_max_ttl_s is over a year",
            ),
            (
                self.jwt.jwks_refresh_s,
                "auth.jwt.jwks_refresh_s is over a year",
            ),
            (
                self.jwt.jwks_timeout_s,
                "auth.jwt.jwks_timeout_s is over a year",
            ),
        ];
        if let Some((_, fault)) = spans.into_iter().find(|(span, _)| *span > YEAR_S) {
            return Err(fault);
        }
        match self.jwt.max_lifetime_s {
            Some(0) => return Err("auth.jwt.max_lifetime_s is zero"),
            Some(max) if max > 10 * YEAR_S => {
                return Err("auth.jwt.max_lifetime_s is over ten years");
            }
            Some(_) | None => {}
        }
        self.backend.check()?;
        if self.jwt.jwks_ca_file.is_some() && self.jwt.jwks_url.is_none() {
            return Err("auth.jwt.jwks_ca_file is of no use without auth.jwt.jwks_url");
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
            return Err("auth.at_handshake lets no guests in: auth.guests must be false");
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

const YEAR_S: u64 = 366 * 86_400;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn people_are_sent_to_pages_alone_to_sign_in() {
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
