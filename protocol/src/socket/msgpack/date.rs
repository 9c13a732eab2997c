//! Converts dates to JSON, so that a handler reads the same value from both parsers.

/// Returns the time as `Date.prototype.toJSON` writes it. `millis` is at most [`MAX_MILLIS`] from
/// 1970.
pub(super) fn to_json(millis: i64) -> String {
    let days = millis.div_euclid(DAY);
    let millis = millis.rem_euclid(DAY);
    let (year, month, day) = civil(days);
    let (hour, minute) = (millis / 3_600_000, millis / 60_000 % 60);
    let (second, milli) = (millis / 1000 % 60, millis % 1000);
    let year = match year {
        0..=9999 => format!("{year:04}"),
        _ => format!("{year:+07}"),
    };
    format!("{year}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{milli:03}Z")
}

/// Returns the Gregorian year, month and day of a day number counted from 1970.
const fn civil(days: i64) -> (i64, i64, i64) {
    // Here a year begins in March, so that a leap day is its last day. An era is 400 years.
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let day_of_era = days.rem_euclid(146_097);
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month + 2) / 5 + 1;
    let (month, next) = if month < 10 {
        (month + 3, 0)
    } else {
        (month - 9, 1)
    };
    (era * 400 + year_of_era + next, month, day)
}

const DAY: i64 = 86_400_000;
/// The maximum distance of a JavaScript date from 1970, in milliseconds (ECMA-262 §21.4.1.1).
pub(super) const MAX_MILLIS: u64 = 8_640_000_000_000_000;

#[cfg(test)]
mod tests {
    use super::to_json;

    #[test]
    fn dates_are_what_javascript_makes_of_them() {
        for (millis, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
            (951_827_696_789, "2000-02-29T12:34:56.789Z"),
            (4_107_542_399_999, "2100-02-28T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (253_402_300_799_999, "9999-12-31T23:59:59.999Z"),
            (253_402_300_800_000, "+010000-01-01T00:00:00.000Z"),
            (-62_167_219_200_000, "0000-01-01T00:00:00.000Z"),
            (-62_167_219_200_001, "-000001-12-31T23:59:59.999Z"),
            (8_640_000_000_000_000, "+275760-09-13T00:00:00.000Z"),
            (-8_640_000_000_000_000, "-271821-04-20T00:00:00.000Z"),
        ] {
            assert_eq!(to_json(millis), text);
        }
    }
}
