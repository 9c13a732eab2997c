//! Points in time as they are stored and sent.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time in whole milliseconds; its text is RFC 3339 UTC, `2025-01-31T12:00:00.000Z`.
///
/// The text always has three decimals and ends in `Z`, so that it sorts like the time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Time(Timestamp);

impl Time {
    /// The current time.
    #[must_use]
    pub fn now() -> Self {
        Timestamp::now().into()
    }

    /// Returns the time `span` earlier, or the earliest time if it would be out of range.
    #[must_use]
    pub fn before(self, span: Duration) -> Self {
        Self(self.0.checked_sub(span).unwrap_or(Timestamp::MIN))
    }

    /// Returns the time `span` later, or the latest time if it would be out of range.
    #[must_use]
    pub fn after(self, span: Duration) -> Self {
        self.0.checked_add(span).unwrap_or(Timestamp::MAX).into()
    }

    /// Returns the time as a `jiff` timestamp.
    #[cfg(feature = "postgres")]
    pub(super) fn timestamp(self) -> Timestamp {
        self.0
    }

    /// Returns the milliseconds since 1970, or 0 before.
    pub(crate) fn milliseconds(self) -> u64 {
        u64::try_from(self.0.as_millisecond()).unwrap_or(0)
    }

    /// Returns an id that is not greater than any version 7 UUID created at this time or later.
    pub(crate) fn first_id(self) -> uuid::Uuid {
        // Version 7 UUIDs begin with the time, so the primary key finds messages by age.
        uuid::Builder::from_unix_timestamp_millis(self.milliseconds(), &[0; 10]).into_uuid()
    }
}

impl From<Timestamp> for Time {
    /// Truncates to whole milliseconds, at most the beginning of the last second.
    fn from(timestamp: Timestamp) -> Self {
        let last = Timestamp::MAX.as_second() * 1000;
        Self(
            Timestamp::from_millisecond(timestamp.as_millisecond().min(last))
                .expect("the milliseconds of a timestamp are a timestamp"),
        )
    }
}

impl From<Time> for Timestamp {
    fn from(time: Time) -> Self {
        time.0
    }
}

impl From<SystemTime> for Time {
    /// Truncates to whole milliseconds. Times out of range become the last second.
    fn from(time: SystemTime) -> Self {
        Timestamp::try_from(time).unwrap_or(Timestamp::MAX).into()
    }
}

impl From<Time> for SystemTime {
    fn from(time: Time) -> Self {
        time.0.into()
    }
}

impl FromStr for Time {
    type Err = jiff::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if has_second_60(text) {
            return Err(jiff::Error::from_args(format_args!(
                "second 60 has no place on a clock without leap seconds: use second 59 or the minute after"
            )));
        }
        text.parse::<Timestamp>().map(Self::from)
    }
}

/// Returns whether a time has second 60, which the parser would convert to second 59.
fn has_second_60(text: &str) -> bool {
    let Some((_, clock)) = text.split_once(['T', 't', ' ']) else {
        return false;
    };
    let clock = clock
        .chars()
        .take_while(|c| c.is_ascii_digit() || *c == ':');
    let digits: String = clock.filter(char::is_ascii_digit).collect();
    digits.len() == "HHMMSS".len() && digits.ends_with("60")
}

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.3}", self.0)
    }
}

impl JsonSchema for Time {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Time".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        let pattern = if generator.contract().is_deserialize() {
            TIME_PATTERN.to_owned()
        } else {
            format!("^{WRITTEN_TIME}$")
        };
        json_schema!({"type": "string", "format": "date-time", "pattern": pattern})
    }
}

impl Serialize for Time {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Time {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let time: Self = text.parse().map_err(de::Error::custom)?;
        // Stored times may be outside the years 1 to 9998, so the server's own format is always
        // accepted.
        if !is_rfc3339(&text) && time.to_string() != text {
            let problem = "not a time as RFC 3339 writes it, of the years 1 to 9998";
            return Err(de::Error::custom(problem));
        }
        Ok(time)
    }
}

/// Returns whether a text is an RFC 3339 time (stricter than ISO 8601) of the years 1 to 9998.
///
/// Every such time can be expressed in UTC, whatever its offset.
pub(crate) fn is_rfc3339(text: &str) -> bool {
    let shape = |text: &str, pattern: &str| {
        text.len() == pattern.len()
            && text
                .bytes()
                .zip(pattern.bytes())
                .all(|(byte, expected)| match expected {
                    b'0' => byte.is_ascii_digit(),
                    expected => byte.eq_ignore_ascii_case(&expected),
                })
    };
    let Some((seconds, rest)) = text.split_at_checked("0000-00-00T00:00:00".len()) else {
        return false;
    };
    let offset = match rest.strip_prefix('.') {
        Some(fraction) => {
            let offset = fraction.trim_start_matches(|c: char| c.is_ascii_digit());
            if offset.len() == fraction.len() {
                return false;
            }
            offset
        }
        None => rest,
    };
    let offset_is_right = shape(offset, "Z")
        || (shape(offset, "+00:00") || shape(offset, "-00:00"))
            && offset.get(1..3).is_some_and(|hours| hours < "24")
            && offset.get(4..6).is_some_and(|minutes| minutes < "60");
    let years = "0001".."9999";
    // Any number of digits may follow the seconds; they do not affect validity.
    shape(seconds, "0000-00-00T00:00:00")
        && seconds.get(..4).is_some_and(|year| years.contains(&year))
        && offset_is_right
        && format!("{seconds}{offset}").parse::<Time>().is_ok()
}

/// A regular expression for a month and a day, except 29 February.
macro_rules! day {
    () => {
        "(?:(?:0[13578]|1[02])-31|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[1-9]|1[0-2])-(?:0[1-9]|1[0-9]|2[0-8]))"
    };
}

/// A regular expression for a date of the years 1 to 9998.
macro_rules! date {
    () => {
        concat!(
            "(?:(?:000[1-9]|00[1-9][0-9]|0[1-9][0-9]{2}|[1-8][0-9]{3}|9[0-8][0-9]{2}|99[0-8][0-9]|999[0-8])-",
            day!(),
            "|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:0[48]|[2468][048]|[13579][26])00)-02-29)"
        )
    };
}

/// A regular expression for accepted times. [`is_rfc3339`] allows more fractional digits.
pub(crate) const TIME_PATTERN: &str = concat!(
    "^",
    date!(),
    "[Tt](?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:[.][0-9]{1,9})?(?:[Zz]|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])$"
);

/// A regular expression for times as the server writes them, without anchors.
pub(crate) const WRITTEN_TIME: &str = concat!(
    date!(),
    "T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9][.][0-9]{3}Z"
);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_is_written_in_utc_with_three_decimals() {
        for (given, expected) in [
            ("2025-01-31T12:00:00Z", "2025-01-31T12:00:00.000Z"),
            ("2025-01-31T12:00:00.1Z", "2025-01-31T12:00:00.100Z"),
            ("2025-01-31T12:00:00.123999Z", "2025-01-31T12:00:00.123Z"),
            ("2025-01-31T12:00:00.5+02:00", "2025-01-31T10:00:00.500Z"),
        ] {
            let time: Time = given.parse().unwrap();
            assert_eq!(time.to_string(), expected);
            assert_eq!(
                serde_json::to_string(&time).unwrap(),
                format!("\"{expected}\"")
            );
        }
    }

    #[test]
    fn a_leap_second_is_refused() {
        for text in [
            "2016-12-31T23:59:60Z",
            "2016-12-31T23:59:60.5Z",
            "2016-12-31t23:59:60z",
            "2016-12-31 23:59:60+00:00",
            "20161231T235960Z",
            "2025-06-15T12:00:60-05:00",
        ] {
            assert!(text.parse::<Time>().is_err(), "{text}");
        }
        for text in ["2016-12-31T23:59:59.999Z", "2025-01-31T12:00:00+00:60"] {
            assert!(!has_second_60(text), "{text}");
        }
        let error = "2016-12-31T23:59:60Z".parse::<Time>().unwrap_err();
        assert!(error.to_string().contains("second 60"), "{error}");
    }

    #[test]
    fn the_ends_of_time_are_times() {
        for end in [Timestamp::MIN, Timestamp::MAX] {
            let time = Time::from(end);
            assert_eq!(time.to_string().parse::<Time>().unwrap(), time);
        }
        assert_eq!(
            Time::from(Timestamp::MAX).to_string(),
            "9999-12-30T22:00:00.000Z"
        );
    }

    #[test]
    fn a_time_survives_its_own_text() {
        let now = Time::now();
        assert_eq!(now.to_string().parse::<Time>().unwrap(), now);
    }
}
