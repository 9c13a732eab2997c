//! The bounds of fields, each of which is named by its path in the body.

use std::fmt;

use crate::auth::is_name;
use crate::service::fault::ServiceError;

/// 1 to 32 visible ASCII characters.
pub(super) fn symbol(field: impl fmt::Display, symbol: &str) -> Result<(), ServiceError> {
    if (1..=32).contains(&symbol.len()) && symbol.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Ok(());
    }
    let problem = "must have 1 to 32 characters: ASCII without spaces";
    Err(ServiceError::invalid(field.to_string(), problem))
}

/// An id or a name that a service gives.
pub(super) fn name(field: impl fmt::Display, name: &str) -> Result<(), ServiceError> {
    if is_name(name, 128) && !name.is_empty() {
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

/// An amount, which may be below zero.
pub(super) fn amount(field: impl fmt::Display, number: f64) -> Result<(), ServiceError> {
    if number.abs() <= MOST {
        return Ok(());
    }
    let problem = "must be from -1e15 to 1e15";
    Err(ServiceError::invalid(field.to_string(), problem))
}

/// Up to here a double tells whole numbers apart.
const MOST: f64 = 1e15;

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
        assert_eq!(above_zero("quantity", 0.1), Ok(()));
        assert_eq!(amount("cash", -5.0), Ok(()));
    }
}
