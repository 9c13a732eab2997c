//! Section `[ask]`.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::config::{Secret, store::shown_address};

/// Section `[ask]`: the backend that the rule `ask` of channels asks who may follow.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Ask {
    /// URL of the backend: `https://…`, or `http://…` if private addresses are allowed. Default:
    /// none; no kind of channels may then have the rule `ask`.
    pub url: Option<String>,
    /// Secret that signs requests, as those of webhooks: at least 16 bytes, in the production
    /// profile 32. Required with `url`.
    pub secret: Option<Secret>,
    /// Previous secret, which also signs requests while the backend switches to the new one.
    /// Default: none.
    pub previous_secret: Option<Secret>,
    /// Timeout of one request, from resolving the host name to the end of the response. Default
    /// 3 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Maximum number of concurrent requests of one server about new questions, and of those that
    /// renew answers. Default 32.
    pub concurrent: usize,
    /// Maximum number of answers that one server caches although nothing uses them now, about 1 KiB
    /// each. If it is reached, they are forgotten. Default 100,000.
    pub cached: usize,
    /// PEM file with the certificate authorities for the backend. Default: those that this machine
    /// trusts.
    pub ca_file: Option<PathBuf>,
    /// Whether the backend may have an address that is not on the public internet. Default `false`.
    pub allow_private: bool,
}

impl Default for Ask {
    fn default() -> Self {
        Self {
            url: None,
            secret: None,
            previous_secret: None,
            timeout: Duration::from_secs(3),
            concurrent: 32,
            cached: 100_000,
            ca_file: None,
            allow_private: false,
        }
    }
}

impl Ask {
    /// Returns the settings without secrets.
    pub(in crate::config) fn shown(&self) -> Self {
        let mut shown = self.clone();
        shown.url = self.url.as_deref().map(shown_address);
        for secret in [&mut shown.secret, &mut shown.previous_secret] {
            if secret.is_some() {
                *secret = Some(Secret::hidden());
            }
        }
        shown
    }

    pub(in crate::config) fn check(&self) -> Result<(), &'static str> {
        if self.url.is_some() && self.secret.is_none() {
            return Err("ask.url is set: set ask.secret too, with which requests are signed");
        }
        let secrets = [&self.secret, &self.previous_secret];
        let mut secrets = secrets.into_iter().flatten();
        if secrets.any(|secret| secret.expose().len() < SHORTEST_SECRET) {
            return Err("ask.secret and ask.previous_secret must have 16 bytes or more");
        }
        if self.timeout.is_zero() || self.timeout > LONGEST_REQUEST {
            return Err("ask.timeout must be above zero and at most a minute");
        }
        if !(1..=MOST_CONCURRENT).contains(&self.concurrent) {
            return Err("ask.concurrent must be from 1 to 1024");
        }
        if self.cached > MOST_CACHED {
            return Err("ask.cached must be at most 10000000");
        }
        Ok(())
    }
}

const SHORTEST_SECRET: usize = 16;
const LONGEST_REQUEST: Duration = Duration::from_secs(60);
const MOST_CONCURRENT: usize = 1024;
const MOST_CACHED: usize = 10_000_000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn backend_requires_a_long_secret_and_does_not_print_it() {
        let ask = Ask {
            url: Some("https://shop.example/rights?key=canary".into()),
            secret: Some(Secret::from("canary of 16 bytes".to_owned())),
            ..Ask::default()
        };
        assert_eq!(ask.check(), Ok(()));
        let shown = toml::to_string(&ask.shown()).unwrap();
        assert!(!shown.contains("canary"), "{shown}");
        for secret in [None, Some(Secret::from("fifteen bytes..".to_owned()))] {
            let ask = Ask {
                secret,
                ..ask.clone()
            };
            assert!(ask.check().is_err());
        }
    }
}
