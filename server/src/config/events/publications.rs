//! Section `[publications]`: events that services publish in their own PostgreSQL transactions.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Section `[publications]`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Publications {
    /// Whether this server emits events that services publish in the PostgreSQL of the store.
    /// Default `true`.
    pub enabled: bool,
    /// Interval between checks for new publications; ten times longer after five seconds without
    /// any. From 1 ms to 10 s. Default 10 ms.
    #[serde(with = "humantime_serde")]
    pub poll: Duration,
    /// Maximum age of publications that a server with a `node.id` emits after a restart. 0 skips
    /// missed ones, as does a server without a `node.id`. Default 1 min.
    #[serde(with = "humantime_serde")]
    pub catch_up: Duration,
    /// How long such a server waits before it emits them, so that its clients can reconnect.
    /// Default 5 s.
    #[serde(with = "humantime_serde")]
    pub resume_delay: Duration,
    /// How long publications are retained for servers that lag behind. Default 1 h.
    #[serde(with = "humantime_serde")]
    pub retention: Duration,
}

impl Default for Publications {
    fn default() -> Self {
        Self {
            enabled: true,
            poll: Duration::from_millis(10),
            catch_up: Duration::from_secs(60),
            resume_delay: Duration::from_secs(5),
            retention: Duration::from_secs(3600),
        }
    }
}

impl Publications {
    pub(in crate::config) fn check(&self) -> Result<(), &'static str> {
        if !(SHORTEST_POLL..=LONGEST_POLL).contains(&self.poll) {
            return Err("publications.poll must be from 1 ms to 10 s");
        }
        if self.retention < SHORTEST_RETENTION || self.retention > LONGEST_RETENTION {
            return Err("publications.retention must be from 1 s to 30 days");
        }
        if self.catch_up > self.retention {
            return Err("publications.catch_up is longer than publications.retention");
        }
        if self.resume_delay > LONGEST_DELAY {
            return Err("publications.resume_delay is over a minute");
        }
        Ok(())
    }
}

const SHORTEST_POLL: Duration = Duration::from_millis(1);
const LONGEST_POLL: Duration = Duration::from_secs(10);
const SHORTEST_RETENTION: Duration = Duration::from_secs(1);
const LONGEST_RETENTION: Duration = Duration::from_secs(30 * 86_400);
const LONGEST_DELAY: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invalid_publication_values_are_refused_by_name() {
        assert_eq!(Publications::default().check(), Ok(()));
        let refused = |change: fn(&mut Publications)| {
            let mut settings = Publications::default();
            change(&mut settings);
            settings.check().unwrap_err().split(' ').next().unwrap()
        };
        assert_eq!(refused(|it| it.poll = Duration::ZERO), "publications.poll");
        assert_eq!(
            refused(|it| it.retention = Duration::ZERO),
            "publications.retention"
        );
        assert_eq!(
            refused(|it| it.catch_up = it.retention * 2),
            "publications.catch_up"
        );
        assert_eq!(
            refused(|it| it.resume_delay = Duration::from_secs(61)),
            "publications.resume_delay"
        );
    }
}
