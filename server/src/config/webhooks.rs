//! Section `[webhooks]`.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Secret, store::shown_address};

/// Section `[webhooks]`: where a service is told what happens here.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Webhooks {
    /// Where it is told: `https://…`, or `http://…` if private addresses are allowed. Default: nowhere.
    pub url: Option<String>,
    /// The secret that deliveries are signed with: at least 16 bytes, in the production profile 32. Required with `url`.
    pub secret: Option<Secret>,
    /// The secret before, with which deliveries are signed as well while receivers change over. Default: none.
    pub previous_secret: Option<Secret>,
    /// The names of what is told: `connect`, `disconnect`, `room:occupied`, `room:vacated`, events that clients send, and `trade:update`,
    /// `signal:new`, `portfolio:update` and `notification:new`. Default: `connect` and `disconnect`.
    pub events: Vec<String>,
    /// The rooms of which `room:occupied` and `room:vacated` are told: names, and beginnings of names that end in `*`. Default: all.
    pub rooms: Vec<String>,
    /// Certificates in PEM of those who vouch for its server. Default: whom this machine trusts.
    pub ca_file: Option<PathBuf>,
    /// How long one request may take, from the name of the host to the status of the answer. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
    /// The pause after the first attempt of a delivery; each further one is twice as long, ten minutes at most, and up to a half
    /// shorter at random. Default 1 s.
    #[serde(with = "humantime_serde")]
    pub pause: Duration,
    /// How old a delivery may become before it is given up. Default 24 h.
    #[serde(with = "humantime_serde")]
    pub max_age: Duration,
    /// Deliveries that may wait in the store; past that what happens is not told, and counted. Default 10,000.
    pub queue: usize,
    /// Requests of one server that may be under way. Default 4.
    pub concurrent: usize,
    /// Events of one delivery at most. Default 100.
    pub batch: usize,
    /// Whether it may be at an address that is not on the public internet. Default `false`.
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
            pause: Duration::from_secs(1),
            max_age: Duration::from_secs(86_400),
            queue: 10_000,
            concurrent: 4,
            batch: 100,
            allow_private: false,
        }
    }
}

impl Webhooks {
    /// Shows the settings without what must not be shown.
    pub(super) fn shown(&self) -> Self {
        let mut shown = self.clone();
        shown.url = self.url.as_deref().map(shown_address);
        for secret in [&mut shown.secret, &mut shown.previous_secret] {
            if secret.is_some() {
                *secret = Some(Secret::hidden());
            }
        }
        shown
    }

    pub(super) fn check(&self) -> Result<(), &'static str> {
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
        if self.pause.is_zero() || self.pause > LONGEST_REQUEST {
            return Err("webhooks.pause must be above zero and at most a minute");
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
    fn webhooks_show_no_secret_and_are_signed_with_a_long_one() {
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
