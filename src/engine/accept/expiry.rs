//! Reads when an X.509 certificate is valid, for metrics and renewals.
//!
//! `rustls` checks certificates but does not expose their validity. Only the few DER elements
//! before it are parsed. An unreadable certificate, which is the server's own, has no metric.

/// Returns the begin and the end of the validity of a certificate in DER, in seconds since 1970.
#[must_use]
pub fn validity(certificate: &[u8]) -> Option<(i64, i64)> {
    let (body, _) = element(certificate, SEQUENCE)?;
    let (body, _) = element(body, SEQUENCE)?;
    // The version is optional. Serial number, signature algorithm and issuer precede the validity.
    let body = element(body, VERSION).map_or(body, |(_, rest)| rest);
    let (_, body) = element(body, INTEGER)?;
    let (_, body) = element(body, SEQUENCE)?;
    let (_, body) = element(body, SEQUENCE)?;
    let (validity, _) = element(body, SEQUENCE)?;
    let (tag, not_before, rest) = split(validity)?;
    let not_before = time(tag, not_before)?;
    let (tag, not_after, _) = split(rest)?;
    Some((not_before, time(tag, not_after)?))
}

/// Returns a time in seconds since 1970.
fn time(tag: u8, text: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(text).ok()?;
    match tag {
        // Years of two digits are from 1950 to 2049 (RFC 5280, 4.1.2.5.1).
        UTC_TIME => {
            let year: i64 = text.get(..2)?.parse().ok()?;
            seconds(year + if year < 50 { 2000 } else { 1900 }, text.get(2..)?)
        }
        GENERALIZED_TIME => seconds(text.get(..4)?.parse().ok()?, text.get(4..)?),
        _ => None,
    }
}

/// Returns the content of an element with this tag, and what follows it.
fn element(der: &[u8], expected: u8) -> Option<(&[u8], &[u8])> {
    let (tag, content, rest) = split(der)?;
    (tag == expected).then_some((content, rest))
}

/// Returns the tag and the content of the first element, and what follows it.
fn split(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&[tag, first], rest) = der.split_first_chunk()?;
    let (length, rest) = if first < 0x80 {
        (usize::from(first), rest)
    } else {
        // The long form: the number of bytes of the length, then the length.
        let count = usize::from(first & 0x7f);
        let (length, rest) = rest.split_at_checked(count)?;
        if count > 4 {
            return None;
        }
        let length = length
            .iter()
            .fold(0, |sum, &byte| (sum << 8) | usize::from(byte));
        (length, rest)
    };
    let (content, rest) = rest.split_at_checked(length)?;
    Some((tag, content, rest))
}

/// Returns the seconds since 1970 of a year and the rest of a time, such as `1231235959Z`.
fn seconds(year: i64, rest: &str) -> Option<i64> {
    let digits = rest.strip_suffix('Z').filter(|text| text.len() == 10)?;
    let number = |from: usize| digits.get(from..from + 2)?.parse::<i64>().ok();
    let (month, day) = (number(0)?, number(2)?);
    let time = number(4)? * 3600 + number(6)? * 60 + number(8)?;
    // The days since 1970 of a date of the Gregorian calendar, in years that begin in March.
    let (year, month) = match month {
        3.. => (year, month - 3),
        _ => (year - 1, month + 9),
    };
    let leap_days = year / 4 - year / 100 + year / 400;
    let days = year * 365 + leap_days + (month * 153 + 2) / 5 + day - 1 - DAYS_TO_1970;
    Some(days * 86_400 + time)
}

const SEQUENCE: u8 = 0x30;
const INTEGER: u8 = 0x02;
/// The explicit tag 0 of the version.
const VERSION: u8 = 0xa0;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// The days from the first of March of the year 0 to 1970.
const DAYS_TO_1970: i64 = 719_468;

#[cfg(test)]
mod tests {
    use super::*;

    /// Issues a certificate that expires at the end of this day.
    fn expiring(year: i32, month: u8, day: u8) -> Option<i64> {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(year, month, day);
        let key = rcgen::KeyPair::generate().unwrap();
        validity(params.self_signed(&key).unwrap().der()).map(|(_, not_after)| not_after)
    }

    #[test]
    fn begin_and_end_are_both_read() {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        params.not_before = rcgen::date_time_ymd(1999, 12, 31);
        params.not_after = rcgen::date_time_ymd(2050, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        let read = validity(params.self_signed(&key).unwrap().der());
        assert_eq!(read, Some((946_598_400, 2_524_608_000)));
    }

    #[test]
    fn the_end_of_a_certificate_is_read_in_both_encodings() {
        for (date, expected) in [
            ((1999, 12, 31), 946_598_400),
            ((2024, 2, 29), 1_709_164_800),
            ((2024, 3, 1), 1_709_251_200),
            ((2049, 12, 31), 2_524_521_600),
            ((2050, 1, 1), 2_524_608_000),
            ((2100, 3, 1), 4_107_542_400),
        ] {
            let (year, month, day) = date;
            assert_eq!(expiring(year, month, day), Some(expected), "{date:?}");
        }
    }

    #[test]
    fn a_damaged_certificate_has_no_end_and_does_no_harm() {
        let issued = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let der = issued.cert.der();
        assert!(validity(der).is_some());
        for length in 0..der.len() {
            assert_eq!(validity(&der[..length]), None, "{length}");
        }
        for (position, value) in (0..der.len()).flat_map(|at| [(at, 0), (at, 0xff), (at, 0x84)]) {
            let mut damaged = der.to_vec();
            damaged[position] = value;
            let _ = validity(&damaged);
        }
    }
}
