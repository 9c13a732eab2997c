//! Section `[webhooks]`.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use crate::config::{Secret, store::shown_address};

/// Section `[webhooks]`: notifications of events to a service.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    /// URL of the receiver: `https://…`, or `http://…` if private addresses are allowed. Default:
    /// none.
    pub url: Option<String>,
    /// Secret that signs deliveries: at least 16 bytes, in the production profile 32. Required with
    /// `url`.
    pub secret: Option<Secret>,
    /// Previous secret, which also signs deliveries while receivers switch to the new one. Default:
    /// none.
    pub previous_secret: Option<Secret>,
    /// Names of delivered events: `connect`, `disconnect`, `room:occupied`, `room:vacated`, events
    /// that clients send, `trade:update`, `signal:new`, `portfolio:update`, `notification:new`, and
    /// `admin:alert`. Default: `connect` and `disconnect`.
    pub events: Vec<String>,
    /// Rooms for `room:occupied` and `room:vacated`: names, and prefixes that end in `*`. Default:
    /// all.
    pub rooms: Vec<String>,
    /// PEM file with the certificate authorities for the receiver. Default: those that this machine
    /// trusts.
    pub ca_file: Option<PathBuf>,
    /// Timeout of one request, from resolving the host name to the status of the response. Default
    /// 5 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// Delay after the first attempt of a delivery; each further one doubles it, up to ten minutes,
    /// and it is randomly reduced by up to half. Default 1 s.
    #[serde(with = "humantime_serde")]
    pub retry_delay: Duration,
    /// Age at which a delivery is abandoned. Default 24 h.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// Maximum number of queued deliveries in the store. If it is reached, events are dropped and
    /// counted. Default 10,000.
    pub queue: usize,
    /// Maximum number of concurrent requests of one server. Default 4.
    pub concurrent: usize,
    /// Maximum number of events in one delivery. Default 100.
    pub batch: usize,
    /// Whether the receiver may have an address that is not on the public internet. Default
    /// `false`.
    pub allow_private: bool,
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            url: None,
            secret: None,
            previous_secret: None,
            events: vec!["connect".into(), "disconnect".into()],
            rooms: vec!["*".into()],
            ca_file: None,
            timeout: Duration::from_secs(5),
            retry_delay: Duration::from_secs(1),
            max_age: Duration::from_secs(86_400),
            queue: 10_000,
            concurrent: 4,
            batch: 100,
            allow_private: false,
        }
    }
}

impl Webhooks {
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
            return Err(
                "webhooks.url is set: set webhooks.secret too, with which deliveries are signed",
            );
        }
        let secrets = [&self.secret, &self.previous_secret];
        let mut secrets = secrets.into_iter().flatten();
        if secrets.any(|secret| secret.expose().len() < SHORTEST_SECRET) {
            return Err("webhooks.secret and webhooks.previous_secret must have 16 bytes or more");
        }
        if self.timeout.is_zero() || self.timeout > LONGEST_REQUEST {
            return Err("webhooks.timeout must be above zero and at most a minute");
        }
        if self.retry_delay.is_zero() || self.retry_delay > LONGEST_REQUEST {
            return Err("webhooks.retry_delay must be above zero and at most a minute");
        }
        if self.max_age.is_zero() || self.max_age > LONGEST_AGE {
            return Err("webhooks.max_age must be above zero and at most 30 days");
        }
        if !(1..=MOST_QUEUED).contains(&self.queue) {
            return Err("webhooks.queue must be from 1 to 1000000");
        }
        if !(1..=MOST_CONCURRENT).contains(&self.concurrent) {
            return Err("webhooks.concurrent must be from 1 to 64");
        }
        if !(1..=MOST_BATCHED).contains(&self.batch) {
            return Err("webhooks.batch must be from 1 to 1000");
        }
        Ok(())
    }
}

const SHORTEST_SECRET: usize = 16;
const LONGEST_REQUEST: Duration = Duration::from_secs(60);
const LONGEST_AGE: Duration = Duration::from_secs(30 * 86_400);
const MOST_QUEUED: usize = 1_000_000;
const MOST_CONCURRENT: usize = 64;
const MOST_BATCHED: usize = 1000;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn webhooks_require_a_long_secret_and_do_not_print_it() {
        let webhooks = Webhooks {
            url: Some("https://app.example/hooks?key=canary".into()),
            secret: Some(Secret::from("canary of 16 bytes".to_owned())),
            previous_secret: Some(Secret::from("canary of 16 bytes".to_owned())),
            ..Webhooks::default()
        };
        assert_eq!(webhooks.check(), Ok(()));
        let shown = toml::to_string(&webhooks.shown()).unwrap();
        assert!(!shown.contains("canary"), "{shown}");
        for secret in [None, Some(Secret::from("fifteen bytes..".to_owned()))] {
            let webhooks = Webhooks {
                secret,
                ..webhooks.clone()
            };
            assert!(webhooks.check().is_err());
        }
    }
}
