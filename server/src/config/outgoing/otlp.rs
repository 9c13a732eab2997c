//! Section `[otlp]`.

use std::{net::IpAddr, path::PathBuf, time::Duration};

use http::Uri;
use serde::{Deserialize, Serialize};

use crate::config::store::shown_address;

/// Section `[otlp]`: export of the spans of sampled events to an OpenTelemetry collector.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Otlp {
    /// URL at which the collector accepts traces in OTLP over HTTP, for example
    /// `http://127.0.0.1:4318/v1/traces`. Default: none, and no event is sampled.
    pub url: Option<String>,
    /// File with headers of the requests, such as a key of the collector: one `Name: value` on each
    /// line; other users of the machine must have no access to it. Read for each request. With
    /// `http`, the collector must be on this machine. Default: none.
    pub headers_file: Option<PathBuf>,
    /// PEM file with the certificate authorities for the collector. Default: those that this
    /// machine trusts.
    pub ca_file: Option<PathBuf>,
    /// `service.name` of the spans. Default `roomcast`.
    pub service_name: String,
    /// Share of the events and API calls without a `traceparent` that are sampled, from 0 to 1.
    /// Default 0.01.
    pub sample_ratio: f64,
    /// Maximum number of events and API calls per second that are sampled because the `traceparent`
    /// of their caller says so; 0 for none. Without `url`, this many pass the flag on to other
    /// servers and webhooks. Default 10.
    pub requested_per_second: u32,
    /// Maximum number of spans per second; further spans are dropped and counted. Default 1,000.
    pub spans_per_second: u32,
    /// Maximum number of spans that wait to be exported; further spans are dropped and counted.
    /// Default 2,048.
    pub queue: usize,
    /// Maximum number of spans in one request. Default 512.
    pub batch: usize,
    /// Maximum time that a span waits until its request is sent. Default 5 s.
    #[serde(with = "humantime_serde")]
    pub interval: Duration,
    /// Timeout of one request, from resolving the host name to the end of the response. Default
    /// 5 s.
    #[serde(with = "humantime_serde")]
    pub timeout: Duration,
}

impl Default for Otlp {
    fn default() -> Self {
        Self {
            url: None,
            headers_file: None,
            ca_file: None,
            service_name: "roomcast".into(),
            sample_ratio: 0.01,
            requested_per_second: 10,
            spans_per_second: 1000,
            queue: 2048,
            batch: 512,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(5),
        }
    }
}

impl Otlp {
    /// Returns the settings without secrets.
    pub(in crate::config) fn shown(&self) -> Self {
        Self {
            url: self.url.as_deref().map(shown_address),
            ..self.clone()
        }
    }

    pub(in crate::config) fn check(&self) -> Result<(), &'static str> {
        if !(0.0..=1.0).contains(&self.sample_ratio) {
            return Err("otlp.sample_ratio must be from 0 to 1");
        }
        if self.requested_per_second > MOST_PER_SECOND {
            return Err("otlp.requested_per_second must be at most 100000");
        }
        if !(1..=MOST_PER_SECOND).contains(&self.spans_per_second) {
            return Err("otlp.spans_per_second must be from 1 to 100000");
        }
        if !(1..=MOST_QUEUED).contains(&self.queue) {
            return Err("otlp.queue must be from 1 to 100000");
        }
        if !(1..=MOST_BATCHED).contains(&self.batch) {
            return Err("otlp.batch must be from 1 to 4096");
        }
        if self.interval.is_zero() || self.interval > LONGEST {
            return Err("otlp.interval must be above zero and at most a minute");
        }
        if self.timeout.is_zero() || self.timeout > LONGEST {
            return Err("otlp.timeout must be above zero and at most a minute");
        }
        if !(1..=LONGEST_NAME).contains(&self.service_name.chars().count()) {
            return Err("otlp.service_name must have from 1 to 255 characters");
        }
        if self.headers_file.is_some() && self.url.as_deref().is_some_and(is_exposed) {
            return Err(
                "otlp.headers_file would be sent without encryption: use an otlp.url with https",
            );
        }
        Ok(())
    }
}

/// Returns whether requests to a URL leave this machine without encryption.
fn is_exposed(url: &str) -> bool {
    // An invalid URL is refused elsewhere.
    let Ok(uri) = url.parse::<Uri>() else {
        return false;
    };
    let host = uri.host().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = |address: IpAddr| address.to_canonical().is_loopback();
    let is_local = host == "localhost" || host.parse().is_ok_and(is_loopback);
    uri.scheme_str() != Some("https") && !is_local
}

/// The maximum of each rate.
const MOST_PER_SECOND: u32 = 100_000;
/// The maximum number of spans that wait.
const MOST_QUEUED: usize = 100_000;
/// The maximum number of spans per request.
const MOST_BATCHED: usize = 4096;
/// The longest interval and timeout.
const LONGEST: Duration = Duration::from_secs(60);
/// The maximum length of the name of the service in characters.
const LONGEST_NAME: usize = 255;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_require_https_or_a_url_of_this_machine() {
        for (url, is_accepted) in [
            ("https://collector.example/v1/traces", true),
            ("http://127.0.0.1:4318/v1/traces", true),
            ("http://[::1]:4318/v1/traces", true),
            ("http://localhost:4318/v1/traces", true),
            ("http://collector:4318/v1/traces", false),
            ("http://10.0.0.1:4318/v1/traces", false),
        ] {
            let otlp = Otlp {
                url: Some(url.into()),
                headers_file: Some("headers".into()),
                ..Otlp::default()
            };
            assert_eq!(otlp.check().is_ok(), is_accepted, "{url}");
            let without = Otlp {
                headers_file: None,
                ..otlp
            };
            assert_eq!(without.check(), Ok(()));
        }
    }

    #[test]
    fn values_out_of_range_are_refused() {
        for change in [
            |otlp: &mut Otlp| otlp.sample_ratio = 1.1,
            |otlp: &mut Otlp| otlp.sample_ratio = f64::NAN,
            |otlp: &mut Otlp| otlp.requested_per_second = 100_001,
            |otlp: &mut Otlp| otlp.spans_per_second = 0,
            |otlp: &mut Otlp| otlp.queue = 0,
            |otlp: &mut Otlp| otlp.batch = 4097,
            |otlp: &mut Otlp| otlp.interval = Duration::ZERO,
            |otlp: &mut Otlp| otlp.timeout = Duration::from_secs(61),
            |otlp: &mut Otlp| otlp.service_name.clear(),
        ] {
            let mut otlp = Otlp::default();
            assert_eq!(otlp.check(), Ok(()));
            change(&mut otlp);
            assert!(otlp.check().is_err(), "{otlp:?}");
        }
    }
}
