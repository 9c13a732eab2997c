//! Text formats of points in time, and a timeout. A leaf module: it must not depend on other
//! modules.
//!
//! Times before 1970 and after the year 9999 are clamped to the nearest time in that range.

mod awake;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub use awake::while_awake;

/// Formats a time as RFC 3339 in UTC with three decimals: `2025-01-31T12:00:00.000Z`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    humantime::format_rfc3339_millis(within(time)).to_string()
}

/// Formats a time as an HTTP date (RFC 9110, 5.6.7): `Fri, 31 Jan 2025 12:00:00 GMT`.
pub(crate) fn http_date(time: SystemTime) -> String {
    httpdate::fmt_http_date(within(time))
}

/// Formats a time as JavaScript does: `Fri Jan 31 2025 12:00:00 GMT+0000 (Coordinated Universal
/// Time)`.
pub(crate) fn javascript_date(time: SystemTime) -> String {
    // The HTTP date has the same parts in a different order.
    let date = http_date(time);
    let mut parts = date.split(' ');
    let mut next = || parts.next().unwrap_or_default();
    let (weekday, day, month, year, clock) = (next(), next(), next(), next(), next());
    let weekday = weekday.trim_end_matches(',');
    format!("{weekday} {month} {day} {year} {clock} GMT+0000 (Coordinated Universal Time)")
}

fn within(time: SystemTime) -> SystemTime {
    time.clamp(UNIX_EPOCH, UNIX_EPOCH + LAST)
}

/// The last second of the year 9999, relative to 1970.
const LAST: Duration = Duration::from_secs(253_402_300_799);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_its_texts_in_utc() {
        let time = UNIX_EPOCH + Duration::from_millis(1_738_324_800_042);
        assert_eq!(rfc3339(time), "2025-01-31T12:00:00.042Z");
        assert_eq!(http_date(time), "Fri, 31 Jan 2025 12:00:00 GMT");
        assert_eq!(
            javascript_date(time),
            "Fri Jan 31 2025 12:00:00 GMT+0000 (Coordinated Universal Time)"
        );
    }

    #[test]
    fn out_of_range_times_are_clamped() {
        let early = UNIX_EPOCH - Duration::from_secs(1);
        assert_eq!(rfc3339(early), "1970-01-01T00:00:00.000Z");
        let late = UNIX_EPOCH + LAST + Duration::from_secs(1);
        assert_eq!(rfc3339(late), "9999-12-31T23:59:59.000Z");
        assert_eq!(http_date(late), "Fri, 31 Dec 9999 23:59:59 GMT");
    }
}
