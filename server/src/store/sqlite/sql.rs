//! The conversion of values between rows and Rust.

use rusqlite::ToSql;
use rusqlite::types::{FromSql, FromSqlError, FromSqlResult, ToSqlOutput, ValueRef};
use uuid::Uuid;

use crate::store::Time;

/// A UUID that is stored as lower-case text.
pub(in crate::store) struct Id(pub(in crate::store) Uuid);

impl ToSql for Id {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.0.to_string().into())
    }
}

impl FromSql for Id {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let id = Uuid::try_parse(value.as_str()?);
        id.map(Self)
            .map_err(|error| FromSqlError::Other(Box::new(error)))
    }
}

impl ToSql for Time {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(self.to_string().into())
    }
}

impl FromSql for Time {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        let time = value.as_str()?.parse();
        time.map_err(|error: jiff::Error| FromSqlError::Other(Box::new(error)))
    }
}

/// Converts a signed integer of SQLite; a `seq` is never negative.
pub(in crate::store) fn unsigned(seq: i64) -> u64 {
    u64::try_from(seq).unwrap_or(0)
}

/// Converts a bound, which may be any number that a client sends. Values past the maximum mean "the
/// end".
pub(in crate::store) fn signed(seq: u64) -> i64 {
    i64::try_from(seq).unwrap_or(i64::MAX)
}

/// Returns `limit + 1`: the extra row shows whether there are more.
pub(in crate::store) fn one_more(limit: usize) -> i64 {
    i64::try_from(limit).unwrap_or(i64::MAX).saturating_add(1)
}
