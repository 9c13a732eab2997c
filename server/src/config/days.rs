//! Serialization of durations that can exceed a month.
//!
//! `humantime` formats 180 days as `5months 27days 19h 12m`, which hides the configured value. This
//! module formats whole days as `180days` instead.

use std::time::Duration;

pub(super) use humantime_serde::deserialize;
use serde::Serializer;

/// Serializes a duration, or an optional one.
pub(super) fn serialize<T, S>(duration: &T, serializer: S) -> Result<S::Ok, S::Error>
where
    T: Copy + Into<Option<Duration>>,
    S: Serializer,
{
    let duration: Option<Duration> = (*duration).into();
    let Some(duration) = duration else {
        return serializer.serialize_none();
    };
    let days = duration.as_secs() / DAY_S;
    if days > MAX_EXACT_DAYS && duration == Duration::from_secs(days * DAY_S) {
        serializer.collect_str(&format_args!("{days}days"))
    } else {
        humantime_serde::serialize(&duration, serializer)
    }
}

const DAY_S: u64 = 86_400;
/// Maximum number of days that `humantime` formats without months.
const MAX_EXACT_DAYS: u64 = 30;

#[cfg(test)]
mod tests {
    use serde::{Deserialize, Serialize};

    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    struct Times {
        #[serde(with = "super")]
        always: Duration,
        #[serde(with = "super", default)]
        sometimes: Option<Duration>,
    }

    #[test]
    fn whole_days_are_printed_as_days_and_read_back() {
        for (seconds, printed) in [
            (0, "0s"),
            (10, "10s"),
            (DAY_S, "1day"),
            (30 * DAY_S, "30days"),
            (180 * DAY_S, "180days"),
            (366 * DAY_S, "366days"),
        ] {
            let always = Duration::from_secs(seconds);
            for sometimes in [None, Some(always)] {
                let times = Times { always, sometimes };
                let text = toml::to_string(&times).unwrap();
                assert!(
                    text.starts_with(&format!("always = \"{printed}\"\n")),
                    "{text}"
                );
                assert_eq!(text.matches(printed).count(), 1 + sometimes.iter().len());
                assert_eq!(toml::from_str::<Times>(&text).unwrap(), times);
            }
        }
    }
}
