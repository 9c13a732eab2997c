//! The bounds of fields, each of which is named by its path in the body.

use std::fmt;
use std::time::Duration;

use crate::auth::is_name;
use crate::service::fault::ServiceError;
use crate::service::rules::bounds::{LARGEST_AMOUNT, NAME_CHARS, SYMBOL_CHARS};
use crate::store::Time;

/// 1 to 32 visible ASCII characters.
pub(super) fn symbol(field: impl fmt::Display, symbol: &str) -> Result<(), ServiceError> {
    if (1..=SYMBOL_CHARS).contains(&symbol.len())
        && symbol.bytes().all(|byte| byte.is_ascii_graphic())
    {
        return Ok(());
    }
    let problem = "must have 1 to 32 characters: ASCII without spaces";
    Err(ServiceError::invalid(field.to_string(), problem))
}

/// An id or a name that a service gives.
pub(super) fn name(field: impl fmt::Display, name: &str) -> Result<(), ServiceError> {
    if is_name(name, NAME_CHARS) && !name.is_empty() {
        return Ok(());
    }
    let problem = "must have 1 to 128 characters, none of them control or invisible";
    Err(ServiceError::invalid(field.to_string(), problem))
}

/// More than zero.
pub(super) fn above_zero(field: impl fmt::Display, number: f64) -> Result<(), ServiceError> {
    if number > 0.0 && number <= MOST {
        return Ok(());
    }
    let problem = "must be more than 0 and at most 1e15";
    Err(ServiceError::invalid(field.to_string(), problem))
}

/// The time of a value that replaces others: one of the far future would count for ever.
pub(super) fn recent(timestamp: Option<Time>, now: Time) -> Result<(), ServiceError> {
    if timestamp.is_none_or(|time| time <= now.after(MOST_AHEAD)) {
        return Ok(());
    }
    // The clock decides and not the form, so that it is a conflict.
    let problem = "the timestamp is more than a minute ahead of the server's clock";
    Err(ServiceError::Conflict(problem))
}

/// A percentage. What lies between 0 and 1 is taken for a fraction, of which the sender has forgotten the scale.
pub(super) fn percent(field: impl fmt::Display, number: f64) -> Result<(), ServiceError> {
    let problem = match number {
        0.0 | 1.0..=100.0 => return Ok(()),
        number if number > 0.0 && number < 1.0 => {
            "must be from 0 to 100 and not between 0 and 1: it is in percent, so send 80 for 0.8"
        }
        _ => "must be from 0 to 100",
    };
    Err(ServiceError::invalid(field.to_string(), problem))
}

/// An amount, which may be below zero.
pub(super) fn amount(field: impl fmt::Display, number: f64) -> Result<(), ServiceError> {
    if number.abs() <= MOST {
        return Ok(());
    }
    let problem = "must be from -1e15 to 1e15";
    Err(ServiceError::invalid(field.to_string(), problem))
}

/// How far the clock of a service may be ahead.
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
