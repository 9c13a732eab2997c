//! Checks of field bounds. Errors name the field by its path in the body.

use std::fmt;
use std::time::Duration;

use crate::service::fault::ServiceError;
use crate::service::rules::bounds::{LARGEST_AMOUNT, SYMBOL_CHARS};
pub(super) use crate::service::rules::content::check_name as name;
use crate::store::Time;

/// Checks a symbol: 1 to 32 visible ASCII characters.
pub(super) fn symbol(field: impl fmt::Display, symbol: &str) -> Result<(), ServiceError> {
    let is_valid = (1..=SYMBOL_CHARS).contains(&symbol.len())
        && symbol.bytes().all(|byte| byte.is_ascii_graphic());
    let problem = "must have 1 to 32 characters: ASCII without spaces";
    ensure(is_valid, field, problem)
}

/// Checks a number above zero.
pub(super) fn above_zero(field: impl fmt::Display, number: f64) -> Result<(), ServiceError> {
    let is_valid = number > 0.0 && number <= MOST;
    ensure(is_valid, field, "must be more than 0 and at most 1e15")
}

/// Checks the time of a value that replaces older ones. A time far in the future would never be
/// replaced.
pub(super) fn recent(timestamp: Option<Time>, now: Time) -> Result<(), ServiceError> {
    if timestamp.is_none_or(|time| time <= now.after(MOST_AHEAD)) {
        return Ok(());
    }
    // The result depends on the clock and not on the form, so it is a conflict.
    Err(ServiceError::Unfit {
        field: "timestamp".into(),
        problem: "is more than a minute ahead of the server's clock",
    })
}

/// Checks a percentage. A number between 0 and 1 is refused because it is probably a fraction.
pub(super) fn percent(field: impl fmt::Display, number: f64) -> Result<(), ServiceError> {
    let problem = if number > 0.0 && number < 1.0 {
        "must be from 0 to 100 and not between 0 and 1: it is in percent, so send 80 for 0.8"
    } else {
        "must be from 0 to 100"
    };
    ensure(matches!(number, 0.0 | 1.0..=100.0), field, problem)
}

/// Checks an amount, which may be negative.
pub(super) fn amount(field: impl fmt::Display, number: f64) -> Result<(), ServiceError> {
    ensure(number.abs() <= MOST, field, "must be from -1e15 to 1e15")
}

fn ensure(
    is_valid: bool,
    field: impl fmt::Display,
    problem: &'static str,
) -> Result<(), ServiceError> {
    match is_valid {
        true => Ok(()),
        false => Err(ServiceError::invalid(field.to_string(), problem)),
    }
}

/// How far the clock of a service may be ahead of this server's.
const MOST_AHEAD: Duration = Duration::from_secs(60);
#[expect(clippy::cast_precision_loss, reason = "a double has all its digits")]
const MOST: f64 = LARGEST_AMOUNT as f64;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_symbols_have_bounds() {
        for good in ["A", "BTC/USD", "ES=F", &"x".repeat(32)] {
            assert_eq!(symbol("symbol", good), Ok(()));
        }
        for wrong in ["", "A B", "Ä", "A\n", &"x".repeat(33)] {
            assert!(symbol("symbol", wrong).is_err(), "{wrong:?}");
        }
        for wrong in [0.0, -1.0, 1e16, f64::NAN, f64::INFINITY] {
            assert!(above_zero("quantity", wrong).is_err(), "{wrong}");
        }
        for wrong in [1e16, -1e16, f64::NAN, f64::NEG_INFINITY] {
            assert!(amount("cash", wrong).is_err(), "{wrong}");
        }
        for wrong in [0.8, 0.01, 0.999, -1.0, 100.1, f64::NAN] {
            assert!(percent("confidence", wrong).is_err(), "{wrong}");
        }
        for good in [0.0, -0.0, 1.0, 80.5, 100.0] {
            assert_eq!(percent("confidence", good), Ok(()));
        }
        assert_eq!(above_zero("quantity", 0.1), Ok(()));
        assert_eq!(amount("cash", -5.0), Ok(()));
    }
}
