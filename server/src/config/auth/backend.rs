//! Section `[auth.backend]`.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::Secret;
use crate::config::store::shown_address;

/// Section `[auth.backend]`. The server accepts signed session cookies of a Node backend, and asks
/// that backend for the user of a session.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Backend {
    /// URL that returns the user of a session: `https://…`, or `http://…` if private addresses are
    /// allowed. Default: none; these cookies are then not accepted.
    pub url: Option<String>,
    /// Name of the cookie. Default `connect.sid`.
    pub cookie: String,
    /// Secrets that may sign the cookie, as in `secret` of express-session. Required with `url`.
    pub secrets: Vec<Secret>,
    /// How long a user is cached for new connections. Default 10 s.
    #[serde(with = "humantime_serde")]
    pub cache: Duration,
    /// How long the server remembers that a session has no user. Default 2 s.
    #[serde(with = "humantime_serde")]
    pub negative_cache: Duration,
    /// Interval between checks of connected sessions. A user who logs out is disconnected within
    /// this time. Default 30 s.
    #[serde(with = "humantime_serde")]
    pub recheck: Duration,
    /// How long connected users stay while the backend does not respond. Default 10 min.
    #[serde(with = "humantime_serde")]
    pub outage_grace: Duration,
    /// Maximum number of sessions at the same time. If it is reached, clients with further sessions
    /// are refused. Default 100,000.
    pub sessions: usize,
    /// Timeout of one request. Default 3 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// PEM file with the certificate authorities for the backend. Default: those that this machine
    /// trusts.
    pub ca_file: Option<PathBuf>,
    /// Whether the backend may have an address that is not on the public internet, and be called
    /// without TLS. Default `false`.
    pub allow_private: bool,
}

impl Default for Backend {
    fn default() -> Self {
        Self {
            url: None,
            cookie: "connect.sid".into(),
            secrets: Vec::new(),
            cache: Duration::from_secs(10),
            negative_cache: Duration::from_secs(2),
            recheck: Duration::from_secs(30),
            outage_grace: Duration::from_secs(600),
            sessions: 100_000,
            timeout: Duration::from_secs(3),
            ca_file: None,
            allow_private: false,
        }
    }
}

impl Backend {
    /// Returns the settings without secrets.
    pub(in crate::config) fn shown(&self) -> Self {
        Self {
            url: self.url.as_deref().map(shown_address),
            secrets: self.secrets.iter().map(|_| Secret::hidden()).collect(),
            ..self.clone()
        }
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
        if self.url.is_some() && self.secrets.is_empty() {
            return Err(
                "auth.backend.url is set: set auth.backend.secrets too, with which the cookie is signed",
            );
        }
        if self.secrets.iter().any(|secret| secret.expose().is_empty()) {
            return Err("auth.backend.secrets has an empty entry");
        }
        let is_token =
            |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
        if self.cookie.is_empty() || !self.cookie.bytes().all(is_token) {
            return Err("auth.backend.cookie is not the name of a cookie");
        }
        if self.sessions == 0 {
            return Err("auth.backend.sessions is zero");
        }
        let times = [self.recheck, self.outage_grace, self.timeout];
        if times.iter().any(Duration::is_zero) {
            return Err("auth.backend.recheck, outage_grace and timeout must be above zero");
        }
        let times = [self.recheck, self.cache, self.negative_cache, self.timeout];
        if times.iter().any(|time| *time > HOUR) || self.outage_grace > DAY {
            return Err(
                "the times of auth.backend are at most an hour, and its outage_grace a day",
            );
        }
        Ok(())
    }
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(86_400);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backend_requires_a_secret_and_does_not_print_it() {
        let backend = Backend {
            url: Some("http://127.0.0.1:4000/me?key=canary".into()),
            secrets: vec![Secret::from("canary".to_owned())],
            ..Backend::default()
        };
        assert_eq!(backend.check(), Ok(()));
        let shown = toml::to_string(&backend.shown()).unwrap();
        assert!(!shown.contains("canary"), "{shown}");
        for wrong in [
            Backend {
                secrets: Vec::new(),
                ..backend.clone()
            },
            Backend {
                secrets: vec![Secret::from(String::new())],
                ..backend.clone()
            },
            Backend {
                cookie: "a;b".into(),
                ..backend.clone()
            },
            Backend {
                recheck: Duration::ZERO,
                ..backend
            },
        ] {
            assert!(wrong.check().is_err(), "{wrong:?}");
        }
    }
}
